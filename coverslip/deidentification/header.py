"""The identity out of a header and back: de-identification, what it took, the mark of a file that
carries a record.

A record is the difference between the original and the de-identified header after everything was
undone that can be undone without it. So nothing needs to be listed twice, and whatever the profile
does comes back.
"""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from coverslip.deidentification.basic_profile import apply_profile
from coverslip.dicom.raw import is_sequence, leaf, put_level
from coverslip.errors import BurnedInAnnotationError
from coverslip.record import Element, Inside, Level, Record

LIMIT = 1024
"""Bytes above which a single value is not recorded but listed as dropped."""

_GROUP = 0x0099
_CREATOR = "COVERSLIP"
_MARK_VERSION = 1
_METHOD = "Coverslip"
_DERIVATION = "Record of the removed identity embedded in background pixels"
_CODE = ("113100", "DCM", "Basic Application Confidentiality Profile")
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_TRAILING_PADDING = 0xFFFCFFFC
"""Its value means nothing (PS3.10 section 7.2), so that it is not worth the room."""
_ADDED = (
    "PatientIdentityRemoved",
    "DerivationDescription",
    "LongitudinalTemporalInformationModified",
)


@dataclass(frozen=True)
class Dropped:
    """An attribute that was removed and is not in the record: never its value.

    Attributes
    ----------
    path : str
        Tags and item numbers, as in ``(0040,0275)[0].(0009,1001)``.
    size : int
        Bytes.
    private : bool
        A private attribute, which the profile removes whatever its size.
    """

    path: str
    size: int
    private: bool = False

    def __str__(self) -> str:
        return f"{self.path} {self.size} bytes"


@dataclass(frozen=True)
class Mark:
    """What a file that carries a record says about it.

    Attributes
    ----------
    version : int
        Of the mark.
    profile : str
        Profile that it was embedded with.
    step : float
        Grey levels.
    check : bytes
        8 bytes by which a recipient knows that the record is theirs.
    """

    version: int
    profile: str
    step: float
    check: bytes


def mark(ds: Dataset, profile: str, step: float, check: bytes) -> None:
    """Say in a private block that a file carries a record.

    Parameters
    ----------
    ds : Dataset
        Changed in place.
    profile : str
        At most 16 capital letters, digits, spaces and underscores once capitalised (CS).
    step : float
        Grey levels.
    check : bytes
        8 bytes.
    """
    block = ds.private_block(_GROUP, _CREATOR, create=True)
    block.add_new(0x01, "US", _MARK_VERSION)
    block.add_new(0x02, "CS", profile.upper())
    block.add_new(0x03, "FD", step)
    block.add_new(0x04, "OB", check)


def read_mark(ds: Dataset) -> Mark | None:
    """The mark of a file that carries a record; None where there is none that makes sense."""
    if _CREATOR not in ds.private_creators(_GROUP):
        return None
    block = ds.private_block(_GROUP, _CREATOR)
    # An implicit transfer syntax loses a private element's VR: the bytes are read as what they were
    # written.
    values = []
    for offset in (0x01, 0x02, 0x03, 0x04):
        if offset not in block:
            return None
        values.append(leaf(ds, block.get_tag(offset)).value)
    version, profile, step, check = values
    if not (
        isinstance(version, bytes)
        and isinstance(profile, bytes)
        and isinstance(step, bytes)
        and isinstance(check, bytes)
    ):
        return None
    if (len(version), len(step), len(check)) != (2, 8, 8):
        return None
    name = profile.decode("ascii", errors="replace").strip().lower()
    return Mark(int.from_bytes(version, "little"), name, struct.unpack("<d", step)[0], check)


def _code_item() -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = _CODE
    return item


def _version() -> str:
    try:
        return metadata.version("coverslip")
    except metadata.PackageNotFoundError:
        return "0"


def _describe(ds: Dataset) -> None:
    """Say what was done (PS3.15 section E.1.1, PS3.3 sections C.12.1 and C.7.6.1)."""
    ds.PatientIdentityRemoved = "YES"
    ds.LongitudinalTemporalInformationModified = "REMOVED"
    ds.DerivationDescription = _DERIVATION
    ds.DeidentificationMethod = [
        *_several(ds, "DeidentificationMethod"),
        f"{_METHOD} {_version()}; PS3.15 Basic Profile",
    ]
    ds.DeidentificationMethodCodeSequence = Sequence(
        [*_several(ds, "DeidentificationMethodCodeSequence"), _code_item()]
    )
    kinds = _several(ds, "ImageType")
    ds.ImageType = ["DERIVED", *kinds[1:]] if len(kinds) > 1 else ["DERIVED", "PRIMARY"]


