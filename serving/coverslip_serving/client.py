"""A gateway's client: the key stays here, and so does the identity if the caller likes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity, Recipient
from coverslip.crypto.seal import seal
from coverslip.deidentification import header
from coverslip.dicom.instance import read_instance
from coverslip.files import check_target
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceStub
from coverslip_serving.errors import RemoteError
from coverslip_serving.limits import MIB
from coverslip_serving.status import REQUEST_ID, remote_error

_PROFILES = {
    "": pb.PROFILE_UNSPECIFIED,
    "faint": pb.PROFILE_FAINT,
    "default": pb.PROFILE_DEFAULT,
    "robust": pb.PROFILE_ROBUST,
}


@dataclass(frozen=True)
class Embedded:
    """A stego instance from a gateway.

    Attributes
    ----------
    label : str
        The caller's, in a series.
    instance : bytes
        The DICOM file; empty where it went into a file.
    report : coverslip.v1.EmbedReport
    """

    label: str
    instance: bytes
    report: Any

    def figures(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        told = {
            field.name: getattr(self.report, field.name) for field in self.report.DESCRIPTOR.fields
        }
        told["psnr"] = {
            field.name: getattr(self.report.psnr, field.name)
            for field in self.report.psnr.DESCRIPTOR.fields
        }
        return {
            name: list(value) if name in ("dropped", "notes") else value
            for name, value in told.items()
        }


@dataclass(frozen=True)
class Extracted:
    """A record from a gateway, opened here.

    Attributes
    ----------
    label : str
        The caller's, in a series.
    record : Record
    sealed : bytes
        The frame as it came.
    frame : int
        Frame it was read from, from 0.
    profile : str
    agreement : float
        As in `coverslip.v1.ExtractResponse`.
    """

    label: str
    record: records.Record
    sealed: bytes
    frame: int
    profile: str
    agreement: float


@dataclass(frozen=True)
class Opened:
    """A record that the gateway opened.

    Attributes
    ----------
    attributes : dict
        In the DICOM JSON model (PS3.18, annex F).
    restored : bytes
        The DICOM file with its identity back in the header; empty where it was not asked for.
    """

    attributes: dict[str, Any] = field(repr=False)
    restored: bytes = field(repr=False)


@dataclass(frozen=True)
class Outlines:
    """Outlined bodies from a gateway.

    Attributes
    ----------
    masks : uint8 [F, H, W]
        1 = body.
    scores : float32 [F]
    """

    masks: NDArray[np.uint8]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Credentials:
    """Certificates of a client.

    Attributes
    ----------
    roots : Path
        Who may have signed the gateway's certificate, PEM.
    certificate, key : Path
        The client's own, PEM.
    """

    roots: Path
    certificate: Path
    key: Path


class Client:
    """Calls a gateway; safe to share between threads, and a context manager.

    Parameters
    ----------
    target : str
        ``host:port``.
    credentials : Credentials, optional
        Plain text where absent.
    timeout : float
        Seconds for one call.
    largest : int
        Bytes of the largest answer that is taken.
    """

    def __init__(
        self,
        target: str,
        credentials: Credentials | None = None,
        timeout: float = 60.0,
        largest: int = 1024 * MIB,
    ) -> None:
        options = [
            ("grpc.max_receive_message_length", largest),
            ("grpc.max_send_message_length", -1),
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            own = (credentials.key.read_bytes(), credentials.certificate.read_bytes())
            tls = grpc.ssl_channel_credentials(credentials.roots.read_bytes(), *own)
            self._channel = grpc.secure_channel(target, tls, options)
        self._stub = CoverslipServiceStub(self._channel)
        self._timeout = timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up."""
        self._channel.close()

    def embed(
        self,
        instance: Path | bytes,
        recipient: Recipient,
        profile: str = "",
        *,
        beta: float | None = None,
        use_padding: bool = False,
        allow_burned_in: bool = False,
        seal_here: bool = False,
        sealed: bytes = b"",
        request_id: str = "",
    ) -> Embedded:
        """Embed into one instance.

        Parameters
        ----------
        instance : Path or bytes
            A DICOM file.
        recipient : Recipient
        profile : str
            ``faint``, ``default`` or ``robust``; the gateway's default where empty.
        beta, use_padding, allow_burned_in
            As in `coverslip.pipeline.EmbedOptions`.
        seal_here : bool
            De-identify and seal in this process: the gateway sees no identity. Needs a Path.
        sealed : bytes
            The record, where it was sealed before (`seal_instance`): the instance is de-identified
            already.
        request_id : str
            By which the gateway's log knows the call.

        Raises
        ------
        RemoteError
            The gateway refused or failed; ``code`` and ``status`` say why.
        """
        options = _embed_options(recipient, profile, beta, use_padding, allow_burned_in)
        options.sealed = sealed
        content = _content(instance)
        if seal_here:
            content, options.sealed = seal_instance(instance, recipient, allow_burned_in)
        with _told():
            answer = self._stub.Embed(
                pb.EmbedRequest(instance=content, options=options),
                timeout=self._timeout,
                metadata=_metadata(request_id),
            )
        return Embedded("", answer.instance, answer.report)

    def extract(
        self,
        instance: Path | bytes,
        identity: Identity,
        profile: str = "",
        *,
        without_model: bool = False,
        cropped: bool = False,
        request_id: str = "",
    ) -> Extracted:
        """Read one instance's record. The gateway is told the recipient and sends the sealed
        record, which is opened here.

        Raises
        ------
        RemoteError
            The gateway refused or failed.
        DamagedMessageError
            What it sent does not open.
        """
        options = _extract_options(identity, profile, without_model, cropped)
        request = pb.ExtractRequest(instance=_content(instance), options=options)
        with _told():
            answer = self._stub.Extract(
                request, timeout=self._timeout, metadata=_metadata(request_id)
            )
        return _opened("", answer, identity)

    def extract_opened(
        self,
        instance: Path | bytes,
        recipient: Recipient,
        profile: str = "",
        *,
        restore: bool = False,
        request_id: str = "",
    ) -> Opened:
        """Let the gateway open a record, where its operator gave it the key and the allow-list
        gives this certificate the right.

        Parameters
        ----------
        instance : Path or bytes
            A DICOM file.
        recipient : Recipient
            Who it was sealed to.
        profile, request_id : str
            As for `extract`.
        restore : bool
            Give the instance back with its identity in the header.

        Raises
        ------
        RemoteError
            The gateway refused or failed; ``cannot-open`` where it holds no such key.
        """
        options = pb.ExtractOptions(
            recipient=str(recipient), profile=_PROFILES[profile], open=True, restore=restore
        )
        request = pb.ExtractRequest(instance=_content(instance), options=options)
        with _told():
            answer = self._stub.Extract(
                request, timeout=self._timeout, metadata=_metadata(request_id)
            )
        return Opened(json.loads(answer.record), answer.restored)

    def segment(self, instance: Path | bytes) -> Outlines:
        """Outline the body in every frame.

        Raises
        ------
        RemoteError
        """
        with _told():
            answer = self._stub.Segment(
                pb.SegmentRequest(instance=_content(instance)), timeout=self._timeout
            )
        shape = (answer.rows, answer.columns)
        count = shape[0] * shape[1]
        masks = [
            np.unpackbits(np.frombuffer(o.mask, dtype=np.uint8), count=count).reshape(shape)
            for o in answer.outlines
        ]
        return Outlines(
            np.stack(masks), np.array([o.score for o in answer.outlines], dtype=np.float32)
        )

    def inspect(self, instance: Path | bytes, use_padding: bool = False) -> Any:
        """What fits into an instance: `coverslip.v1.InspectResponse`.

        Raises
        ------
        RemoteError
        """
        request = pb.InspectRequest(instance=_content(instance), use_padding=use_padding)
        with _told():
            return self._stub.Inspect(request, timeout=self._timeout)

    def embed_series(
        self,
        instances: Iterable[tuple[str, Path]],
        recipient: Recipient,
        profile: str = "",
        *,
        beta: float | None = None,
        use_padding: bool = False,
        allow_burned_in: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Embedded | RemoteError]:
        """Embed into one file after the other, of any size.

        Parameters
        ----------
        instances : iterable of (label, Path)
            The label comes back with the answer.
        recipient, profile, beta, use_padding, allow_burned_in
            As for `embed`.
        timeout : float, optional
            Seconds for all of it; none where absent.

        Returns
        -------
        iterator of Embedded or RemoteError
            In the order of the instances; an instance that failed does not end the series.

        Raises
        ------
        RemoteError
            The series as a whole was refused or ended.
        """
        options = _embed_options(recipient, profile, beta, use_padding, allow_burned_in)
        return self._embedded(options, instances, timeout)

    def _embedded(
        self,
        options: Any,
        instances: Iterable[tuple[str, Path]],
        timeout: float | None,
        file: BinaryIO | None = None,
    ) -> Iterator[Embedded | RemoteError]:
        """The answers of a series; instances go into ``file`` as they come, where there is one."""
        answers = self._stub.EmbedSeries(
            _parts(pb.EmbedSeriesRequest, options, instances), timeout=timeout
        )
        label, content = "", bytearray()
        with _told():
            for answer in answers:
                part = answer.WhichOneof("part")
                if part == "start":
                    label, content = answer.start.label, bytearray()
                elif part == "chunk" and file is not None:
                    file.write(answer.chunk)
                elif part == "chunk":
                    content += answer.chunk
                elif part == "report":
                    yield Embedded(label, bytes(content), answer.report)
                    content = bytearray()
                else:
                    yield _failure(answer.failure)

    def extract_series(
        self,
        instances: Iterable[tuple[str, Path]],
        identity: Identity,
        profile: str = "",
        *,
        without_model: bool = False,
        cropped: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Extracted | RemoteError]:
        """Read one file's record after the other's; parameters and answers as for `extract` and
        `embed_series`.
        """
        options = _extract_options(identity, profile, without_model, cropped)
        with _told():
            for answer in self._stub.ExtractSeries(
                _parts(pb.ExtractSeriesRequest, options, instances), timeout=timeout
            ):
                if answer.WhichOneof("outcome") == "record":
                    yield _opened(answer.label, answer.record, identity)
                else:
                    yield _failure(answer.failure)

    def embed_file(
        self, path: Path, recipient: Recipient, profile: str = "", **choices: Any
    ) -> Embedded:
        """Embed into one file of any size; parameters and errors as for `embed_series`, and its
        errors are raised.
        """
        return _only(
            self.embed_series([("", path)], recipient, profile, timeout=self._timeout, **choices)
        )

    def embed_to_file(
        self,
        source: Path,
        target: Path,
        recipient: Recipient,
        profile: str = "",
        *,
        beta: float | None = None,
        use_padding: bool = False,
        allow_burned_in: bool = False,
        overwrite: bool = False,
    ) -> Embedded:
        """Embed into one file of any size without holding it: it is read as it is sent, and written
        as it comes.

        Parameters
        ----------
        source, target : Path
            ``target`` appears at once and whole; nothing appears where the gateway refused or
            failed.
        recipient, profile, beta, use_padding, allow_burned_in
            As for `embed`.
        overwrite : bool
            Replace what is at ``target``; never ``source``.

        Returns
        -------
        Embedded
            Its ``instance`` is empty.

        Raises
        ------
        RemoteError
            The gateway refused or failed.
        OutputExistsError
            Something is at ``target``, or it is ``source``.
        """
        options = _embed_options(recipient, profile, beta, use_padding, allow_burned_in)
        check_target(target, source, overwrite)
        partial = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.part")
        try:
            with partial.open("xb") as file:
                done = _only(self._embedded(options, [("", source)], self._timeout, file))
            check_target(target, source, overwrite)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return done

    def extract_file(
        self, path: Path, identity: Identity, profile: str = "", **choices: Any
    ) -> Extracted:
        """Read the record of one file of any size; parameters and errors as for `extract_series`,
        and its errors are raised.
        """
        return _only(
            self.extract_series([("", path)], identity, profile, timeout=self._timeout, **choices)
        )


