"""The calls of `coverslip.v1.CoverslipService`."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from coverslip import pipeline
from coverslip.dicom.instance import read_instance, write_instance
from coverslip.dicom.record_views import as_json
from coverslip.errors import CoverslipError
from coverslip_serving import deadline
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceServicer
from coverslip_serving.access import EITHER_RIGHT, Access, Right, names_of
from coverslip_serving.arrivals import arriving
from coverslip_serving.errors import BadRequestError, CancelledError, NotReadyError
from coverslip_serving.jobs import STEGO, recipient_of
from coverslip_serving.limits import MIB, Room
from coverslip_serving.log import Log
from coverslip_serving.metrics import Metrics
from coverslip_serving.opening import Opener
from coverslip_serving.spool import Incoming, Spool, memory_for, spooling
from coverslip_serving.status import REQUEST_ID, status_of, trailing
from coverslip_serving.workers import Workers

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CHUNK = MIB
_LONGEST_LABEL = 256
_Answer = TypeVar("_Answer")


@dataclass
class Call:
    """One call under way.

    Attributes
    ----------
    method : str
    request_id : str
    context : grpc.ServicerContext
    started : float
        On the monotonic clock.
    client : str
        Name on the allow-list.
    bytes_in, bytes_out, instances : int
        So far.
    """

    method: str
    request_id: str
    context: Any
    started: float = field(default_factory=time.monotonic)
    client: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    instances: int = 0

    @classmethod
    def of(cls, method: str, context: Any) -> Call:
        """The call of a context; a request id that is none of ours is replaced."""
        sent = next(
            (value for name, value in context.invocation_metadata() if name == REQUEST_ID), ""
        )
        good = isinstance(sent, str) and _REQUEST_ID.fullmatch(sent)
        return cls(method, sent if good else secrets.token_hex(16), context)

    def deadline(self, longest: float) -> deadline.Deadline:
        """The caller's deadline or ``longest`` seconds from now, whichever is first."""
        remaining = self.context.time_remaining()
        seconds = longest if remaining is None else min(remaining, longest)
        return deadline.Deadline(time.monotonic() + seconds, self.context.is_active)


