"""The front door: embed, extract, restore and inspect, each on one DICOM object.

Everything here is importable from `coverslip` itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from coverslip import pipeline
from coverslip.crypto.keys import Identity, Recipient
from coverslip.dicom.objects import DicomObject, Source, read_object
from coverslip.dicom.record_views import as_dataset, as_json
from coverslip.eligibility import Kind
from coverslip.engine import Engine, open_engine
from coverslip.errors import ProfileError
from coverslip.pipeline import Binding, Carried, Change, EmbedReport, Missing, RestoredAs, Survey
from coverslip.record import Record
from coverslip.scheme.profiles import PROFILES, Profile


class RecordView(Mapping[str, Any]):
    """A record by keyword: ``record["PatientName"]``; by tag too: ``record[0x00100010]``.

    Values are pydicom's. Attributes without a keyword have their tag, such as ``(0009,1001)``, as
    key.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._dataset = as_dataset(record)

    def __getitem__(self, key: str | int | tuple[int, int]) -> Any:
        tag = tag_for_keyword(key) if isinstance(key, str) else Tag(key)
        if tag is None and isinstance(key, str):
            tag = next((t for t in self._dataset.keys() if str(t) == key), None)  # noqa: SIM118
        if tag is None or tag not in self._dataset:
            raise KeyError(key)
        return self._dataset[tag].value

    def __iter__(self) -> Iterator[str]:
        for element in self._dataset:
            yield element.keyword or str(element.tag)

    def __len__(self) -> int:
        return len(self._dataset)

    def __repr__(self) -> str:
        # An identity never ends up in a log by way of a repr.
        return f"RecordView({len(self)} attributes)"

    def to_json(self) -> dict[str, Any]:
        """The record in the DICOM JSON model (PS3.18 annex F)."""
        return as_json(self._record)

    def to_dataset(self) -> Dataset:
        """The record as a data set of its own."""
        return as_dataset(self._record)


@dataclass(frozen=True)
class Embedded:
    """An object whose identity is sealed, ready to be written.

    Attributes
    ----------
    report : EmbedReport
        What was done, in figures; ``report.carried`` says where the record is.
    """

    report: EmbedReport
    _embedding: pipeline.Embedding = field(repr=False)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the file, at once and whole, after reading back what it holds.

        Raises
        ------
        OutputExistsError
            Something is at ``path``, or it is the source.
        """
        self._embedding.write(Path(path), overwrite)


@dataclass(frozen=True)
class ExtractReport:
    """How a record was found, and whether it belongs to its image.

    Attributes
    ----------
    carried : Carried
    binding : Binding
        VERIFIED, CHANGED, or NOT_BOUND for files of earlier releases.
    changes : tuple of Change
        What shows that the file is not as embedding left it.
    profile : str
        Empty where the header carries the record.
    frame : int
        The image frame it was read from, from 0.
    has_original : bool
        The sealed header part opened, so that `restore` can give the original back.
    """

    carried: Carried
    binding: Binding
    changes: tuple[Change, ...]
    profile: str
    frame: int
    has_original: bool


@dataclass(frozen=True)
class Extracted:
    """A record that was read back.

    Attributes
    ----------
    record : RecordView
    report : ExtractReport
    """

    record: RecordView
    report: ExtractReport


@dataclass(frozen=True)
class RestoreReport:
    """What a restored file is.

    Attributes
    ----------
    restored_as : RestoredAs
    missing : tuple of Missing
        Why it is not the original; empty where it is.
    refused : tuple of str
        Attributes that the seal held and that may not come back.
    binding : Binding
    """

    restored_as: RestoredAs
    missing: tuple[Missing, ...]
    refused: tuple[str, ...]
    binding: Binding


@dataclass(frozen=True)
class Restored:
    """An object with its identity back, ready to be written.

    Attributes
    ----------
    record : RecordView
    report : RestoreReport
    """

    record: RecordView
    report: RestoreReport
    _restoration: pipeline.Restoration = field(repr=False)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the restored file, for its owner's eyes only (mode 0600).

        Raises
        ------
        OutputExistsError
            Something is at ``path``, or it is the source.
        """
        self._restoration.write(Path(path), overwrite)


@lru_cache(maxsize=1)
def _default_engine() -> Engine:
    return open_engine()


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        raise ProfileError(
            f"there is no profile '{name}': expected one of {', '.join(PROFILES)}; choose one of "
            "these"
        )
    return PROFILES[name]


def _recipient(to: Recipient | str) -> Recipient:
    return to if isinstance(to, Recipient) else Recipient.parse(to)


def _identity(identity: Identity | str | Path) -> Identity:
    return identity if isinstance(identity, Identity) else Identity.read(Path(identity))


