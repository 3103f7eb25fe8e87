"""Instances that arrive in a stream, chunk by chunk, and leave in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

from coverslip.errors import CoverslipError
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import BadRequestError, TooLargeError
from coverslip_serving.sizes import MIB
from coverslip_serving.spool import Spool, spooling

_CHUNK = MIB
_LONGEST_LABEL = 256
_Request = TypeVar("_Request", pb.EmbedSeriesRequest, pb.ExtractSeriesRequest)


class Upload:
    """One instance of a stream, in a file.

    An error that concerns this instance alone is kept until `checked_path`, so that the stream goes
    on.

    Parameters
    ----------
    label : str
        The caller's.
    path : Path
        Where the instance is written.
    largest : int
        Bytes that it may have.
    """

    def __init__(self, label: str, path: Path, largest: int) -> None:
        self.label = label
        self.path = path
        self.size = 0
        """Bytes that arrived, whether they were kept or not."""
        self._largest = largest
        self._digest = hashlib.sha256()
        self._error: CoverslipError | None = None

    def receive(self, requests: Iterator[_Request]) -> None:
        """Take chunks up to the instance's end.

        Raises
        ------
        BadRequestError
            The stream goes on or ends before the instance does.
        """
        with self.path.open("wb") as file:
            for request in requests:
                part = request.WhichOneof("part")
                if part == "end":
                    self._keep_error(file.flush)
                    self._check_whole(request.end.sha256)
                    return
                if part != "chunk":
                    break
                self._take(request.chunk, file.write)
        raise BadRequestError(
            "the instance has no 'end': send chunks and end before the next start or the end of "
            "the stream"
        )

    def _take(self, chunk: bytes, write: Callable[[bytes], int]) -> None:
        """Write a chunk, unless the instance failed or became too large before."""
        self.size += len(chunk)
        if self._error is None and self.size <= self._largest:
            self._digest.update(chunk)
            self._keep_error(lambda: write(chunk))

    def _keep_error(self, act: Callable[[], object]) -> None:
        try:
            with spooling():
                act()
        except CoverslipError as error:
            self._error = self._error or error

    def _check_whole(self, sha256: bytes) -> None:
        if self._error is not None:
            return
        if self.size > self._largest:
            self._error = TooLargeError(
                f"the instance has {self.size // MIB} MiB where this server takes "
                f"{self._largest // MIB} MiB: split it, or ask the operator for more"
            )
        elif sha256 and sha256 != self._digest.digest():
            self._error = BadRequestError(
                "the instance's bytes do not have the SHA-256 that was sent with them: send it "
                "again"
            )

    def checked_path(self) -> Path:
        """The file, if the instance arrived whole.

        Raises
        ------
        SpoolFullError, TooLargeError, BadRequestError
        """
        if self._error is not None:
            raise self._error
        return self.path


@overload
def read_options(requests: Iterator[pb.EmbedSeriesRequest]) -> pb.EmbedOptions: ...


@overload
def read_options(requests: Iterator[pb.ExtractSeriesRequest]) -> pb.ExtractOptions: ...


def read_options(requests: Iterator[Any]) -> Any:
    """The options in a stream's first message.

    Raises
    ------
    BadRequestError
        There are none.
    """
    first = next(requests, None)
    if first is None or first.WhichOneof("part") != "options":
        raise BadRequestError(
            "a series begins with 'options': send them first, then start, chunks and end for "
            "each instance"
        )
    return first.options


def read_uploads(requests: Iterator[_Request], spool: Spool, largest: int) -> Iterator[Upload]:
    """Each instance of a stream, in a file that is deleted when the next one is asked for.

    Parameters
    ----------
    requests : iterator
        The stream after its options.
    spool : Spool
    largest : int
        Bytes of one instance.

    Raises
    ------
    BadRequestError
        The messages are out of order.
    """
    for request in requests:
        if request.WhichOneof("part") != "start":
            raise BadRequestError(
                "an instance begins with 'start': send options, then start, chunks and end "
                "for each instance"
            )
        if len(request.start.label) > _LONGEST_LABEL:
            raise BadRequestError(f"a label may have {_LONGEST_LABEL} characters")
        with spool.instance_folder() as folder:
            upload = Upload(request.start.label, folder / "cover.dcm", largest)
            upload.receive(requests)
            yield upload


def read_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes in messages' sizes."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
