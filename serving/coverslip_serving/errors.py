"""What can go wrong between machines, on top of `coverslip.errors`."""

from __future__ import annotations

from coverslip.errors import CoverslipError, EngineError


class EngineUnavailableError(EngineError):
    """The model server cannot be reached, or has no such model."""

    code = "engine-unavailable"


class EngineDeadlineError(EngineError):
    """The model server did not answer in time."""

    code = "engine-deadline"


class BadRequestError(CoverslipError):
    """The call is not of the contract's form."""

    code = "bad-request"


class BusyError(CoverslipError):
    """There is no room for the call now."""

    code = "busy"


class TooLargeError(CoverslipError):
    """The call needs more than this server gives to any."""

    code = "too-large"


class NotAllowedError(CoverslipError):
    """The client's certificate gives no right to the call."""

    code = "not-allowed"


class CannotOpenError(CoverslipError):
    """The server was asked to open a record, and holds no key for it."""

    code = "cannot-open"


class NotReadyError(CoverslipError):
    """The model has not answered yet."""

    code = "not-ready"


class DeadlinePassedError(CoverslipError):
    """The caller's deadline, or the server's own, passed."""

    code = "deadline-passed"


class IdleError(CoverslipError):
    """The caller of a stream sent nothing for too long."""

    code = "idle"


class CancelledError(CoverslipError):
    """The caller went away."""

    code = "cancelled"


class SpoolFullError(CoverslipError):
    """The spool folder has no room."""

    code = "spool-full"


class RemoteError(CoverslipError):
    """A call to a gateway failed.

    Parameters
    ----------
    message : str
        The server's sentence.
    status : str
        Name of the gRPC status, such as ``FAILED_PRECONDITION``.
    code : str
        Coverslip's code where the server gave one.
    request_id : str
        By which the server's log knows the call.
    label : str
        The caller's label of an instance in a series.
    """

    code = "remote"

    def __init__(
        self, message: str, status: str, code: str = "", request_id: str = "", label: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or "remote"
        self.request_id = request_id
        self.label = label
