"""What was taken out of a header."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Element:
    """One original attribute.

    Attributes
    ----------
    tag : int
        Group and element, 32 bits.
    vr : str
        Value representation, two letters.
    value : bytes or tuple of Level
        Little endian value as in the file, padding included; a sequence's items.
    """

    tag: int
    vr: str
    value: bytes | tuple[Level, ...]


@dataclass(frozen=True)
class Inside:
    """What was changed inside an item of a sequence that is still there.

    Attributes
    ----------
    tag : int
        The sequence.
    item : int
        Index of the item, from 0.
    level : Level
    """

    tag: int
    item: int
    level: Level


@dataclass(frozen=True)
class Level:
    """The originals of one data set: the instance's own, or an item's.

    Attributes
    ----------
    elements : tuple of Element
        To be put back, by ascending tag.
    gone : tuple of int
        Tags to be taken out again, ascending.
    inside : tuple of Inside
        By ascending tag and item; no tag that is in ``elements``.
    """

    elements: tuple[Element, ...] = ()
    gone: tuple[int, ...] = ()
    inside: tuple[Inside, ...] = ()

    def __len__(self) -> int:
        return sum(1 for _ in self.leaves())

    def leaves(self) -> Iterator[Element]:
        """Every attribute that holds a value, nested ones included."""
        for element in self.elements:
            if isinstance(element.value, bytes):
                yield element
            else:
                for item in element.value:
                    yield from item.leaves()
        for inside in self.inside:
            yield from inside.level.leaves()


@dataclass(frozen=True, repr=False)
class Record:
    """The identity that was in a header.

    Attributes
    ----------
    level : Level
        Of the data set.
    meta : Level
        Of the file meta information.
    """

    level: Level
    meta: Level = Level()

    def __len__(self) -> int:
        """Number of attributes, nested ones included."""
        return len(self.level) + len(self.meta)

    def __repr__(self) -> str:
        # An identity never ends up in a log by way of a repr.
        return f"Record({len(self)} attributes)"

    def dataset(self) -> Dataset:
        """The recorded attributes as a data set.

        Where only something inside a sequence was recorded, the sequence's items hold just that, and items before are empty.
        """
        from pydicom.dataset import Dataset

        from coverslip.dicom.raw import put_level

        ds = Dataset()
        put_level(ds, self.level, partial=True)
        return ds

    def elements(self) -> Iterator[DataElement]:
        """The recorded attributes of the data set, sequences whole."""
        yield from self.dataset()

    def to_json(self) -> dict[str, Any]:
        """The recorded attributes in the DICOM JSON model (PS3.18 annex F)."""
        found: dict[str, Any] = self.dataset().to_json_dict(suppress_invalid_tags=True)
        return found

    def listing(self) -> list[str]:
        """One line for each recorded attribute, for a person to read."""
        return list(_lines(self.dataset()))


def _lines(ds: Dataset, indent: str = "") -> Iterator[str]:
    for element in ds:
        if element.VR != "SQ":
            yield f"{indent}{element.name}: {element.value}"
            continue
        for number, item in enumerate(element.value):
            if len(item):
                yield f"{indent}{element.name} [{number}]"
                yield from _lines(item, indent + "    ")
