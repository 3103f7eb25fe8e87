"""The identity removed from a header, as plain data.

`coverslip.dicom.record_views` shows it, `coverslip.deidentification.header` puts it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


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
        Little endian value as in the file, padding included; or a sequence's items.
    """

    tag: int
    vr: str
    value: bytes | tuple[Level, ...]


@dataclass(frozen=True)
class Inside:
    """The changes inside an item of a sequence that stayed in the header.

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
    """The original attributes of one data set: the instance's own, or an item's.

    Attributes
    ----------
    elements : tuple of Element
        Attributes to put back, by ascending tag.
    gone : tuple of int
        Tags of attributes to remove again, ascending.
    inside : tuple of Inside
        By ascending tag and item; no tag of ``elements``.
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
    """The identity of a header.

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
        # A repr must not put an identity into a log.
        return f"Record({len(self)} attributes)"
