"""A client's connection to a gateway: resends what the gateway could not take, and types errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceStub
from coverslip_serving.credentials import Credentials
from coverslip_serving.errors import CredentialsError, RemoteError
from coverslip_serving.handshake import find_problem
from coverslip_serving.resending import pauses
from coverslip_serving.status import remote_error

ATTEMPTS = 5
"""At one call, the first included; about a second and a half with the pauses."""
_SHORTEST = 0.001
"""Seconds of the last attempt's timeout: gRPC takes none that are not positive."""
_Answer = TypeVar("_Answer")


class Connection:
    """A channel to one gateway.

    A call is sent again while the gateway answers UNAVAILABLE, up to `ATTEMPTS` times within the
    caller's timeout. A stream is sent again from its start, and only if none of its answers came.

    Parameters
    ----------
    target : str
        ``host:port``.
    credentials : Credentials or None
        Plain text where None.
    largest_answer : int
        Bytes of the largest message that is accepted.

    Raises
    ------
    CredentialsError
        The certificates cannot be used.
    """

    def __init__(self, target: str, credentials: Credentials | None, largest_answer: int) -> None:
        self._target = target
        self._credentials = credentials
        options = [
            ("grpc.max_receive_message_length", largest_answer),
            ("grpc.max_send_message_length", -1),
            # Calls are resent here, where the timeout is. The channel must reconnect as fast.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, credentials.for_channel(), options)
        self.stub = CoverslipServiceStub(self._channel)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def ask(self, send: Callable[[float | None], _Answer], timeout: float | None) -> _Answer:
        """One answer to one request.

        Parameters
        ----------
        send : callable
            Makes the call, with the seconds that it may take.
        timeout : float or None
            Seconds for all attempts; any time where None.

        Raises
        ------
        RemoteError, CredentialsError
        """
        attempts = _Attempts(self._target, self._credentials, timeout)
        while True:
            try:
                return send(attempts.seconds_left())
            except grpc.RpcError as error:
                attempts.pause_after(error)

    def stream(
        self, send: Callable[[float | None], Iterator[_Answer]], timeout: float | None
    ) -> Iterator[_Answer]:
        """The answers to a stream; parameters and errors as for `ask`.

        ``send`` starts the stream over each time it is called.
        """
        attempts = _Attempts(self._target, self._credentials, timeout)
        answered = False
        while True:
            try:
                for answer in send(attempts.seconds_left()):
                    answered = True
                    yield answer
            except grpc.RpcError as error:
                if answered:
                    raise remote_error(error) from None
                attempts.pause_after(error)
            else:
                return


class _Attempts:
    """Counts the attempts at one call, and the time they took."""

    def __init__(self, target: str, credentials: Credentials | None, timeout: float | None) -> None:
        self._target = target
        self._credentials = credentials
        self._until = None if timeout is None else time.monotonic() + timeout
        self._left = ATTEMPTS
        self._pauses = pauses()

    def seconds_left(self) -> float | None:
        """For the next attempt; None where the call may take any time."""
        return None if self._until is None else max(self._until - time.monotonic(), _SHORTEST)

    def pause_after(self, error: grpc.RpcError) -> None:
        """Wait before the next attempt.

        Raises
        ------
        RemoteError, CredentialsError
            There is no next attempt: the error is of another kind, or attempts or time are over.
        """
        failure = remote_error(error)
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise failure from None
        if failure.code == RemoteError.code and self._left == ATTEMPTS:
            # The gateway said nothing, so it may never have been reached.
            problem = find_problem(self._target, self._credentials, self.seconds_left())
            if problem is not None:
                raise CredentialsError(problem) from None
        self._left -= 1
        pause, left = next(self._pauses), self.seconds_left()
        if not self._left or (left is not None and left <= pause):
            raise failure from None
        time.sleep(pause)
