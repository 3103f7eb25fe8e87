"""Everything that can go wrong between machines, on top of `coverslip.errors`."""

from __future__ import annotations

from enum import Enum

from coverslip.errors import CoverslipError, EngineError, NoServerError


class EngineUnavailableError(EngineError):
    """The model server cannot be reached, or does not have the model."""

    code = "engine-unavailable"


class EngineDeadlineError(EngineError):
    """The model server did not answer in time."""

    code = "engine-deadline"


class BadRequestError(CoverslipError):
    """The call does not have the form that the contract asks for."""

    code = "bad-request"


class BusyError(CoverslipError):
    """The server has no capacity for the call at present."""

    code = "busy"


class TooLargeError(CoverslipError):
    """The call needs more than this server gives to any call."""

    code = "too-large"


class NotAllowedError(CoverslipError):
    """The client's certificate gives no right to the call."""

    code = "not-allowed"


class CannotOpenError(CoverslipError):
    """The server was asked to open a record for which it holds no key."""

    code = "cannot-open"


class NotReadyError(CoverslipError):
    """The model has not answered yet."""

    code = "not-ready"


class DeadlinePassedError(CoverslipError):
    """The caller's deadline or the server's time limit passed."""

    code = "deadline-passed"


class IdleError(CoverslipError):
    """The caller of a stream sent nothing for too long."""

    code = "idle"


class CancelledError(CoverslipError):
    """The caller cancelled the call or disconnected."""

    code = "cancelled"


class SpoolFullError(CoverslipError):
    """The spool folder is full."""

    code = "spool-full"


class UnknownProfileError(CoverslipError):
    """A client named a profile that servers do not have.

    Parameters
    ----------
    name : str
        The profile that was asked for.
    known : tuple of str
        The profiles to choose from.
    """

    code = "unknown-profile"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"servers have no profile {name!r}: expected one of {', '.join(known)}, or nothing for "
            "the server's default"
        )


class CredentialsProblem(Enum):
    """Why certificates do not lead to a connection."""

    UNREADABLE = "unreadable"
    NOT_PEM = "not-pem"
    SERVER_NOT_TRUSTED = "server-not-trusted"
    CLIENT_NOT_ACCEPTED = "client-not-accepted"
    NO_TLS = "no-tls"
    TLS_EXPECTED = "tls-expected"


_CREDENTIALS_SENTENCES = {
    CredentialsProblem.UNREADABLE: (
        "a certificate or key file cannot be read: expected PEM files that this user may read"
    ),
    CredentialsProblem.NOT_PEM: (
        "the certificates cannot be used: expected PEM files without a password, and a key that "
        "belongs to the certificate"
    ),
    CredentialsProblem.SERVER_NOT_TRUSTED: (
        "the server's certificate is not trusted: check that the roots signed it and that it is "
        "issued for the host name in the address"
    ),
    CredentialsProblem.CLIENT_NOT_ACCEPTED: (
        "the server did not accept this client's certificate: present one that its operator's "
        "roots signed"
    ),
    CredentialsProblem.NO_TLS: (
        "the TLS handshake failed: check that the server speaks TLS on this port"
    ),
    CredentialsProblem.TLS_EXPECTED: (
        "the server speaks TLS and this client has no certificates: give it roots, a certificate "
        "and its key"
    ),
}


class CredentialsError(NoServerError):
    """A client's certificates cannot be used, or the TLS handshake failed.

    Parameters
    ----------
    problem : CredentialsProblem
    reason : str
        The system's name for it, where there is one.
    """

    code = "credentials"

    def __init__(self, problem: CredentialsProblem, reason: str = "") -> None:
        sentence = _CREDENTIALS_SENTENCES[problem]
        super().__init__(f"{sentence} ({reason})" if reason else sentence)
        self.problem = problem


class RemoteError(CoverslipError):
    """A call to a gateway failed.

    Parameters
    ----------
    message : str
        The server's sentence.
    status : str
        Name of the gRPC status, such as ``FAILED_PRECONDITION``.
    code : str
        Coverslip's code, if the server gave one.
    request_id : str
        Identifies the call in the server's log.
    label : str
        The caller's label of an instance in a series.
    """

    code = "remote"

    def __init__(
        self, message: str, status: str, code: str = "", request_id: str = "", label: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or RemoteError.code
        self.request_id = request_id
        self.label = label