def embed(
    source: Source,
    *,
    to: Recipient | str,
    profile: str = "default",
    engine: Engine | None = None,
    beta: float | None = None,
    use_padding: bool = False,
    allow_burned_in: bool = False,
    require_pixels: bool = False,
    allow: Collection[Kind] = (),
) -> Embedded:
    """Move an object's identity out of its header, sealed to a recipient.

    Parameters
    ----------
    source : path, bytes, binary file or Dataset
        An original; never changed.
    to : Recipient or str
        Who will be able to read it, or the recipient as ``coverslip keygen`` prints it.
    profile : str
        ``default``, ``faint``, ``robust`` or ``paper``.
    engine : Engine, optional
        From `open_engine`; LiteRT with the released model where absent.
    beta : float, optional
        The paper's knob in place of the profile's step.
    use_padding : bool
        Pixel padding may carry too.
    allow_burned_in : bool
        Accept an image that says, or does not deny, that its pixels show identity.
    require_pixels : bool
        Refuse what only the header can carry.
    allow : collection of Kind
        Kinds of image whose pixels may carry all the same.

    Returns
    -------
    Embedded
        Read back already: what cannot be read is never returned.

    Raises
    ------
    CoverslipError
        Its type says what was wrong: `UnreadableFileError`, `NotDicomError`,
        `TruncatedFileError`, `AlreadyCarriesError`, `BurnedInAnnotationError`,
        `HeaderOnlyError`, `RecipientError`, `ProfileError`, `EngineError`.
    """
    options = pipeline.EmbedOptions(
        _profile(profile),
        beta=beta,
        use_padding=use_padding,
        allow_burned_in=allow_burned_in,
        require_pixels=require_pixels,
        allow=frozenset(allow),
    )
    done = pipeline.embed(read_object(source), _recipient(to), engine or _default_engine(), options)
    return Embedded(done.report, done)


def extract(
    source: Source,
    *,
    identity: Identity | str | Path,
    engine: Engine | None = None,
    profile: str | None = None,
    cropped: bool = False,
) -> Extracted:
    """Read the record that an object carries, and say whether it belongs to it.

    Parameters
    ----------
    source : path, bytes, binary file or Dataset
    identity : Identity or path
        Who it was sealed to, or the file that ``coverslip keygen`` wrote.
    engine : Engine, optional
        Outlines the body, whose blocks then count for less; reading needs none.
    profile : str, optional
        What to read with; every profile is tried where absent.
    cropped : bool
        Rows or columns may have been cut away: search for the place too. Takes seconds.

    Raises
    ------
    CoverslipError
        Its type says what was wrong: `WrongKeyError`, `NoMessageError`, `DamagedMessageError`,
        `KeyFileError`, `UnreadableFileError`, `NotDicomError`, `TruncatedFileError`.
    """
    found = _extract(read_object(source), _identity(identity), engine, profile, cropped)
    return Extracted(RecordView(found.record), _report(found))


def restore(
    source: Source,
    *,
    identity: Identity | str | Path,
    even_if_changed: bool = False,
    engine: Engine | None = None,
    cropped: bool = False,
) -> Restored:
    """Give the original back: its header and, where the header survived, its pixels.

    Parameters
    ----------
    source, identity, engine, cropped
        As for `extract`.
    even_if_changed : bool
        Go on although the record may belong to another image.

    Returns
    -------
    Restored
        ``report.restored_as`` says whether it is the original.

    Raises
    ------
    ChangedError
        The record may belong to another image, and ``even_if_changed`` was not given.
    CoverslipError
        As for `extract`.
    """
    stego, key = read_object(source), _identity(identity)
    found = _extract(stego, key, engine, None, cropped)
    restoration = pipeline.restore(stego, found, key.recipient, even_if_changed=even_if_changed)
    report = RestoreReport(
        restoration.restored_as, restoration.missing, tuple(restoration.refused), found.binding
    )
    return Restored(RecordView(found.record), report, restoration)


def inspect(
    source: Source,
    *,
    engine: Engine | None = None,
    use_padding: bool = False,
    allow: Collection[Kind] = (),
) -> Survey:
    """Say what fits in an object before anything is embedded; writes nothing.

    Parameters
    ----------
    source : path, bytes, binary file or Dataset
    engine, use_padding, allow
        As for `embed`.

    Returns
    -------
    Survey
        ``fits`` says by profile where the record would be carried; ``summary()`` is ready for
        JSON.
    """
    # Nothing is sealed to anybody: a key made for this call and thrown away is the recipient.
    recipient = Identity.generate().recipient
    options = pipeline.EmbedOptions(
        PROFILES["default"], use_padding=use_padding, allow=frozenset(allow)
    )
    return pipeline.survey(read_object(source), recipient, engine or _default_engine(), options)


def _extract(
    stego: DicomObject,
    identity: Identity,
    engine: Engine | None,
    profile: str | None,
    cropped: bool,
) -> pipeline.Extraction:
    wanted = None if profile is None else _profile(profile)
    return pipeline.extract(stego, identity, engine, wanted, cropped=cropped)


def _report(found: pipeline.Extraction) -> ExtractReport:
    return ExtractReport(
        found.carried,
        found.binding,
        found.changes,
        found.profile,
        found.frame,
        found.part is not None,
    )
