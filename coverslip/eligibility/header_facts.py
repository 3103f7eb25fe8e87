"""A header as eligibility reads it: nothing in it is trusted, a broken value counts as absent."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from functools import cached_property

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from coverslip.eligibility import sop_classes

_UNITS = "MeasurementUnitsCodeSequence"


def _plain(value: object) -> str:
    """Upper case words with single spaces: ``T2_STAR map`` becomes ``T2 STAR MAP``."""
    return re.sub(r"[\W_]+", " ", str(value).upper()).strip()


def _values(ds: Dataset, keyword: str) -> tuple[object, ...]:
    """Values of an element; none where it is absent, empty, a sequence or unreadable."""
    try:
        value = ds.get(keyword)
    except Exception:  # a parser may raise anything for a broken element: it says nothing
        return ()
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return tuple(value.split("\\"))
    if value is None or isinstance(value, (Sequence, Dataset)):
        return ()
    return tuple(value) if isinstance(value, (MultiValue, list, tuple)) else (value,)


def _texts(ds: Dataset, *keywords: str) -> tuple[str, ...]:
    """The values that say something, as `_plain` writes them."""
    texts = (_plain(value) for keyword in keywords for value in _values(ds, keyword))
    return tuple(text for text in texts if text)


def _numbers(ds: Dataset, keyword: str) -> tuple[float, ...]:
    """The values; none where one of them is not a finite number."""
    try:
        numbers = tuple(float(str(value)) for value in _values(ds, keyword))
    except ValueError:
        return ()
    return numbers if all(math.isfinite(number) for number in numbers) else ()


def _uid(ds: Dataset | None, keyword: str) -> str:
    values = () if ds is None else _values(ds, keyword)
    return str(values[0]).strip(" \0") if len(values) == 1 else ""


def _items(ds: Dataset, *keywords: str) -> Iterator[Dataset]:
    """Items of sequences; none of those that are absent or unreadable."""
    for keyword in keywords:
        try:
            value = ds.get(keyword)
            if isinstance(value, Sequence):
                yield from value
        except Exception:  # noqa: S112 - as in `_values`
            continue


class HeaderFacts:
    """A header, as eligibility reads it; reading never raises, whatever the values are.

    Parameters
    ----------
    ds : Dataset
        With the file meta information where there is one. Not changed.
    """

    def __init__(self, ds: Dataset) -> None:
        self._ds = ds
        meta = getattr(ds, "file_meta", None)
        self.sop_class = _uid(ds, "SOPClassUID")
        self.stored_as = _uid(meta, "MediaStorageSOPClassUID")
        self.transfer_syntax = _uid(meta, "TransferSyntaxUID")
        self.carries = self.sop_class in sop_classes.CARRYING
        self.mr = self.sop_class in sop_classes.MR
        self.enhanced = self.sop_class in sop_classes.ENHANCED

    def in_class(self, ends: Collection[str]) -> bool:
        """Whether the SOP class is one of these, or below one of these."""
        return any(f"{self.sop_class}.".startswith(f"{sop_classes.STORAGE}{end}.") for end in ends)

    def has(self, *keywords: str) -> bool:
        """Whether one of these elements is present."""
        return any(keyword in self._ds for keyword in keywords)

    def texts(self, *keywords: str) -> tuple[str, ...]:
        """Values of elements, in upper case words; empty ones are left out."""
        return _texts(self._ds, *keywords)

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Values of an element; none where one of them is no number."""
        return _numbers(self._ds, keyword)

    def number(self, keyword: str) -> float | None:
        """The value of an element; None where it has not exactly one number."""
        numbers = self.numbers(keyword)
        return numbers[0] if len(numbers) == 1 else None

    def private(self, group: int, creator: str, offset: int) -> str:
        """The value of a private element, in upper case words; empty where there is none."""
        try:
            return _plain(self._ds.private_block(group, creator)[offset].value)
        except Exception:  # as in `_values`; and no such block
            return ""

    @cached_property
    def groups(self) -> tuple[Dataset, ...]:
        """Functional groups of an enhanced instance (PS3.3 section C.7.6.16)."""
        return tuple(
            _items(self._ds, "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        )

    def group_items(self, *keywords: str) -> Iterator[Dataset]:
        """Items of sequences in the functional groups."""
        for group in self.groups:
            yield from _items(group, *keywords)

    @cached_property
    def descriptions(self) -> tuple[Dataset, ...]:
        """The instance, then what describes its frames (PS3.3 sections C.8.13.5.1, C.8.15.3.1)."""
        frames = self.group_items("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")
        return self._ds, *frames

    def in_groups(self, sequence: str, *keywords: str) -> frozenset[str]:
        """Values of the instance itself, and of items of a sequence in its functional groups."""
        holders = (self._ds, *self.group_items(sequence))
        return frozenset(text for holder in holders for text in _texts(holder, *keywords))

    def everywhere(self, keyword: str) -> frozenset[str]:
        """Values in `descriptions`."""
        return frozenset(text for holder in self.descriptions for text in _texts(holder, keyword))

    @cached_property
    def image_types(self) -> frozenset[tuple[str, ...]]:
        """Image Type and every Frame Type (PS3.3 sections C.7.6.1.1.2 and C.8.16.1)."""
        frames = (
            tuple(_plain(value) for value in _values(holder, "FrameType"))
            for holder in self.descriptions[1:]
        )
        own = tuple(_plain(value) for value in _values(self._ds, "ImageType"))
        return frozenset((own, *(frame for frame in frames if frame)))

    @cached_property
    def terms(self) -> frozenset[str]:
        """Values of `image_types` from the third on: those that differ by modality and vendor."""
        return frozenset(term for values in self.image_types for term in values[2:] if term)

    @cached_property
    def titles(self) -> tuple[str, ...]:
        """What people and scanners call the series."""
        return self.texts("SeriesDescription", "DerivationDescription")

    @cached_property
    def units(self) -> frozenset[str]:
        """Rescale Type, and units of Real World Value Mappings (PS3.3 section C.7.6.16.2.11)."""
        holders = (self._ds, *self.group_items("PixelValueTransformationSequence"))
        mappings = (
            mapping
            for holder in (self._ds, *self.groups)
            for mapping in _items(holder, "RealWorldValueMappingSequence")
        )
        codes = (code for mapping in mappings for code in _items(mapping, _UNITS))
        return frozenset(
            text
            for holder, keyword in (
                *((holder, "RescaleType") for holder in holders),
                *((code, "CodeValue") for code in codes),
            )
            for text in _texts(holder, keyword)
        )

    @cached_property
    def b_values(self) -> tuple[float, ...]:
        """Diffusion weights, of the instance and of its frames (PS3.3 section C.8.13.5.9)."""
        holders = (self._ds, *self.group_items("MRDiffusionSequence"))
        return tuple(value for holder in holders for value in _numbers(holder, "DiffusionBValue"))
