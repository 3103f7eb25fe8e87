"""Turns Coverslip's errors into gRPC statuses with typed details, and back."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from coverslip.errors import CoverslipError
from coverslip_serving.errors import RemoteError

DOMAIN = "coverslip"
REQUEST_ID = "x-request-id"
_DETAILS = "grpc-status-details-bin"

_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        "bad-request",
        "binary-pixels",
        "cannot-write",
        "colour-pixels",
        "deep-pixels",
        "float-pixels",
        "lossy-source",
        "not-an-image",
        "not-dicom",
        "profile",
        "recipient",
        "truncated-file",
        "unsupported-pixels",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        "already-carries",
        "burned-in-annotation",
        "cannot-open",
        "changed",
        "header-only",
        "no-body",
        "no-carriers",
        "record-too-large",
        "wrong-key",
    ),
    grpc.StatusCode.NOT_FOUND: ("no-message",),
    grpc.StatusCode.DATA_LOSS: ("damaged-message",),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("busy", "spool-full", "too-large"),
    grpc.StatusCode.PERMISSION_DENIED: ("not-allowed",),
    grpc.StatusCode.UNAVAILABLE: ("engine-unavailable", "model-missing", "not-ready"),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("deadline-passed", "engine-deadline", "idle"),
    grpc.StatusCode.CANCELLED: ("cancelled",),
    grpc.StatusCode.UNIMPLEMENTED: ("decoder-missing",),
    grpc.StatusCode.INTERNAL: (
        "credentials",
        "does-not-come-back",
        "engine",
        "error",
        "key-file",
        "no-server",
        "output-exists",
        "remote",
        "unknown-profile",
        "unreadable-file",
    ),
}
STATUS_OF: dict[str, grpc.StatusCode] = {
    code: status for status, codes in _BY_CODE.items() for code in codes
}
"""gRPC status by Coverslip's code."""


def status_of(error: CoverslipError) -> grpc.StatusCode:
    """The gRPC status of an error; INTERNAL for a code that is not listed."""
    return STATUS_OF.get(error.code, grpc.StatusCode.INTERNAL)


def reason_of(code: str) -> str:
    """ErrorInfo's reason in google.rpc's form: ``RECORD_TOO_LARGE`` for ``record-too-large``."""
    return code.upper().replace("-", "_")


def details_of(error: CoverslipError, request_id: str) -> bytes:
    """The serialised google.rpc.Status of an error, with ErrorInfo and RequestInfo."""
    info = error_details_pb2.ErrorInfo(
        reason=reason_of(error.code), domain=DOMAIN, metadata={"code": error.code}
    )
    for name in ("needed", "available"):
        value = getattr(error, name, None)
        if value is not None:
            info.metadata[name] = str(value)
    packed = []
    for detail in (info, error_details_pb2.RequestInfo(request_id=request_id)):
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=status_of(error).value[0], message=str(error), details=packed)
    return bytes(status.SerializeToString())


def trailing(request_id: str, error: CoverslipError | None = None) -> list[tuple[str, str | bytes]]:
    """Trailing metadata of a call, with details of its error if there is one."""
    metadata: list[tuple[str, str | bytes]] = [(REQUEST_ID, request_id)]
    if error is not None:
        metadata.append((_DETAILS, details_of(error, request_id)))
    return metadata


def remote_error(error: grpc.RpcError) -> RemoteError:
    """A `grpc.RpcError` as an error of ours, with its typed details."""
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    code, request_id = "", ""
    for name, value in metadata:
        if name == REQUEST_ID:
            request_id = str(value)
        elif name == _DETAILS:
            for packed in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if packed.Is(info.DESCRIPTOR) and packed.Unpack(info) and info.domain == DOMAIN:
                    code = info.metadata["code"]
    message = str(error.details() or "")
    if not code and error.code() is grpc.StatusCode.UNAVAILABLE:
        message = (
            f"the server cannot be reached, or the connection broke ({message}): check its "
            "address and that it runs"
        )
    return RemoteError(message, error.code().name, code, request_id)