class Service(CoverslipServiceServicer):
    """The gateway's calls.

    Parameters
    ----------
    workers : Workers
    room : Room
    access : Access
    spool : Spool
    metrics : Metrics
    log : Log
    opener : Opener
    """

    def __init__(
        self,
        workers: Workers,
        room: Room,
        access: Access,
        spool: Spool,
        metrics: Metrics,
        log: Log,
        opener: Opener,
    ) -> None:
        self._workers = workers
        self._room = room
        self._access = access
        self._spool = spool
        self._metrics = metrics
        self._log = log
        self._opener = opener
        self.ready = False
        """The model has answered; calls are refused before."""

    # The calls. Names are the contract's.

    def Segment(self, request: pb.SegmentRequest, context: Any) -> pb.SegmentResponse:
        """Outline the body."""
        options = pb.SegmentRequest()
        answer: pb.SegmentResponse = self._unary(
            "Segment",
            EITHER_RIGHT,
            request.instance,
            context,
            lambda path: self._run("segment", path, options),
        )
        return answer

    def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """Embed into one instance."""

        def work(path: Path) -> pb.EmbedResponse:
            report = self._run("embed", path, request.options)
            return pb.EmbedResponse(instance=path.with_name(STEGO).read_bytes(), report=report)

        return self._unary("Embed", frozenset({Right.EMBED}), request.instance, context, work)

    def Extract(self, request: pb.ExtractRequest, context: Any) -> pb.ExtractResponse:
        """Read one instance's sealed record."""

        def work(path: Path) -> pb.ExtractResponse:
            self._check_opening(request.options, context)
            return self._extract(path, request.options)

        return self._unary("Extract", frozenset({Right.EXTRACT}), request.instance, context, work)

    def Inspect(self, request: pb.InspectRequest, context: Any) -> pb.InspectResponse:
        """Say what fits into one instance."""
        options = pb.InspectRequest(use_padding=request.use_padding)
        answer: pb.InspectResponse = self._unary(
            "Inspect",
            EITHER_RIGHT,
            request.instance,
            context,
            lambda path: self._run("inspect", path, options),
        )
        return answer

    def EmbedSeries(
        self, requests: Iterator[pb.EmbedSeriesRequest], context: Any
    ) -> Iterator[pb.EmbedSeriesResponse]:
        """Embed into one instance after the other."""
        return self._taken(self._embed_series(requests, context), context)

    def ExtractSeries(
        self, requests: Iterator[pb.ExtractSeriesRequest], context: Any
    ) -> Iterator[pb.ExtractSeriesResponse]:
        """Read one instance's sealed record after the other's."""
        return self._taken(self._extract_series(requests, context), context)

    def _embed_series(
        self, requests: Iterator[pb.EmbedSeriesRequest], context: Any
    ) -> Generator[pb.EmbedSeriesResponse, None, None]:
        with self._stream("EmbedSeries", Right.EMBED, requests, context) as (call, arrivals):
            options = _options(arrivals)
            if options.sealed:
                raise BadRequestError(
                    "options.sealed is for one instance: leave it empty in a series"
                )
            recipient_of(options.recipient)
            for label, place in self._instances(call, arrivals):
                try:
                    with self._work(call, place.path):
                        report = self._run("embed", place.checked(), options)
                    stego = place.path.with_name(STEGO)
                    size = stego.stat().st_size
                    yield pb.EmbedSeriesResponse(start=pb.InstanceStart(label=label))
                    yield from (pb.EmbedSeriesResponse(chunk=chunk) for chunk in _chunks(stego))
                except CoverslipError as error:
                    yield pb.EmbedSeriesResponse(failure=self._failure(call, label, place, error))
                else:
                    self._done(call, place.incoming.size, size)
                    yield pb.EmbedSeriesResponse(report=report)

    def _extract_series(
        self, requests: Iterator[pb.ExtractSeriesRequest], context: Any
    ) -> Generator[pb.ExtractSeriesResponse, None, None]:
        with self._stream("ExtractSeries", Right.EXTRACT, requests, context) as (call, arrivals):
            options = _options(arrivals)
            self._check_opening(options, context)
            if options.restore:
                raise BadRequestError(
                    "options.restore is for one instance: leave it out in a series, and restore "
                    "from the records"
                )
            for label, place in self._instances(call, arrivals):
                try:
                    with self._work(call, place.path):
                        record = self._extract(place.checked(), options)
                except CoverslipError as error:
                    yield pb.ExtractSeriesResponse(
                        label=label, failure=self._failure(call, label, place, error)
                    )
                else:
                    self._done(call, place.incoming.size, len(record.sealed))
                    yield pb.ExtractSeriesResponse(label=label, record=record)

    # What they do with an instance in a file.

    def _run(self, job: str, path: Path, options: Any) -> Any:
        return self._workers.run(job, path, options, self._metrics.observe_engine)

    def _extract(self, path: Path, options: pb.ExtractOptions) -> pb.ExtractResponse:
        answer: pb.ExtractResponse = self._run("extract", path, options)
        if options.open:
            record = self._opener.open(answer.sealed, recipient_of(options.recipient))
            answer.record = json.dumps(as_json(record))
            if options.restore:
                target = path.with_name("restored.dcm")
                restored = pipeline.restore(read_instance(path), record)
                write_instance(restored, restored.frames, target)
                answer.restored = target.read_bytes()
        return answer

    def _check_opening(self, options: pb.ExtractOptions, context: Any) -> None:
        """Whether a record may be opened here, before any work is done on it."""
        recipient = recipient_of(options.recipient)
        if options.open:
            self._access.check(names_of(context), frozenset({Right.OPEN}))
            self._opener.identity(recipient)
        elif options.restore:
            raise BadRequestError(
                "options.restore needs options.open: set both, or restore where the key is"
            )

    # What is the same for every call.

    def _unary(
        self,
        method: str,
        rights: frozenset[Right],
        instance: bytes,
        context: Any,
        work: Callable[[Path], _Answer],
    ) -> _Answer:
        with self._call(method, rights, context) as call:
            call.bytes_in = len(instance)
            code, answer = "ok", None
            try:
                if not instance:
                    raise BadRequestError(
                        "the request holds no instance: send the bytes of a DICOM file"
                    )
                with self._spool.place() as folder, spooling():
                    path = folder / "cover.dcm"
                    path.write_bytes(instance)
                    with self._work(call, path):
                        answer = work(path)
            except CoverslipError as error:
                code = error.code
                raise
            finally:
                call.instances = 1
                call.bytes_out = len(
                    getattr(answer, "instance", b"")
                    or getattr(answer, "restored", b"")
                    or getattr(answer, "sealed", b"")
                )
                self._metrics.instance(method, code, call.bytes_in, call.bytes_out)
            return answer
        raise AssertionError("a call that fails is aborted")

    def _taken(self, answers: Generator[_Answer, None, None], context: Any) -> Iterator[_Answer]:
        """A stream's answers, for as long as its caller takes them."""
        with closing(answers):
            for answer in answers:
                # gRPC waits for ever for a caller that does not read; one that is cut off reads
                # CANCELLED.
                stalled = threading.Timer(self._room.limits.idle, context.cancel)
                stalled.daemon = True
                stalled.start()
                try:
                    yield answer
                finally:
                    stalled.cancel()

    @contextmanager
    def _stream(
        self, method: str, right: Right, requests: Iterator[Any], context: Any
    ) -> Iterator[tuple[Call, Iterator[Any]]]:
        """Admit a stream, and end it where its caller sends nothing any more."""
        with (
            self._call(method, frozenset({right}), context) as call,
            arriving(requests, self._room.limits.idle) as arrivals,
        ):
            yield call, arrivals

    @contextmanager
    def _call(self, method: str, rights: frozenset[Right], context: Any) -> Iterator[Call]:
        """Admit a call, and end it with the status, details, log line and figures that it should
        have.
        """
        call = Call.of(method, context)
        self._metrics.running.inc()
        code, status = "ok", grpc.StatusCode.OK
        failed: CoverslipError | None = None
        try:
            with ExitStack() as held:
                call.client = self._access.check(names_of(context), rights)
                if not self.ready:
                    raise NotReadyError("the model has not answered yet: try again in a moment")
                held.enter_context(self._room.call())
                context.set_trailing_metadata(trailing(call.request_id))
                yield call
        except GeneratorExit:
            # The caller of a stream went away between two answers.
            code, status = CancelledError.code, grpc.StatusCode.CANCELLED
            raise
        except CoverslipError as error:
            failed, code, status = error, error.code, status_of(error)
        except Exception as error:
            if not context.is_active():
                # gRPC ends a stream's requests with an error of its own when the caller goes away.
                failed = CancelledError("the caller cancelled the call")
            else:
                self._log.unexpected(error, call.request_id)
                failed = CoverslipError(
                    "the server failed in a way that nobody planned for; its log has it under "
                    f"{call.request_id}"
                )
            code, status = failed.code, status_of(failed)
        finally:
            self._metrics.running.dec()
            self._end(call, code, status)
        if failed is not None:
            context.set_trailing_metadata(trailing(call.request_id, failed))
            context.abort(status, str(failed))

    def _end(self, call: Call, code: str, status: Any) -> None:
        seconds = time.monotonic() - call.started
        self._metrics.call(call.method, status.name, seconds)
        if code != "ok":
            self._metrics.refusal(code)
        self._log.write(
            "call",
            "info" if status is grpc.StatusCode.OK else "warning",
            method=call.method,
            request_id=call.request_id,
            client=call.client,
            status=status.name,
            code=code,
            instances=call.instances,
            bytes_in=call.bytes_in,
            bytes_out=call.bytes_out,
            seconds=round(seconds, 4),
        )

    @contextmanager
    def _work(self, call: Call, path: Path) -> Iterator[None]:
        """A turn, memory and a deadline for one instance; while it waits, it needs a file and
        nothing else.
        """
        until = call.deadline(self._room.limits.seconds)
        with spooling():
            self._room.admit(needed := memory_for(path))
            with self._room.turn(until), self._room.memory(needed), deadline.working_for(until):
                yield

    def _instances(self, call: Call, requests: Iterator[Any]) -> Iterator[tuple[str, _Place]]:
        """Each instance of a stream, in a file that is gone when the next one is asked for."""
        for request in requests:
            if request.WhichOneof("part") != "start":
                raise BadRequestError(
                    "an instance begins with 'start': send options, then start, chunks and end "
                    "for each instance"
                )
            if len(request.start.label) > _LONGEST_LABEL:
                raise BadRequestError(f"a label may have {_LONGEST_LABEL} characters")
            with self._spool.place() as folder:
                path = folder / "cover.dcm"
                with path.open("wb") as file:
                    place = _Place(path, Incoming(file, self._room.limits.instance))
                    place.receive(requests)
                call.bytes_in += place.incoming.size
                yield request.start.label, place

    def _done(self, call: Call, received: int, sent: int) -> None:
        call.instances += 1
        call.bytes_out += sent
        self._metrics.instance(call.method, "ok", received, sent)

    def _failure(self, call: Call, label: str, place: _Place, error: CoverslipError) -> pb.Failure:
        if isinstance(error, CancelledError):
            raise error
        call.instances += 1
        self._metrics.instance(call.method, error.code, place.incoming.size, 0)
        self._metrics.refusal(error.code)
        return pb.Failure(
            label=label, status=status_of(error).value[0], code=error.code, message=str(error)
        )


