"""The calls of `coverslip.v1.CoverslipService`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from coverslip.errors import CoverslipError
from coverslip_serving import jobs
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceServicer
from coverslip_serving.access import EITHER_RIGHT, Access, Right, names_of
from coverslip_serving.calls import Call, Calls
from coverslip_serving.capacity import Limits
from coverslip_serving.errors import BadRequestError
from coverslip_serving.idle_limits import limit_stalling, limit_waiting
from coverslip_serving.jobs import STEGO, Job, parse_recipient
from coverslip_serving.messages import parse_carried, parse_kinds
from coverslip_serving.metrics import Metrics
from coverslip_serving.opening import Opener
from coverslip_serving.spool import Spool, spooling
from coverslip_serving.uploads import Upload, read_chunks, read_options, read_uploads
from coverslip_serving.workers import Workers

_Answer = TypeVar("_Answer", bound=Message)
_Options = TypeVar("_Options", bound=Message)
_Request = TypeVar("_Request", pb.EmbedSeriesRequest, pb.ExtractSeriesRequest)


class Service(CoverslipServiceServicer):
    """Answers the gateway's calls; method names are the contract's.

    Parameters
    ----------
    workers : Workers
    calls : Calls
    limits : Limits
    access : Access
    spool : Spool
    metrics : Metrics
    opener : Opener
    """

    def __init__(
        self,
        workers: Workers,
        calls: Calls,
        limits: Limits,
        access: Access,
        spool: Spool,
        metrics: Metrics,
        opener: Opener,
    ) -> None:
        self._workers = workers
        self._calls = calls
        self._limits = limits
        self._access = access
        self._spool = spool
        self._metrics = metrics
        self._opener = opener

    def Segment(
        self, request: pb.SegmentRequest, context: grpc.ServicerContext
    ) -> pb.SegmentResponse:
        """Outline the body."""

        def work(_: Call, path: Path) -> pb.SegmentResponse:
            return self._run(jobs.SEGMENT, path, pb.SegmentRequest())

        return self._answer("Segment", EITHER_RIGHT, request.instance, context, work)

    def Embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:
        """Embed into one instance."""

        def work(call: Call, path: Path) -> pb.EmbedResponse:
            report = self._run(jobs.EMBED, path, request.options)
            self._metrics.carried(parse_carried(report.carried))
            stego = path.with_name(STEGO).read_bytes()
            call.bytes_out = len(stego)
            return pb.EmbedResponse(instance=stego, report=report)

        return self._answer("Embed", frozenset({Right.EMBED}), request.instance, context, work)

    def Extract(
        self, request: pb.ExtractRequest, context: grpc.ServicerContext
    ) -> pb.ExtractResponse:
        """Read one instance's sealed record."""

        def work(call: Call, path: Path) -> pb.ExtractResponse:
            self._check_opening(request.options, context)
            answer = self._extract(path, request.options)
            call.bytes_out = len(answer.restored or answer.sealed)
            return answer

        return self._answer("Extract", frozenset({Right.EXTRACT}), request.instance, context, work)

    def Inspect(
        self, request: pb.InspectRequest, context: grpc.ServicerContext
    ) -> pb.InspectResponse:
        """Find out what fits into one instance."""

        def work(_: Call, path: Path) -> pb.InspectResponse:
            options = pb.InspectRequest(
                use_padding=request.use_padding,
                allow_burned_in=request.allow_burned_in,
                require_pixels=request.require_pixels,
                allow=request.allow,
            )
            return self._run(jobs.INSPECT, path, options)

        return self._answer("Inspect", EITHER_RIGHT, request.instance, context, work)

    def EmbedSeries(
        self, requests: Iterator[pb.EmbedSeriesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.EmbedSeriesResponse]:
        """Embed into one instance after another."""
        return limit_stalling(self._embed_series(requests, context), context, self._limits.idle)

    def ExtractSeries(
        self, requests: Iterator[pb.ExtractSeriesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ExtractSeriesResponse]:
        """Read the sealed record of one instance after another."""
        return limit_stalling(self._extract_series(requests, context), context, self._limits.idle)

    def _embed_series(
        self, requests: Iterator[pb.EmbedSeriesRequest], context: grpc.ServicerContext
    ) -> Generator[pb.EmbedSeriesResponse, None, None]:
        with self._stream("EmbedSeries", Right.EMBED, requests, context) as (call, arrivals):
            options = read_options(arrivals)
            if options.sealed:
                raise BadRequestError(
                    "options.sealed is for one instance: leave it empty in a series"
                )
            parse_recipient(options.recipient)
            parse_kinds(options.allow)
            for upload in self._uploads(call, arrivals):
                try:
                    with self._calls.work_on(call, upload.path):
                        report = self._run(jobs.EMBED, upload.checked_path(), options)
                    stego = upload.path.with_name(STEGO)
                    size = stego.stat().st_size
                    yield pb.EmbedSeriesResponse(start=pb.InstanceStart(label=upload.label))
                    for chunk in read_chunks(stego):
                        yield pb.EmbedSeriesResponse(chunk=chunk)
                except CoverslipError as error:
                    yield pb.EmbedSeriesResponse(
                        failure=self._calls.instance_failed(call, upload.label, upload.size, error)
                    )
                else:
                    self._calls.instance_succeeded(call, upload.size, size)
                    self._metrics.carried(parse_carried(report.carried))
                    yield pb.EmbedSeriesResponse(report=report)

    def _extract_series(
        self, requests: Iterator[pb.ExtractSeriesRequest], context: grpc.ServicerContext
    ) -> Generator[pb.ExtractSeriesResponse, None, None]:
        with self._stream("ExtractSeries", Right.EXTRACT, requests, context) as (call, arrivals):
            options = read_options(arrivals)
            self._check_opening(options, context)
            if options.restore:
                raise BadRequestError(
                    "options.restore is for one instance: leave it out in a series, and restore "
                    "from the records"
                )
            for upload in self._uploads(call, arrivals):
                try:
                    with self._calls.work_on(call, upload.path):
                        record = self._extract(upload.checked_path(), options)
                except CoverslipError as error:
                    failure = self._calls.instance_failed(call, upload.label, upload.size, error)
                    yield pb.ExtractSeriesResponse(label=upload.label, failure=failure)
                else:
                    self._calls.instance_succeeded(call, upload.size, len(record.sealed))
                    yield pb.ExtractSeriesResponse(label=upload.label, record=record)

    def _run(self, job: Job[_Options, _Answer], path: Path, options: _Options) -> _Answer:
        return self._workers.run(job, path, options, self._metrics.observe_engine)

    def _extract(self, path: Path, options: pb.ExtractOptions) -> pb.ExtractResponse:
        answer = self._run(jobs.EXTRACT, path, options)
        if options.open:
            self._metrics.binding(self._opener.complete(answer, path, options))
        return answer

    def _check_opening(self, options: pb.ExtractOptions, context: grpc.ServicerContext) -> None:
        """Refuse to open a record before any work is done on it.

        Raises
        ------
        NotAllowedError, CannotOpenError, BadRequestError, RecipientError
        """
        recipient = parse_recipient(options.recipient)
        if options.open:
            self._access.check(names_of(context), frozenset({Right.OPEN}))
            self._opener.identity(recipient)
        elif options.restore:
            raise BadRequestError(
                "options.restore needs options.open: set both, or restore where the key is"
            )
        if options.even_if_changed and not options.restore:
            raise BadRequestError(
                "options.even_if_changed needs options.restore: set both, or leave it out"
            )

    def _answer(
        self,
        method: str,
        rights: frozenset[Right],
        instance: bytes,
        context: grpc.ServicerContext,
        work: Callable[[Call, Path], _Answer],
    ) -> _Answer:
        """The answer to a call with one instance."""
        with (
            self._calls.admit(method, rights, context) as call,
            self._calls.only_instance(call, len(instance)),
        ):
            if not instance:
                raise BadRequestError(
                    "the request holds no instance: send the bytes of a DICOM file"
                )
            with self._spool.instance_folder() as folder, spooling():
                path = folder / "cover.dcm"
                path.write_bytes(instance)
                with self._calls.work_on(call, path):
                    return work(call, path)
        raise AssertionError("a call that fails is aborted")

    @contextmanager
    def _stream(
        self,
        method: str,
        right: Right,
        requests: Iterator[_Request],
        context: grpc.ServicerContext,
    ) -> Iterator[tuple[Call, Iterator[_Request]]]:
        """Admit a stream, and end it if its caller sends nothing any more."""
        with (
            self._calls.admit(method, frozenset({right}), context) as call,
            limit_waiting(requests, self._limits.idle) as arrivals,
        ):
            yield call, arrivals

    def _uploads(self, call: Call, requests: Iterator[_Request]) -> Iterator[Upload]:
        for upload in read_uploads(requests, self._spool, self._limits.instance):
            call.bytes_in += upload.size
            yield upload