def _several(ds: Dataset, keyword: str) -> list[Any]:
    if keyword not in ds or ds[keyword].is_empty:
        return []
    value = ds[keyword].value
    return [value] if isinstance(value, str) else list(value)


def _undo(ds: Dataset) -> None:
    """Take back all that can be taken back without a record; exact for most headers, and the record
    holds the rest.
    """
    for tag in [tag for tag in ds.keys() if tag.group == _GROUP]:  # noqa: SIM118
        del ds[tag]
    for keyword in _ADDED:
        if keyword in ds:
            del ds[keyword]
    _set_or_delete(
        ds,
        "DeidentificationMethod",
        [m for m in _several(ds, "DeidentificationMethod") if not str(m).startswith(_METHOD)],
    )
    _set_or_delete(
        ds,
        "DeidentificationMethodCodeSequence",
        _several(ds, "DeidentificationMethodCodeSequence")[:-1],
    )
    kinds = _several(ds, "ImageType")
    if kinds[:1] == ["DERIVED"]:
        ds.ImageType = ["ORIGINAL", *kinds[1:]]


def _set_or_delete(ds: Dataset, keyword: str, values: list[Any]) -> None:
    if keyword not in ds:
        return
    if not values:
        del ds[keyword]
        return
    ds[keyword].value = (
        Sequence(values) if ds[keyword].VR == "SQ" else values if len(values) > 1 else values[0]
    )