@dataclass
class _Place:
    """An instance of a stream in its file, and what was wrong with its arrival."""

    path: Path
    incoming: Incoming
    wrong: CoverslipError | None = None

    def receive(self, requests: Iterator[Any]) -> None:
        """Take chunks until the end; what is wrong with this instance alone is kept for later, so
        that the stream goes on.
        """
        for request in requests:
            part = request.WhichOneof("part")
            if part == "chunk":
                self._take(request.chunk)
            elif part == "end":
                self._finish(request.end.sha256)
                return
            else:
                break
        raise BadRequestError(
            "the instance has no 'end': send chunks and end before the next start or the end of "
            "the stream"
        )

    def _take(self, chunk: bytes) -> None:
        if self.wrong is None:
            try:
                self.incoming.add(chunk)
            except CoverslipError as error:
                self.wrong = error

    def _finish(self, sha256: bytes) -> None:
        if self.wrong is None:
            try:
                self.incoming.finish(sha256)
            except CoverslipError as error:
                self.wrong = error

    def checked(self) -> Path:
        """The file, if it arrived whole.

        Raises
        ------
        CoverslipError
        """
        if self.wrong is not None:
            raise self.wrong
        return self.path


def _options(requests: Iterator[Any]) -> Any:
    """The first message's options."""
    first = next(iter(requests), None)
    if first is None or first.WhichOneof("part") != "options":
        raise BadRequestError(
            "a series begins with 'options': send them first, then start, chunks and end for "
            "each instance"
        )
    return first.options


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
