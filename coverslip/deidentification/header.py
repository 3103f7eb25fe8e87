"""The identity out of a header and back: de-identification, and what it took.

A record is the difference between the original and the de-identified header after everything was
undone that can be undone without it. So nothing needs to be listed twice, and whatever the profile
does comes back.
"""

from __future__ import annotations

import copy
import hashlib
import struct
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from coverslip.deidentification.basic_profile import (
    UID_ACTION,
    action_for,
    apply_profile,
    new_uid,
)
from coverslip.deidentification.mark import remove_mark
from coverslip.dicom.objects import OFFSET_TABLES, PIXEL_TAGS
from coverslip.dicom.raw import is_sequence, leaf, put_level
from coverslip.eligibility import BurnedIn, burned_in, text_sources
from coverslip.errors import BurnedInAnnotationError
from coverslip.files import refuse_malformed
from coverslip.record import Element, Inside, Level, Record

LIMIT = 1024
"""Bytes above which a single value is not recorded but listed as dropped."""

_METHOD = "Coverslip"
_DERIVATION = "Record of the removed identity embedded in background pixels"
_CODE = ("113100", "DCM", "Basic Application Confidentiality Profile")
_PIXELS = frozenset((*PIXEL_TAGS, *OFFSET_TABLES))
_NUMBER_OF_FRAMES = 0x00280008
_SOP_INSTANCE_UID = 0x00080018
_OF_THE_SENDER = (
    0x00020016,  # Source Application Entity Title
    0x00020017,  # Sending Application Entity Title
    0x00020018,  # Receiving Application Entity Title
    0x00020026,  # Source Presentation Address
    0x00020027,  # Sending Presentation Address
    0x00020028,  # Receiving Presentation Address
    0x00020100,  # Private Information Creator UID
    0x00020102,  # Private Information
)
"""File meta information that names devices or holds anything at all. The profile's table has no row
for it, since the whole is to be replaced (PS3.15 section E.1.1)."""
_IMAGE_TYPE = 0x00080008
_ITEM_END = b"\xfe\xff\x0d\xe0"
_DESCRIBING = frozenset(
    (
        _IMAGE_TYPE,  # whose first value says DERIVED
        0x00120062,  # Patient Identity Removed
        0x00120063,  # De-identification Method
        0x00120064,  # De-identification Method Code Sequence
        0x00280106,  # Smallest Image Pixel Value
        0x00280107,  # Largest Image Pixel Value
        0x00280303,  # Longitudinal Temporal Information Modified
        0x00082111,  # Derivation Description
    )
)
"""What embedding itself writes or adjusts."""
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


def keep_image_type(clean: Dataset, original: Dataset) -> None:
    """Take back, in place, what says that pixels were changed: the header carries the record.

    Parameters
    ----------
    clean : Dataset
        From `deidentify`.
    original : Dataset
        What it was made from.
    """
    for keyword in ("DerivationDescription", "ImageType"):
        if keyword in clean:
            del clean[keyword]
    if "ImageType" in original:
        clean[_IMAGE_TYPE] = copy.deepcopy(original[_IMAGE_TYPE])


def _several(ds: Dataset, keyword: str) -> list[Any]:
    if keyword not in ds or ds[keyword].is_empty:
        return []
    value = ds[keyword].value
    return [value] if isinstance(value, str) else list(value)


def _undo(ds: Dataset) -> None:
    """Take back all that can be taken back without a record; exact for most headers, and the record
    holds the rest.
    """
    remove_mark(ds)
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