class _Difference:
    """What has to be put back into one data set to get another."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.dropped: list[Dropped] = []

    def level(self, original: Dataset, undone: Dataset, path: str = "") -> Level:
        elements: list[Element] = []
        inside: list[Inside] = []
        for tag in sorted(original.keys()):
            if (tag in _PIXELS and not path) or tag.element == 0:
                continue
            if is_sequence(original, tag):
                self._sequence(original, undone, tag, path, elements, inside)
            else:
                self._leaf(original, undone, tag, path, elements)
        gone = tuple(
            int(tag) for tag in sorted(undone.keys()) if tag not in original and tag.element
        )
        return Level(tuple(elements), gone, tuple(inside))

    def _leaf(
        self, original: Dataset, undone: Dataset, tag: BaseTag, path: str, elements: list[Element]
    ) -> None:
        if tag in undone and original.get_item(tag) is undone.get_item(tag):
            return
        element = leaf(original, tag)
        assert isinstance(element.value, bytes)
        if tag in undone and not is_sequence(undone, tag) and leaf(undone, tag) == element:
            return
        if tag.is_private or tag == _TRAILING_PADDING or len(element.value) > self._limit:
            self.dropped.append(Dropped(f"{path}{tag}", len(element.value), bool(tag.is_private)))
        else:
            elements.append(element)

    def _sequence(
        self,
        original: Dataset,
        undone: Dataset,
        tag: BaseTag,
        path: str,
        elements: list[Element],
        inside: list[Inside],
    ) -> None:
        items = original[tag].value
        if tag.is_private:
            self.dropped.append(
                Dropped(f"{path}{tag}", sum(_size(item) for item in items), private=True)
            )
            return
        if tag in undone and is_sequence(undone, tag) and len(undone[tag].value) == len(items):
            for number, (item, left) in enumerate(zip(items, undone[tag].value, strict=True)):
                level = self.level(item, left, f"{path}{tag}[{number}].")
                if level != Level():
                    inside.append(Inside(int(tag), number, level))
            return
        # Against nothing, everything in an item is a difference.
        known = len(self.dropped)
        levels = tuple(
            self.level(item, Dataset(), f"{path}{tag}[{number}].")
            for number, item in enumerate(items)
        )
        if any(not dropped.private for dropped in self.dropped[known:]):
            # Half a sequence, such as an icon without its pixels, is worse than none.
            self.dropped[known:] = [Dropped(f"{path}{tag}", sum(_size(item) for item in items))]
            return
        elements.append(Element(int(tag), "SQ", levels))


def _size(ds: Dataset) -> int:
    return sum(
        sum(_size(item) for item in ds[tag].value)
        if is_sequence(ds, tag)
        else len(leaf(ds, tag).value)
        for tag in ds.keys()  # noqa: SIM118 - a data set iterates over elements
    )


def _check_burned_in(ds: Dataset) -> None:
    if str(ds.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise BurnedInAnnotationError(
            "the header says that annotation is burned into the pixels (BurnedInAnnotation YES), "
            "where hiding the header's identity "
            "does not reach it; an image without was expected: remove it first, or say that it "
            "holds no identity"
        )


def _drop_empty_overlays(original: Dataset, clean: Dataset) -> None:
    """Take out what is left of overlay groups whose data the profile removed: without data it means
    nothing.
    """
    for tag in list(clean.keys()):
        if (
            0x6000 <= tag.group <= 0x60FF
            and (tag.group, 0x3000) in original
            and (tag.group, 0x3000) not in clean
        ):
            del clean[tag]


def deidentify(
    ds: Dataset, uid_key: bytes, *, allow_burned_in: bool = False, limit: int = LIMIT
) -> tuple[Dataset, Record, list[Dropped]]:
    """Take the identity out of a header (PS3.15 Basic Application Level Confidentiality Profile).

    Parameters
    ----------
    ds : Dataset
        With file meta information; not changed. Values are shared with the copy.
    uid_key : bytes
        Makes new UIDs out of old ones; the same key keeps files together that were.
    allow_burned_in : bool
        Go on although the header says that annotation is burned in.
    limit : int
        Bytes above which a single value is dropped instead of recorded.

    Returns
    -------
    clean : Dataset
        De-identified copy that says so, with new UIDs.
    record : Record
        What `restore` needs.
    dropped : list of Dropped
        What was removed and is not in the record: private attributes and large values.

    Raises
    ------
    BurnedInAnnotationError
    """
    if not allow_burned_in:
        _check_burned_in(ds)
    clean = copy.deepcopy(ds)
    apply_profile(clean, uid_key)
    _drop_empty_overlays(ds, clean)
    if hasattr(clean, "file_meta"):
        apply_profile(clean.file_meta, uid_key)
    if getattr(clean, "preamble", None):
        clean.preamble = b"\0" * 128
    _describe(clean)
    undone = copy.deepcopy(clean)
    _undo(undone)
    difference = _Difference(limit)
    level = difference.level(ds, undone)
    record = Record(_with_character_set(ds, level), _meta_level(ds, undone, difference))
    return clean, record, difference.dropped


def _with_character_set(ds: Dataset, level: Level) -> Level:
    """Add the character set where the text needs it, so that a record can be read without its
    file.
    """
    texts = (
        e.value
        for e in level.leaves()
        if isinstance(e.value, bytes) and e.vr in CUSTOMIZABLE_CHARSET_VR
    )
    # ISO 2022 hides other letters behind escapes, in ASCII.
    plain = all(text.isascii() and b"\x1b" not in text for text in texts)
    if 0x00080005 not in ds or plain or any(e.tag == 0x00080005 for e in level.elements):
        return level
    elements = sorted((*level.elements, leaf(ds, 0x00080005)), key=lambda element: element.tag)
    return Level(tuple(elements), level.gone, level.inside)


def _meta_level(ds: Dataset, undone: Dataset, difference: _Difference) -> Level:
    if not hasattr(ds, "file_meta"):
        return Level()
    _follow_uid(undone, ds)
    return difference.level(ds.file_meta, undone.file_meta)


def _follow_uid(target: Dataset, source: Dataset) -> None:
    """The file meta information repeats the SOP Instance UID; nearly always, so that the record
    need not.
    """
    if "MediaStorageSOPInstanceUID" in target.file_meta and "SOPInstanceUID" in source:
        target.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID


def restore(ds: Dataset, record: Record) -> Dataset:
    """Put a record back into a de-identified header.

    Parameters
    ----------
    ds : Dataset
        From `deidentify`, marked or not; not changed.
    record : Record

    Returns
    -------
    Dataset
        Every recorded attribute as it was, and nothing left of what de-identification added.
    """
    restored = copy.deepcopy(ds)
    _undo(restored)
    put_level(restored, record.level)
    if hasattr(restored, "file_meta"):
        _follow_uid(restored, restored)
        put_level(restored.file_meta, record.meta)
    return restored
