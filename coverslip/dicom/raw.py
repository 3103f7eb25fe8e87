"""Takes single attributes out of a data set as bytes, and puts them back."""

from __future__ import annotations

from typing import cast

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr_element, write_data_element
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from coverslip.record.model import Element, Level

_WORD_BYTES = {
    "AT": 2,
    "OW": 2,
    "SS": 2,
    "US": 2,
    "FL": 4,
    "OF": 4,
    "OL": 4,
    "SL": 4,
    "UL": 4,
    "FD": 8,
    "OD": 8,
    "OV": 8,
    "SV": 8,
    "UV": 8,
}
"""VRs whose bytes depend on byte order, with the bytes of a word (PS3.5 section 7.3)."""
_BINARY = ("OB", "OW", "OF", "OD", "OL", "OV", "UN")


def is_sequence(ds: Dataset, tag: int) -> bool:
    """Whether an attribute holds items."""
    vr = cast("str | None", ds.get_item(tag, keep_deferred=True).VR)
    if vr is None and dictionary_has_tag(tag):
        vr = dictionary_VR(tag)
    # A sequence may have an unknown VR; pydicom finds out by parsing it.
    return bool(vr == "SQ" or (vr in ("UN", None) and ds[tag].VR == "SQ"))


def _swap_bytes(value: bytes, vr: str) -> bytes:
    """A value in the other byte order."""
    size = _WORD_BYTES.get(vr, 1)
    whole = len(value) // size * size
    return b"".join(value[at : at + size][::-1] for at in range(0, whole, size)) + value[whole:]


def _vr_of(ds: Dataset, element: DataElement | RawDataElement) -> str:
    vr = element.VR
    if vr is not None and len(vr) == 2:
        return str(vr)
    try:
        vr = str(dictionary_VR(element.tag))
    except KeyError:
        return "UN"
    if len(vr) == 2:
        return vr
    # Ambiguous in the dictionary ("US or SS"): other attributes decide.
    try:
        decided = str(correct_ambiguous_vr_element(ds[element.tag], ds, True).VR)
    except AttributeError:
        # The attributes that decide are missing.
        return "OW"
    return decided if len(decided) == 2 else "OW"


def leaf(ds: Dataset, tag: int) -> Element:
    """An attribute without items as it is in the file.

    Its raw bytes if the data set still has them, else the bytes that pydicom writes.
    """
    raw = cast("DataElement | RawDataElement", ds.get_item(tag))
    vr = _vr_of(ds, raw)
    if isinstance(raw, RawDataElement) and not (vr in CUSTOMIZABLE_CHARSET_VR and _recoded(ds)):
        value = raw.value or b""
        return Element(int(raw.tag), vr, value if raw.is_little_endian else _swap_bytes(value, vr))
    element = ds[tag]
    if vr in _BINARY:
        # pydicom keeps words as they are in the file.
        value = bytes(element.value or b"")
        return Element(
            int(element.tag),
            vr,
            value if ds.original_encoding[1] is not False else _swap_bytes(value, vr),
        )
    if vr != element.VR:
        # Only then: pydicom keeps a value that its VR does not allow, but makes none anew.
        element = DataElement(element.tag, vr, element.value)
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, True
    write_data_element(file, element, cast("list[str]", ds._character_set))
    return Element(int(element.tag), vr, file.getvalue()[8:])


def _recoded(ds: Dataset) -> bool:
    """Whether the character set has changed since reading: raw text is still in the old one."""
    return bool(ds.original_character_set and ds.original_character_set != ds._character_set)


def put(ds: Dataset, element: Element) -> None:
    """Put an attribute into a data set, byte for byte where the data set is little endian."""
    tag = BaseTag(element.tag)
    implicit, little = ds.original_encoding
    if isinstance(element.value, bytes):
        is_little = little is not False
        value = element.value if is_little else _swap_bytes(element.value, element.vr)
        raw = RawDataElement(tag, element.vr, len(value), value, 0, bool(implicit), is_little)
        ds[tag] = (
            raw
            if little is not None and not _recoded(ds)
            else convert_raw_data_element(raw, encoding=ds._character_set, ds=ds)
        )
        return
    items = []
    for level in element.value:
        item = Dataset()
        item.set_original_encoding(implicit, little, ds.original_character_set or None)
        item._parent_encoding = ds._character_set
        put_level(item, level)
        item.set_original_encoding(implicit, little, item._character_set)
        items.append(item)
    ds[tag] = DataElement(tag, "SQ", Sequence(items))


def _whole(ds: Dataset, tag: int) -> Element:
    """An attribute with all its items."""
    if not is_sequence(ds, tag):
        return leaf(ds, tag)
    items = ds[tag].value
    return Element(
        int(tag),
        "SQ",
        tuple(Level(tuple(_whole(item, each) for each in sorted(item.keys()))) for item in items),
    )


def change_encoding(ds: Dataset, implicit: bool, little: bool) -> None:
    """Give the values of a data set the form that they have in a file of another encoding.

    Raw values are written as they are: those of one byte order, or without their VR, must not end
    up in a file of another.

    Parameters
    ----------
    ds : Dataset
        As read; changed in place.
    implicit : bool
        The VRs are left out.
    little : bool
        Little endian.
    """
    if ds.original_encoding == (implicit, little):
        return
    elements = [_whole(ds, tag) for tag in sorted(ds.keys())]
    ds.set_original_encoding(implicit, little, ds.original_character_set or None)
    for element in elements:
        put(ds, element)


def put_level(ds: Dataset, level: Level, partial: bool = False) -> None:
    """Put the original attributes of one level, and of those below it, into a data set.

    Parameters
    ----------
    ds : Dataset
        Changed in place.
    level : Level
    partial : bool
        Create the sequences with changes inside if ``ds`` lacks them.
    """
    for tag in level.gone:
        if tag in ds:
            del ds[tag]
    # The character set first: the text after it depends on it.
    for element in sorted(level.elements, key=lambda each: each.tag != 0x00080005):
        put(ds, element)
    for inside in level.inside:
        if partial:
            items = ds[inside.tag].value if inside.tag in ds else Sequence()
            items.extend(Dataset() for _ in range(inside.item + 1 - len(items)))
            ds[inside.tag] = DataElement(inside.tag, "SQ", items)
        if inside.tag in ds and inside.item < len(ds[inside.tag].value):
            put_level(ds[inside.tag].value[inside.item], inside.level, partial)
