"""How every call begins and ends: rights, capacity, status, details, log line and metrics."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from coverslip.errors import CoverslipError
from coverslip_serving import deadline
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.access import Access, Right, names_of
from coverslip_serving.capacity import Capacity
from coverslip_serving.errors import CancelledError, NotReadyError
from coverslip_serving.log import Log
from coverslip_serving.memory import estimate_memory
from coverslip_serving.metrics import OK, Metrics
from coverslip_serving.spool import spooling
from coverslip_serving.status import REQUEST_ID, status_of, trailing

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Call:
    """One call.

    Attributes
    ----------
    method : str
    request_id : str
    context : grpc.ServicerContext
    started : float
        Seconds on the monotonic clock.
    client : str
        Its name on the allow-list.
    bytes_in, bytes_out, instances : int
        So far.
    """

    method: str
    request_id: str
    context: grpc.ServicerContext
    started: float = field(default_factory=time.monotonic)
    client: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    instances: int = 0

    @classmethod
    def of(cls, method: str, context: grpc.ServicerContext) -> Call:
        """The call of a context, with a new request id unless the caller's has the agreed form."""
        sent = next(
            (value for name, value in context.invocation_metadata() if name == REQUEST_ID), ""
        )
        usable = isinstance(sent, str) and _REQUEST_ID.fullmatch(sent)
        return cls(method, sent if usable else secrets.token_hex(16), context)

    def deadline(self, longest: float) -> deadline.Deadline:
        """The caller's deadline or ``longest`` seconds from now, whichever is first."""
        remaining = self.context.time_remaining()
        seconds = longest if remaining is None else min(remaining, longest)
        return deadline.Deadline(time.monotonic() + seconds, self.context.is_active)


class Calls:
    """Admits calls, and records how they and their instances end.

    Parameters
    ----------
    capacity : Capacity
    access : Access
    metrics : Metrics
    log : Log
    """

    def __init__(self, capacity: Capacity, access: Access, metrics: Metrics, log: Log) -> None:
        self._capacity = capacity
        self._access = access
        self._metrics = metrics
        self._log = log
        self.ready = False
        """Whether the model has answered. Calls are refused until then."""

    @contextmanager
    def admit(
        self, method: str, rights: frozenset[Right], context: grpc.ServicerContext
    ) -> Iterator[Call]:
        """Admit a call, and abort it with status and details if its block raises.

        Parameters
        ----------
        method : str
        rights : frozenset of Right
            The caller needs one of them.
        context : grpc.ServicerContext
        """
        call = Call.of(method, context)
        self._metrics.running.inc()
        failure: CoverslipError | None = None
        try:
            with ExitStack() as held:
                call.client = self._access.check(names_of(context), rights)
                if not self.ready:
                    raise NotReadyError("the model has not answered yet: try again in a moment")
                held.enter_context(self._capacity.call())
                context.set_trailing_metadata(trailing(call.request_id))
                yield call
        except GeneratorExit:
            # The caller of a stream disconnected between two answers.
            failure = CancelledError("the caller cancelled the call")
            raise
        except CoverslipError as error:
            failure = error
        except Exception as error:
            failure = self._failure_of(error, call)
        finally:
            self._metrics.running.dec()
            self._record_end(call, failure)
        if failure is not None:
            context.set_trailing_metadata(trailing(call.request_id, failure))
            context.abort(status_of(failure), str(failure))

    def _failure_of(self, error: Exception, call: Call) -> CoverslipError:
        """What the caller is told of an unexpected error; the log says what it was."""
        if not call.context.is_active():
            # gRPC ends a stream's requests with an error of its own when the caller disconnects.
            return CancelledError("the caller cancelled the call")
        self._log.unexpected(error, call.request_id)
        return CoverslipError(
            f"the server met an unexpected error; its log has it under {call.request_id}"
        )

    def _record_end(self, call: Call, failure: CoverslipError | None) -> None:
        status = grpc.StatusCode.OK if failure is None else status_of(failure)
        seconds = time.monotonic() - call.started
        self._metrics.call(call.method, status.name, seconds)
        if failure is not None:
            self._metrics.refusal(failure.code)
        self._log.write(
            "call",
            "info" if failure is None else "warning",
            method=call.method,
            request_id=call.request_id,
            client=call.client,
            status=status.name,
            code=OK if failure is None else failure.code,
            instances=call.instances,
            bytes_in=call.bytes_in,
            bytes_out=call.bytes_out,
            seconds=round(seconds, 4),
        )

    @contextmanager
    def work_on(self, call: Call, path: Path) -> Iterator[None]:
        """Give work on one instance a turn, memory and a deadline.

        Until its turn, the instance takes up a file and no memory.

        Raises
        ------
        TooLargeError, BusyError, DeadlinePassedError, CancelledError, SpoolFullError
        """
        limit = call.deadline(self._capacity.limits.seconds)
        with spooling():
            needed = estimate_memory(path)
            self._capacity.check_memory(needed)
            with (
                self._capacity.turn(limit),
                self._capacity.memory(needed),
                deadline.working_for(limit),
            ):
                yield

    def instance_succeeded(self, call: Call, received: int, sent: int) -> None:
        """Count an instance of a stream, and its bytes."""
        call.instances += 1
        call.bytes_out += sent
        self._metrics.instance(call.method, OK, received, sent)

    def instance_failed(
        self, call: Call, label: str, received: int, error: CoverslipError
    ) -> pb.Failure:
        """Count an instance of a stream, and describe its failure to the caller.

        Raises
        ------
        CancelledError
            The caller is gone, and with it the whole stream.
        """
        if isinstance(error, CancelledError):
            raise error
        call.instances += 1
        self._metrics.instance(call.method, error.code, received, 0)
        self._metrics.refusal(error.code)
        return pb.Failure(
            label=label, status=status_of(error).value[0], code=error.code, message=str(error)
        )

    @contextmanager
    def only_instance(self, call: Call, received: int) -> Iterator[None]:
        """Count the instance of a call that has one; the block sets the call's ``bytes_out``."""
        call.instances, call.bytes_in = 1, received
        code = OK
        try:
            yield
        except Exception as error:
            code = error.code if isinstance(error, CoverslipError) else CoverslipError.code
            raise
        finally:
            self._metrics.instance(call.method, code, received, call.bytes_out)
