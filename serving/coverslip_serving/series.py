"""A series as the client sends and receives it: instances go out and come back in chunks."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import grpc

from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import RemoteError
from coverslip_serving.results import EmbedResult
from coverslip_serving.sizes import MIB

_Item = TypeVar("_Item")
_Message = TypeVar("_Message")
_Result = TypeVar("_Result")


class Replayable(Generic[_Item]):
    """Items of an iterable that can be gone through again, even while another reader has not ended.

    gRPC reads a stream's requests in a thread of its own, which may outlive an attempt that failed.

    Parameters
    ----------
    items : iterable
        Gone through once.
    """

    def __init__(self, items: Iterable[_Item]) -> None:
        self._rest = iter(items)
        self._read: list[_Item] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[_Item]:
        position = 0
        while position < len(self._read) or self._read_beyond(position):
            yield self._read[position]
            position += 1

    def _read_beyond(self, position: int) -> bool:
        """Whether there is an item at a position, after reading it if no other reader has."""
        with self._lock:
            if position == len(self._read):
                self._read.extend(itertools.islice(self._rest, 1))
            return position < len(self._read)


def request_messages(
    message: Callable[..., _Message],
    options: pb.EmbedOptions | pb.ExtractOptions,
    instances: Iterable[tuple[str, Path]],
) -> Iterator[_Message]:
    """A series as messages, read from disk as they are sent.

    Parameters
    ----------
    message : type
        `EmbedSeriesRequest` or `ExtractSeriesRequest`.
    options : EmbedOptions or ExtractOptions
    instances : iterable of (label, Path)
    """
    yield message(options=options)
    for label, path in instances:
        yield message(start=pb.InstanceStart(label=label))
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(MIB):
                digest.update(chunk)
                yield message(chunk=chunk)
        yield message(end=pb.InstanceEnd(sha256=digest.digest()))


def embed_results(
    answers: Iterable[pb.EmbedSeriesResponse], file: BinaryIO | None
) -> Iterator[EmbedResult | RemoteError]:
    """The stego instances that answers hold.

    Parameters
    ----------
    answers : iterable of EmbedSeriesResponse
    file : BinaryIO or None
        Takes the instances' bytes as they come; the results hold them where None.
    """
    label, content = "", bytearray()
    for answer in answers:
        part = answer.WhichOneof("part")
        if part == "start":
            label, content = answer.start.label, bytearray()
        elif part == "chunk" and file is not None:
            file.write(answer.chunk)
        elif part == "chunk":
            content += answer.chunk
        elif part == "report":
            yield EmbedResult(label, bytes(content), answer.report)
            content = bytearray()
        else:
            yield failure_of(answer.failure)


def failure_of(failure: pb.Failure) -> RemoteError:
    """The error that one instance of a series met."""
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    return RemoteError(
        failure.message, names.get(failure.status, "UNKNOWN"), failure.code, label=failure.label
    )


def only_result(results: Iterator[_Result | RemoteError]) -> _Result:
    """The result of a series of one instance.

    The stream is read to its end, so that the gateway sees the call succeed.

    Raises
    ------
    RemoteError
        The instance failed.
    """
    (result,) = results
    if isinstance(result, RemoteError):
        raise result
    return result
