"""Everything that Coverslip refuses to do, one type per cause.

Each message says what was wrong, what was expected and what to do. None holds an identity, a key,
or the content of a file; the caller adds the file's name.
"""

from __future__ import annotations


class CoverslipError(Exception):
    """Base of every error that Coverslip raises on purpose.

    Attributes
    ----------
    code : str
        Stable name of the cause, for machine-readable results; never changes once released.
    """

    code = "error"


class WrongKeyError(CoverslipError):
    """The record was sealed to another recipient."""

    code = "wrong-key"


class NoMessageError(CoverslipError):
    """The image carries no record for this identity."""

    code = "no-message"


class DamagedMessageError(CoverslipError):
    """A record is there, but cannot be read any more."""

    code = "damaged-message"


class RecordTooLargeError(CoverslipError):
    """The record needs more room than there is.

    Parameters
    ----------
    needed, available : int
        Sealed bytes.
    """

    code = "record-too-large"

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(
            f"the sealed record needs {needed} bytes where {available} fit: choose a slice with "
            "more background, or let a "
            "series carry the record"
        )
        self.needed = needed
        self.available = available


class NoCarriersError(CoverslipError):
    """The background has too few blocks that may carry."""

    code = "no-carriers"


class NoBodyError(CoverslipError):
    """No body was outlined, so that nothing says what is background."""

    code = "no-body"


class NotAnImageError(CoverslipError):
    """The file is no DICOM, or holds no pixel data."""

    code = "not-an-image"


class NotDicomError(NotAnImageError):
    """The file is no DICOM."""

    code = "not-dicom"


class UnreadableFileError(CoverslipError):
    """The file is missing or may not be read."""

    code = "unreadable-file"


class TruncatedFileError(CoverslipError):
    """The file ends before its pixel data do."""

    code = "truncated-file"


class LossySourceError(CoverslipError):
    """The pixel data are in a lossy transfer syntax."""

    code = "lossy-source"


class UnsupportedPixelsError(CoverslipError):
    """The pixels are of a kind that cannot carry a record."""

    code = "unsupported-pixels"


class BinaryPixelsError(UnsupportedPixelsError):
    """The pixels have one bit."""

    code = "binary-pixels"


class ColourPixelsError(UnsupportedPixelsError):
    """The pixels are in colour: RGB, YBR or a palette."""

    code = "colour-pixels"


class FloatPixelsError(UnsupportedPixelsError):
    """The pixels are floating point numbers."""

    code = "float-pixels"


class DeepPixelsError(UnsupportedPixelsError):
    """The pixels have more than 16 bits."""

    code = "deep-pixels"


class BurnedInAnnotationError(CoverslipError):
    """The header says that the identity is written into the pixels."""

    code = "burned-in-annotation"


class AlreadyCarriesError(CoverslipError):
    """The file carries a Coverslip record already."""

    code = "already-carries"


class HeaderOnlyError(CoverslipError):
    """Only the header can carry the record, and the pixels were asked for."""

    code = "header-only"


class ChangedError(CoverslipError):
    """The file is not as embedding left it, so that its record may belong to another image."""

    code = "changed"


class DoesNotComeBackError(CoverslipError):
    """The closing check failed: what was about to be written does not read back, now or after what
    its profile shall survive.
    """

    code = "does-not-come-back"

    def __init__(self, message: str, *, is_fault: bool = False) -> None:
        super().__init__(message)
        self.is_fault = is_fault


class ProfileError(CoverslipError):
    """There is no profile of that name."""

    code = "profile"


class KeyFileError(CoverslipError):
    """The identity file is missing, open to others, or holds no identity."""

    code = "key-file"


class RecipientError(CoverslipError):
    """The recipient is not one."""

    code = "recipient"


class CannotWriteError(CoverslipError):
    """A data set has no form as a DICOM file."""

    code = "cannot-write"


class OutputExistsError(CoverslipError):
    """Something is where the output should go."""

    code = "output-exists"


class EngineError(CoverslipError):
    """The engine failed, or gave something other than its protocol says."""

    code = "engine"


class ModelMissingError(CoverslipError):
    """The model's file is not there."""

    code = "model-missing"


class DecoderMissingError(CoverslipError):
    """Nothing that is installed reads this."""

    code = "decoder-missing"


class NoServerError(CoverslipError):
    """A client has not what it needs to call a server: packages, certificates, or a way that nobody
    listens to.
    """

    code = "no-server"
