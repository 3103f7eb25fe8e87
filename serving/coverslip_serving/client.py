"""A gateway's client. The private key stays here, and the identity too if the caller seals."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from coverslip import pipeline
from coverslip.crypto.keys import Identity, Recipient
from coverslip.dicom.objects import read_object
from coverslip.eligibility import Kind
from coverslip.files import check_target
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.connection import Connection
from coverslip_serving.credentials import Credentials
from coverslip_serving.errors import RemoteError
from coverslip_serving.messages import parse_binding, parse_carried, parse_extraction, parse_kinds
from coverslip_serving.requests import (
    EmbedChoices,
    content_of,
    extract_options,
    metadata_of,
    open_options,
)
from coverslip_serving.results import EmbedResult, ExtractResult, OpenedRecord, Outlines
from coverslip_serving.sealing import embed_sealed
from coverslip_serving.series import (
    Replayable,
    embed_results,
    failure_of,
    only_result,
    request_messages,
)
from coverslip_serving.sizes import MIB


class Client:
    """Calls a gateway. Threads may share one; it is a context manager.

    Every call raises `RemoteError` if the gateway refuses or fails, `CredentialsError` if the TLS
    handshake does, and `UnknownProfileError` before anything is sent. A gateway that is unavailable
    is asked again within the timeout, up to five times.

    Parameters
    ----------
    target : str
        ``host:port``.
    credentials : Credentials, optional
        Plain text if absent.
    timeout : float
        Seconds for one call, with every attempt at it.
    largest_answer : int
        Bytes of the largest message that is accepted.

    Raises
    ------
    CredentialsError
        The certificates cannot be used.
    """

    def __init__(
        self,
        target: str,
        credentials: Credentials | None = None,
        timeout: float = 60.0,
        largest_answer: int = 1024 * MIB,
    ) -> None:
        self._connection = Connection(target, credentials, largest_answer)
        self._stub = self._connection.stub
        self._timeout = timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def embed(
        self,
        instance: Path | bytes,
        recipient: Recipient,
        profile: str = "",
        *,
        beta: float | None = None,
        use_padding: bool = False,
        allow_burned_in: bool = False,
        require_pixels: bool = False,
        allow: Collection[Kind | str] = (),
        seal_here: bool = False,
        sealed: bytes = b"",
        request_id: str = "",
    ) -> EmbedResult:
        """Embed into one instance.

        Parameters
        ----------
        instance : Path or bytes
            A DICOM file.
        recipient : Recipient
        profile : str
            ``faint``, ``default`` or ``robust``; the gateway's default if empty.
        beta, use_padding, allow_burned_in, require_pixels, allow
            As in `coverslip.pipeline.EmbedOptions`; names of kinds will do for ``allow``.
        seal_here : bool
            De-identify and seal in this process: the gateway sees no identity, and is not called at
            all for what only the header can carry.
        sealed : bytes
            A record sealed earlier (`seal_instance`); the instance must be de-identified already.
        request_id : str
            Identifies the call in the gateway's log.
        """
        choices = EmbedChoices(profile, beta, use_padding, allow_burned_in, require_pixels, allow)
        options = choices.message(recipient)

        def embed(content: bytes, frame: bytes) -> EmbedResult:
            options.sealed = frame
            request = pb.EmbedRequest(instance=content, options=options)
            answer: pb.EmbedResponse = self._connection.ask(
                lambda seconds: self._stub.Embed(
                    request, timeout=seconds, metadata=metadata_of(request_id)
                ),
                self._timeout,
            )
            return EmbedResult("", answer.instance, answer.report)

        if seal_here:
            return embed_sealed(instance, recipient, choices.core_options(), embed)
        return embed(content_of(instance), sealed)

    def embed_file(
        self,
        path: Path,
        recipient: Recipient,
        profile: str = "",
        *,
        beta: float | None = None,
        use_padding: bool = False,
        allow_burned_in: bool = False,
        require_pixels: bool = False,
        allow: Collection[Kind | str] = (),
    ) -> EmbedResult:
        """Embed into one file of any size; parameters as for `embed`."""
        choices = EmbedChoices(profile, beta, use_padding, allow_burned_in, require_pixels, allow)
        options = choices.message(recipient)
        return only_result(self._embed_stream(options, [("", path)], self._timeout))

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
        require_pixels: bool = False,
        allow: Collection[Kind | str] = (),
        overwrite: bool = False,
    ) -> EmbedResult:
        """Embed one file of any size into another without holding either in memory.

        Parameters
        ----------
        source, target : Path
            ``target`` appears once it is complete; not at all if the call fails.
        recipient, profile, beta, use_padding, allow_burned_in, require_pixels, allow
            As for `embed`.
        overwrite : bool
            Replace an existing ``target``; never ``source``.

        Returns
        -------
        EmbedResult
            Its ``instance`` is empty.

        Raises
        ------
        OutputExistsError
            ``target`` exists, or is ``source``.
        """
        choices = EmbedChoices(profile, beta, use_padding, allow_burned_in, require_pixels, allow)
        options = choices.message(recipient)
        check_target(target, source, overwrite)
        partial = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.part")
        try:
            with partial.open("xb") as file:
                result = only_result(
                    self._embed_stream(options, [("", source)], self._timeout, file)
                )
            check_target(target, source, overwrite)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return result

    def embed_series(
        self,
        instances: Iterable[tuple[str, Path]],
        recipient: Recipient,
        profile: str = "",
        *,
        beta: float | None = None,
        use_padding: bool = False,
        allow_burned_in: bool = False,
        require_pixels: bool = False,
        allow: Collection[Kind | str] = (),
        timeout: float | None = None,
    ) -> Iterator[EmbedResult | RemoteError]:
        """Embed into many files of any size, one after the other.

        Parameters
        ----------
        instances : iterable of (label, Path)
            The label comes back with the result.
        recipient, profile, beta, use_padding, allow_burned_in, require_pixels, allow
            As for `embed`.
        timeout : float, optional
            Seconds for the whole series; any time if absent.

        Returns
        -------
        iterator of EmbedResult or RemoteError
            In the order of the instances. An instance that fails does not end the series.
        """
        choices = EmbedChoices(profile, beta, use_padding, allow_burned_in, require_pixels, allow)
        options = choices.message(recipient)
        return self._embed_stream(options, instances, timeout)

    def _embed_stream(
        self,
        options: pb.EmbedOptions,
        instances: Iterable[tuple[str, Path]],
        timeout: float | None,
        file: BinaryIO | None = None,
    ) -> Iterator[EmbedResult | RemoteError]:
        again = Replayable(instances)
        answers: Iterator[pb.EmbedSeriesResponse] = self._connection.stream(
            lambda seconds: self._stub.EmbedSeries(
                request_messages(pb.EmbedSeriesRequest, options, again), timeout=seconds
            ),
            timeout,
        )
        return embed_results(answers, file)

    def extract(
        self,
        instance: Path | bytes,
        identity: Identity,
        profile: str = "",
        *,
        without_model: bool = False,
        cropped: bool = False,
        request_id: str = "",
    ) -> ExtractResult:
        """Read one instance's record.

        The gateway gets the recipient and sends the sealed record, which is opened here and
        compared with the instance that was sent.

        Parameters
        ----------
        instance : Path or bytes
            A DICOM file.
        identity : Identity
        profile : str
            As for `embed`; the header's and then every other if empty.
        without_model : bool
            Read without the network.
        cropped : bool
            Rows or columns may have been cut away; takes seconds for each frame.
        request_id : str
            Identifies the call in the gateway's log.

        Raises
        ------
        DamagedMessageError
            The sealed record does not open.
        """
        options = extract_options(identity.recipient, profile, without_model, cropped)
        answer = self._extract(instance, options, request_id)
        return _open("", instance, answer, identity)

    def extract_opened(
        self,
        instance: Path | bytes,
        recipient: Recipient,
        profile: str = "",
        *,
        restore: bool = False,
        even_if_changed: bool = False,
        request_id: str = "",
    ) -> OpenedRecord:
        """Let the gateway open a record.

        Its operator must have given it the key, and this client's certificate the right to open.

        Parameters
        ----------
        instance : Path or bytes
            A DICOM file.
        recipient : Recipient
            To whom the record was sealed.
        profile, request_id : str
            As for `extract`.
        restore : bool
            Return the original, or the instance with its identity back in the header.
        even_if_changed : bool
            Restore even an instance that is not as embedding left it.

        Raises
        ------
        RemoteError
            ``cannot-open`` if the gateway does not hold the key; ``changed`` if the record may
            belong to another instance, and was to be restored.
        """
        options = open_options(recipient, profile, restore, even_if_changed)
        answer = self._extract(instance, options, request_id)
        return OpenedRecord(
            json.loads(answer.record),
            answer.restored,
            parse_carried(answer.carried),
            parse_binding(answer.binding),
            tuple(answer.changes),
            answer.restored_as,
            tuple(answer.not_original_because),
            tuple(answer.refused),
        )

    def extract_file(
        self,
        path: Path,
        identity: Identity,
        profile: str = "",
        *,
        without_model: bool = False,
        cropped: bool = False,
    ) -> ExtractResult:
        """Read the record of one file of any size; parameters and errors as for `extract`."""
        found = self.extract_sealed_file(
            path, identity.recipient, profile, without_model=without_model, cropped=cropped
        )
        return ExtractResult("", pipeline.open_sealed(read_object(path), found, identity))

    def extract_sealed_file(
        self,
        path: Path,
        recipient: Recipient,
        profile: str = "",
        *,
        without_model: bool = False,
        cropped: bool = False,
    ) -> pipeline.SealedExtraction:
        """Read the sealed record of one file of any size, without the key that opens it.

        Parameters as for `extract`, but for the recipient in place of the identity. The result is
        for `coverslip.pipeline.open_sealed`.
        """
        options = extract_options(recipient, profile, without_model, cropped)
        results = self._extract_stream(options, Replayable([("", path)]), self._timeout)
        _, answer = only_result(results)
        return parse_extraction(answer)

    def extract_series(
        self,
        instances: Iterable[tuple[str, Path]],
        identity: Identity,
        profile: str = "",
        *,
        without_model: bool = False,
        cropped: bool = False,
        timeout: float | None = None,
    ) -> Iterator[ExtractResult | RemoteError]:
        """Read the records of many files.

        Parameters and results are as for `extract` and `embed_series`.
        """
        options = extract_options(identity.recipient, profile, without_model, cropped)
        again = Replayable(instances)
        return _open_each(self._extract_stream(options, again, timeout), again, identity)

    def _extract(
        self, instance: Path | bytes, options: pb.ExtractOptions, request_id: str
    ) -> pb.ExtractResponse:
        request = pb.ExtractRequest(instance=content_of(instance), options=options)
        answer: pb.ExtractResponse = self._connection.ask(
            lambda seconds: self._stub.Extract(
                request, timeout=seconds, metadata=metadata_of(request_id)
            ),
            self._timeout,
        )
        return answer

    def _extract_stream(
        self,
        options: pb.ExtractOptions,
        instances: Replayable[tuple[str, Path]],
        timeout: float | None,
    ) -> Iterator[tuple[str, pb.ExtractResponse] | RemoteError]:
        """Labels and answers, or what went wrong, in the order of the instances."""
        answers: Iterator[pb.ExtractSeriesResponse] = self._connection.stream(
            lambda seconds: self._stub.ExtractSeries(
                request_messages(pb.ExtractSeriesRequest, options, instances), timeout=seconds
            ),
            timeout,
        )
        for answer in answers:
            if answer.WhichOneof("outcome") == "record":
                yield answer.label, answer.record
            else:
                yield failure_of(answer.failure)

    def segment(self, instance: Path | bytes) -> Outlines:
        """Outline the body in every frame."""
        request = pb.SegmentRequest(instance=content_of(instance))
        answer: pb.SegmentResponse = self._connection.ask(
            lambda seconds: self._stub.Segment(request, timeout=seconds), self._timeout
        )
        shape = (answer.rows, answer.columns)
        count = shape[0] * shape[1]
        masks = [
            np.unpackbits(np.frombuffer(outline.mask, np.uint8), count=count).reshape(shape)
            for outline in answer.outlines
        ]
        scores = np.array([outline.score for outline in answer.outlines], dtype=np.float32)
        return Outlines(np.stack(masks), scores)

    def inspect(
        self,
        instance: Path | bytes,
        use_padding: bool = False,
        *,
        allow_burned_in: bool = False,
        require_pixels: bool = False,
        allow: Collection[Kind | str] = (),
    ) -> pb.InspectResponse:
        """Find out what fits into an instance; nothing is written.

        Parameters
        ----------
        instance : Path or bytes
            A DICOM file.
        use_padding, allow_burned_in, require_pixels, allow
            As for `embed`.

        Returns
        -------
        coverslip.v1.InspectResponse
        """
        request = pb.InspectRequest(
            instance=content_of(instance),
            use_padding=use_padding,
            allow_burned_in=allow_burned_in,
            require_pixels=require_pixels,
            allow=sorted(kind.value for kind in parse_kinds(allow)),
        )
        answer: pb.InspectResponse = self._connection.ask(
            lambda seconds: self._stub.Inspect(request, timeout=seconds), self._timeout
        )
        return answer


def _open(
    label: str, instance: Path | bytes, answer: pb.ExtractResponse, identity: Identity
) -> ExtractResult:
    """Open a sealed record, and compare it with the instance that it was read from."""
    found = parse_extraction(answer)
    return ExtractResult(label, pipeline.open_sealed(read_object(instance), found, identity))


def _open_each(
    answers: Iterator[tuple[str, pb.ExtractResponse] | RemoteError],
    instances: Replayable[tuple[str, Path]],
    identity: Identity,
) -> Iterator[ExtractResult | RemoteError]:
    # The answers first: when they end, no further instance is asked for.
    for answer, (_, path) in zip(answers, instances, strict=False):
        if isinstance(answer, RemoteError):
            yield answer
        else:
            yield _open(answer[0], path, answer[1], identity)