def check_burned_in(ds: Dataset) -> None:
    """Refuse an instance whose pixels show identity, or are likely to.

    Raises
    ------
    BurnedInAnnotationError
    """
    said = burned_in(ds)
    if said is BurnedIn.YES:
        raise BurnedInAnnotationError(
            "the header says that annotation is burned into the pixels (BurnedInAnnotation YES), "
            "where hiding the header's identity does not reach it; an image without was expected: "
            "remove it first, or say with --allow-burned-in that it holds no identity"
        )
    if said is BurnedIn.LIKELY:
        sources = ", ".join(source.value for source in text_sources(ds))
        raise BurnedInAnnotationError(
            f"images of this kind ({sources}) often have identity burned into their pixels, and "
            "the header does not deny it; BurnedInAnnotation NO was expected: set it once the "
            "pixels were looked at, or say with --allow-burned-in that they hold no identity"
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


@refuse_malformed()
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
        Go on although the header says, or does not deny, that annotation is burned in.
    limit : int
        Bytes above which a single value is dropped instead of recorded.

    Returns
    -------
    clean : Dataset
        De-identified copy that says so, with new UIDs. It says that the pixels were changed; see
        `keep_image_type` for where they are not.
    record : Record
        What `restore` needs.
    dropped : list of Dropped
        What was removed and is not in the record: private attributes and large values.

    Raises
    ------
    BurnedInAnnotationError
    CannotWriteError
        A value is so malformed that it cannot be read.
    """
    clean = copy.deepcopy(ds)
    if not allow_burned_in:
        # On the copy: whoever looks at a value parses it, and an odd one loses its bytes.
        check_burned_in(clean)
    apply_profile(clean, uid_key)
    _drop_empty_overlays(ds, clean)
    if hasattr(clean, "file_meta"):
        apply_profile(clean.file_meta, uid_key)
        for tag in _OF_THE_SENDER:
            if tag in clean.file_meta:
                del clean.file_meta[tag]
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


@refuse_malformed()
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


def implied_uid(record: Record, uid_key: bytes) -> str | None:
    """The SOP Instance UID that de-identification gave the instance a record was taken from.

    Parameters
    ----------
    record : Record
    uid_key : bytes
        As for `deidentify`.

    Returns
    -------
    str or None
        None where the record does not say what it was before.
    """
    for element in record.level.elements:
        if element.tag == _SOP_INSTANCE_UID and isinstance(element.value, bytes):
            old = element.value.decode("ascii", errors="replace").rstrip("\0 ")
            return new_uid(uid_key, old) if old else None
    return None


def _says_nothing(ds: Dataset, tag: BaseTag) -> bool:
    """Whether a data set means the same without an attribute; converters write and drop them."""
    if tag == _NUMBER_OF_FRAMES:
        return str(ds[tag].value) == "1"
    return tag.element == 0 or tag == _TRAILING_PADDING


def _is_left_out(ds: Dataset, tag: BaseTag, with_uids: bool) -> bool:
    """Whether a digest of what stays leaves an attribute out."""
    if tag in _PIXELS or _says_nothing(ds, tag):
        return True
    if with_uids and not tag.is_private and action_for(int(tag)) == UID_ACTION:
        return False
    return _may_come_back(tag)


def _hash_level(hashed: hashlib._Hash, ds: Dataset, with_uids: bool = False) -> None:
    for tag in sorted(ds.keys()):
        if _is_left_out(ds, tag, with_uids):
            continue
        hashed.update(struct.pack("<I", tag))
        if not is_sequence(ds, tag):
            value = leaf(ds, tag).value
            assert isinstance(value, bytes)
            hashed.update(struct.pack("<I", len(value)) + value)
            continue
        items = ds[tag].value
        hashed.update(struct.pack("<I", len(items)))
        for item in items:
            _hash_level(hashed, item, with_uids)
            hashed.update(_ITEM_END)


@refuse_malformed()
def content_digest(clean: Dataset, with_uids: bool = False) -> bytes:
    """SHA-256 of what stays of a data set, whatever its transfer syntax.

    What de-identification removes or replaces is left out, since archives write there too: new
    UIDs, another patient's name. So are private attributes and pixel data.

    Parameters
    ----------
    clean : Dataset
    with_uids : bool
        For objects without pixels: of a report or a key object selection little else stays, and two
        of them would be one. Archives give images new UIDs, whose pixels tell them apart.
    """
    hashed = hashlib.sha256(b"coverslip content v2")
    _hash_level(hashed, clean, with_uids)
    return hashed.digest()


def _digest_of(ds: Dataset, tag: BaseTag) -> bytes:
    """SHA-256 of an attribute; the same for one that says nothing as for one that is not there."""
    part = Dataset()
    part.set_original_encoding(*_encoding(ds))
    if tag in ds:
        part[tag] = ds.get_item(tag)
    hashed = hashlib.sha256()
    _hash_level(hashed, part)
    return hashed.digest()


def _encoding(ds: Dataset) -> tuple[bool | None, bool | None, Any]:
    implicit, little = ds.original_encoding
    return implicit, little, ds.original_character_set or None


def _may_come_back(tag: BaseTag) -> bool:
    """Whether de-identification can have taken or changed an attribute of the data set."""
    overlay = 0x6000 <= tag.group <= 0x60FF  # goes with its data
    return tag.is_private or overlay or action_for(int(tag)) is not None or int(tag) in _DESCRIBING


@refuse_malformed()
def restore_original(
    original: Dataset, present: Dataset, uid_key: bytes
) -> tuple[Dataset, list[str]]:
    """The original header, but for what de-identification cannot have taken.

    Whoever has the recipient can seal any header. What de-identification leaves alone must be as
    it is in the file, or the file's own value stays.

    Parameters
    ----------
    original : Dataset
        From a sealed header part.
    present : Dataset
        The header of the file that it was sealed into; not changed.
    uid_key : bytes
        As for `deidentify`.

    Returns
    -------
    restored : Dataset
    refused : list of str
        Keywords or tags of attributes whose value in ``original`` was refused.
    """
    clean, _, _ = deidentify(original, uid_key, allow_burned_in=True)
    restored = copy.deepcopy(original)
    refused = []
    for tag in sorted({*clean.keys(), *original.keys(), *present.keys()}):
        if tag in _PIXELS or _may_come_back(tag):
            continue
        expected = tag in clean or tag not in original or _says_nothing(original, tag)
        if expected and _digest_of(clean, tag) == _digest_of(present, tag):
            continue
        if tag in present:
            restored[tag] = copy.deepcopy(present[tag])
        elif tag in restored:
            del restored[tag]
        refused.append(keyword_for_tag(tag) or str(tag))
    return restored, refused
