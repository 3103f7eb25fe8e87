"""Coverslip seals a patient's identity and hides it in the air around the body of an image.

    >>> import coverslip
    >>> coverslip.embed("cover.dcm", to="cs1...").write("stego.dcm")
    >>> coverslip.extract("stego.dcm", identity="archive.key").record["PatientName"]
    >>> coverslip.restore("stego.dcm", identity="archive.key").write("original.dcm")

Importing this package loads nothing heavy: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coverslip.api import (
        Embedded,
        Extracted,
        ExtractReport,
        RecordView,
        Restored,
        RestoreReport,
        embed,
        extract,
        inspect,
        restore,
    )
    from coverslip.crypto.keys import Identity, Recipient
    from coverslip.eligibility import Kind
    from coverslip.engine import Engine, open_engine
    from coverslip.errors import (
        AlreadyCarriesError,
        BurnedInAnnotationError,
        ChangedError,
        CoverslipError,
        DamagedMessageError,
        EngineError,
        HeaderOnlyError,
        KeyFileError,
        NoMessageError,
        NotDicomError,
        OutputExistsError,
        ProfileError,
        RecipientError,
        TruncatedFileError,
        UnreadableFileError,
        WrongKeyError,
    )
    from coverslip.pipeline import (
        Binding,
        Carried,
        Change,
        EmbedReport,
        Missing,
        RestoredAs,
        Survey,
    )

__version__ = "0.1.0"

_HOMES = {
    "coverslip.api": (
        "Embedded",
        "ExtractReport",
        "Extracted",
        "RecordView",
        "RestoreReport",
        "Restored",
        "embed",
        "extract",
        "inspect",
        "restore",
    ),
    "coverslip.crypto.keys": ("Identity", "Recipient"),
    "coverslip.eligibility": ("Kind",),
    "coverslip.engine": ("Engine", "open_engine"),
    "coverslip.errors": (
        "AlreadyCarriesError",
        "BurnedInAnnotationError",
        "ChangedError",
        "CoverslipError",
        "DamagedMessageError",
        "EngineError",
        "HeaderOnlyError",
        "KeyFileError",
        "NoMessageError",
        "NotDicomError",
        "OutputExistsError",
        "ProfileError",
        "RecipientError",
        "TruncatedFileError",
        "UnreadableFileError",
        "WrongKeyError",
    ),
    "coverslip.pipeline": (
        "Binding",
        "Carried",
        "Change",
        "EmbedReport",
        "Missing",
        "RestoredAs",
        "Survey",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadyCarriesError",
    "Binding",
    "BurnedInAnnotationError",
    "Carried",
    "Change",
    "ChangedError",
    "CoverslipError",
    "DamagedMessageError",
    "EmbedReport",
    "Embedded",
    "Engine",
    "EngineError",
    "ExtractReport",
    "Extracted",
    "HeaderOnlyError",
    "Identity",
    "KeyFileError",
    "Kind",
    "Missing",
    "NoMessageError",
    "NotDicomError",
    "OutputExistsError",
    "ProfileError",
    "Recipient",
    "RecipientError",
    "RecordView",
    "RestoreReport",
    "Restored",
    "RestoredAs",
    "Survey",
    "TruncatedFileError",
    "UnreadableFileError",
    "WrongKeyError",
    "embed",
    "extract",
    "inspect",
    "open_engine",
    "restore",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'coverslip' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