_Answer = TypeVar("_Answer")


def _only(answers: Iterator[_Answer | RemoteError]) -> _Answer:
    """The one answer of a series of one; the stream is read to its end, so that it ends as it
    should.
    """
    (answer,) = answers
    if isinstance(answer, RemoteError):
        raise answer
    return answer


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise remote_error(error) from None


def seal_instance(
    instance: Path | bytes, recipient: Recipient, allow_burned_in: bool = False
) -> tuple[bytes, bytes]:
    """A de-identified copy of a DICOM file, and the sealed record of what it lost.

    Raises
    ------
    ValueError
        Not a file.
    """
    if not isinstance(instance, Path):
        raise ValueError("sealing here needs the instance's file, not its bytes: give a Path")
    original = read_instance(instance).dataset
    clean, record, _ = header.deidentify(
        original, pipeline.uid_key(recipient), allow_burned_in=allow_burned_in
    )
    buffer = BytesIO()
    clean.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue(), seal(records.encode(record), recipient.public)


def _content(instance: Path | bytes) -> bytes:
    return instance.read_bytes() if isinstance(instance, Path) else instance


def _metadata(request_id: str) -> list[tuple[str, str]]:
    return [(REQUEST_ID, request_id)] if request_id else []


def _embed_options(
    recipient: Recipient, profile: str, beta: float | None, use_padding: bool, allow_burned_in: bool
) -> Any:
    options = pb.EmbedOptions(
        recipient=str(recipient),
        profile=_PROFILES[profile],
        use_padding=use_padding,
        allow_burned_in=allow_burned_in,
    )
    if beta is not None:
        options.beta = beta
    return options


def _extract_options(identity: Identity, profile: str, without_model: bool, cropped: bool) -> Any:
    recipient = str(identity.recipient)
    return pb.ExtractOptions(
        recipient=recipient,
        profile=_PROFILES[profile],
        without_model=without_model,
        cropped=cropped,
    )


def _opened(label: str, answer: Any, identity: Identity) -> Extracted:
    return Extracted(
        label,
        pipeline.open_frame(answer.sealed, identity),
        answer.sealed,
        answer.frame,
        answer.profile,
        answer.agreement,
    )


def _failure(failure: Any) -> RemoteError:
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    return RemoteError(
        failure.message, names.get(failure.status, "UNKNOWN"), failure.code, label=failure.label
    )


def _parts(kind: Any, options: Any, instances: Iterable[tuple[str, Path]]) -> Iterator[Any]:
    """A series as messages, read from disk as they are sent."""
    yield kind(options=options)
    for label, path in instances:
        yield kind(start=pb.InstanceStart(label=label))
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(MIB):
                digest.update(chunk)
                yield kind(chunk=chunk)
        yield kind(end=pb.InstanceEnd(sha256=digest.digest()))
