"""The Basic Application Level Confidentiality Profile (PS3.15 Annex E) on a data set.

The table of tags and the dummy values are dicom-anonymizer's. What it leaves out is done here:

- it acts on the top level only; items of sequences that stay are walked here;
- its new UIDs are random; here they are a keyed function of the old, so that a series stays a
  series across files and machines;
- it turns removed and emptied dates into 0001-01-01; here X means removed and Z empty, as the table
  says, and the dummy for D is a date that validators accept;
- where it empties or replaces a sequence's contents it makes items without meaning; here Z leaves
  an empty sequence, and UIDs of the standard itself (SOP classes, coding schemes) stay.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from coverslip.dicom.raw import is_sequence

TABLE = "dicomfields_2026c"
"""Edition of the table."""

STANDARD_ROOT = "1.2.840.10008."
"""UIDs below this root name parts of the standard, not somebody's data."""

_REMOVE = "X"
_EMPTY = "Z"
_DUMMY = "D"
UID_ACTION = "U"

_NEVER_EMPTY = frozenset((0x00081110,))
"""Referenced Study Sequence: type 3 in every image, and not allowed without items (PS3.3 section
C.7.2.1).
"""
_NEVER_REMOVED = frozenset((0x00700082, 0x00700083))
"""Presentation Creation Date and Time, replaced where the table says X: type 1 in every
presentation state (PS3.3 section C.11.10).
"""
_CONTENT_SEQUENCE = 0x0040A730
_REMOVED_WHOLE = frozenset((0x00700001, 0x0040B020))
"""Graphic Annotation and Waveform Annotation Sequence, removed where the table says D: with dummies
for each value they would hold unknown codes and too few points, and each is all of a module that
may be left out (PS3.3 sections C.10.5 and C.10.10).
"""
_DATES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000"}

# Where the table leaves a choice by the IOD's type, the choice that every IOD allows is taken.
_CHOICE = {
    "delete": _REMOVE,
    "empty": _EMPTY,
    "delete_or_empty": _EMPTY,
    "replace": _DUMMY,
    "empty_or_replace": _DUMMY,
    "delete_or_replace": _DUMMY,
    "delete_or_empty_or_replace": _DUMMY,
    "replace_UID": UID_ACTION,
    "delete_or_empty_or_replace_UID": UID_ACTION,
}


@lru_cache(maxsize=1)
def _table() -> tuple[dict[int, str], tuple[tuple[int, int, str], ...]]:
    """Action by tag, and (tag, mask, action) of repeating groups."""
    from dicomanonymizer import initialize_actions

    plain: dict[int, str] = {}
    ranges: list[tuple[int, int, str]] = []
    for tag, action in initialize_actions(TABLE).items():
        choice = _CHOICE[action.__name__]
        if len(tag) == 2:
            plain[tag[0] << 16 | tag[1]] = choice
        else:
            ranges.append((tag[0] << 16 | tag[1], tag[2] << 16 | tag[3], choice))
    plain.update(dict.fromkeys(_REMOVED_WHOLE, _REMOVE))
    plain.update(dict.fromkeys(_NEVER_REMOVED, _DUMMY))
    return plain, tuple(ranges)


def action_for(tag: int) -> str | None:
    """What the profile does with a tag: X, Z, D, U, or None to keep it."""
    plain, ranges = _table()
    if tag in plain:
        return plain[tag]
    return next((choice for base, mask, choice in ranges if tag & mask == base & mask), None)


def new_uid(uid_key: bytes, old: str) -> str:
    """The UID that replaces another: 2.25 and 128 bits of HMAC-SHA256 (PS3.5 section B.2).

    Parameters
    ----------
    uid_key : bytes
        Secret enough that nobody can try UIDs against it, and the same for files that belong
        together.
    old : str
    """
    digest = hmac.new(uid_key, old.encode(), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _new_uids(element: DataElement, uid_key: bytes) -> None:
    def one(old: str) -> str:
        return old if not old or old.startswith(STANDARD_ROOT) else new_uid(uid_key, old)

    value = element.value
    element.value = (
        one(str(value)) if isinstance(value, str) else [one(str(old)) for old in value or ()]
    )


def _dummy_content() -> Sequence:
    """Content of a report that says nothing and that every document may hold: one line of text."""
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator = "121106", "DCM"
    concept.CodeMeaning = "Comment"
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [concept]
    item.TextValue = "ANONYMIZED"
    return Sequence([item])


def _dummy(element: DataElement, uid_key: bytes) -> bool:
    """Give an element a dummy value; False where its VR has none and it must go."""
    from dicomanonymizer.simpledicomanonymizer import replace_element

    if element.VR == "UI":
        _new_uids(element, uid_key)
        return True
    if element.tag == _CONTENT_SEQUENCE:
        element.value = _dummy_content()
        return True
    if element.VR == "SQ":
        for item in element.value:
            for tag in list(item.keys()):
                if not _dummy(item[tag], uid_key):
                    del item[tag]
        return True
    if element.VR in _DATES:
        element.value = _DATES[element.VR]
        return True
    try:
        replace_element(element)
    except NotImplementedError:
        return False
    return True


def apply_profile(ds: Dataset, uid_key: bytes) -> None:
    """De-identify a data set in place, items included.

    Parameters
    ----------
    ds : Dataset
    uid_key : bytes
        See `new_uid`.
    """
    for tag in list(ds.keys()):
        action = _REMOVE if tag.is_private else action_for(int(tag))
        if action is None:
            _walk(ds, tag, uid_key)
        elif action == _REMOVE:
            del ds[tag]
        else:
            _change(ds, tag, action, uid_key)


def _walk(ds: Dataset, tag: BaseTag, uid_key: bytes) -> None:
    # Only what is, or may turn out to be, a sequence is parsed: raw values stay raw.
    if is_sequence(ds, tag):
        for item in ds[tag].value:
            apply_profile(item, uid_key)


def _change(ds: Dataset, tag: BaseTag, action: str, uid_key: bytes) -> None:
    element = ds[tag]
    if element.is_empty:
        return
    if action == _EMPTY and element.VR == "SQ" and tag in _NEVER_EMPTY:
        del ds[tag]
    elif action == _EMPTY:
        element.value = [] if element.VR == "SQ" else None
    elif action == UID_ACTION and element.VR == "SQ":
        for item in element.value:
            apply_profile(item, uid_key)
    elif action == UID_ACTION and element.VR == "UI":
        _new_uids(element, uid_key)
    elif not _dummy(element, uid_key):
        del ds[tag]
