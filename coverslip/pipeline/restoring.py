"""Puts the identity back: the original file where that can be, the identity alone where it cannot.

A restored file claims to be the original only if it is. Where the pixels cannot be put back it has
a SOP Instance UID of its own and says DERIVED.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from coverslip.crypto.keys import Recipient
from coverslip.deidentification import header
from coverslip.deidentification.basic_profile import new_uid
from coverslip.dicom.encoding import encoded_value
from coverslip.dicom.instance import Instance, write_instance
from coverslip.dicom.objects import (
    OFFSET_TABLES,
    PIXEL_TAGS,
    UNDEFINED_LENGTH,
    DicomObject,
    pixel_tag,
    pixel_value_parts,
    write_object,
)
from coverslip.dicom.raw import change_encoding
from coverslip.errors import (
    CannotWriteError,
    ChangedError,
    CoverslipError,
    DamagedMessageError,
)
from coverslip.files import check_target, write_atomically
from coverslip.pipeline.binding import Binding, BindingSeal, dark_air, matches
from coverslip.pipeline.extraction import Extraction
from coverslip.pipeline.header_part import HeaderPart, digest_of
from coverslip.pipeline.reading import uid_key
from coverslip.pipeline.sealed_header import has_pixels_of, sealed_original
from coverslip.pipeline.undo import UndoneFrames
from coverslip.pixels.decoding import NATIVE
from coverslip.pixels.frames import Frames

_DERIVATION = "Identity restored over pixels that carry an embedded record"
_MODE = 0o600
_UID_LABEL = b"coverslip restored v1"


class RestoredAs(str, Enum):
    """What a restored file is."""

    ORIGINAL_FILE = "original-file"
    """The original, byte for byte."""

    ORIGINAL = "original"
    """The original's data set and pixel data."""

    IDENTITY = "identity"
    """The identity over pixels, or a header, that are not the original's."""


class Missing(str, Enum):
    """Why a restored file is not the original."""

    NO_HEADER_PART = "no-header-part"
    HEADER_PART_DAMAGED = "header-part-damaged"
    PIXELS_CHANGED = "pixels-changed"
    ATTRIBUTES_REFUSED = "attributes-refused"


@dataclass
class Restoration:
    """An object with its identity back, ready to be written.

    Attributes
    ----------
    source : DicomObject
    header : Dataset
    frames : Frames or None
        Stored values of the original; None where the pixel data stay as they are in the file.
    restored_as : RestoredAs
    missing : tuple of Missing
        Why it is not the original; empty where it is.
    refused : list of str
        Keywords or tags of attributes that the seal held and that may not come back.
    """

    source: DicomObject
    header: Dataset = field(repr=False)
    frames: Frames | None
    restored_as: RestoredAs
    missing: tuple[Missing, ...] = ()
    refused: list[str] = field(default_factory=list)
    _whole: tuple[bytes, Instance | None, bytes] | None = field(default=None, repr=False)

    def write(self, path: Path, overwrite: bool = False) -> None:
        """Write the restored file, for its owner's eyes only (mode 0600).

        Raises
        ------
        OutputExistsError, DoesNotComeBackError
        """
        if self._whole is not None:
            parts = _original_parts(self, *self._whole)
            check_target(path, self.source.path, overwrite)
            write_atomically(
                path, lambda file: file.writelines(parts), overwrite=overwrite, mode=_MODE
            )
        elif self.frames is None or self.source.image is None:
            write_object(self.source, self.header, path, overwrite, _MODE)
        else:
            image = self.source.image.with_dataset(self.header)
            write_instance(image, self.frames, path, overwrite, _MODE)


def restore(
    source: DicomObject,
    extraction: Extraction,
    recipient: Recipient,
    *,
    even_if_changed: bool = False,
) -> Restoration:
    """Put the identity back into an object, and the original pixels where that can be.

    Parameters
    ----------
    source : DicomObject
        What ``extraction`` was read from.
    extraction : Extraction
    recipient : Recipient
        Who it was sealed to.
    even_if_changed : bool
        Go on although the record may belong to another image.

    Raises
    ------
    ChangedError
        The record may belong to another image, and nobody asked for it all the same.
    """
    if extraction.binding is Binding.CHANGED and not even_if_changed:
        changes = ", ".join(change.value for change in extraction.changes)
        raise ChangedError(
            f"the file is not as embedding left it ({changes}), so that this record may belong to "
            "another image; nothing was restored: compare it with the source it came from, then "
            "use --even-if-changed to restore all the same"
        )
    part = extraction.part
    if part is None or not part.head:
        lost = Missing.NO_HEADER_PART
        if extraction.part_error is not None:
            lost = Missing.HEADER_PART_DAMAGED
        return _identity_alone(source, extraction, (lost,))
    if part.stego_pixels and not has_pixels_of(source, part.stego_pixels):
        return _identity_alone(source, extraction, (Missing.PIXELS_CHANGED,))
    return _original(source, extraction, part, recipient)


def _original(
    source: DicomObject, extraction: Extraction, part: HeaderPart, recipient: Recipient
) -> Restoration:
    try:
        frames = _original_frames(source, part, extraction.bound_to)
        head, pixel_header = sealed_original(part)
        _check_names_object(head, source)
        restored, refused = header.restore_original(head, source.dataset, uid_key(recipient))
    except (DamagedMessageError, CannotWriteError):
        return _identity_alone(source, extraction, (Missing.HEADER_PART_DAMAGED,))
    if refused:
        missing = (Missing.ATTRIBUTES_REFUSED,)
        _own_uid(restored)
        _put_pixels(restored, source)
        return Restoration(source, restored, frames, RestoredAs.IDENTITY, missing, refused)
    whole = _whole(source, part, head, pixel_header, frames)
    if whole is not None:
        return Restoration(source, restored, frames, RestoredAs.ORIGINAL_FILE, _whole=whole)
    _put_pixels(restored, source)
    return Restoration(source, restored, frames, RestoredAs.ORIGINAL)


def _check_names_object(head: Dataset, source: DicomObject) -> None:
    """Refuse an original without the UID that de-identification replaces and never removes."""
    if "SOPInstanceUID" in source.dataset and "SOPInstanceUID" not in head:
        raise DamagedMessageError("a SOP Instance UID was expected")


def _original_frames(
    source: DicomObject, part: HeaderPart, bound_to: BindingSeal | None
) -> Frames | None:
    """The original's stored values; None where no pixel was changed.

    Raises
    ------
    DamagedMessageError
        The undo list does not give the original's pixels. Whoever has the recipient can seal an
        undo list: what the record is bound to must not change by it.
    """
    if not part.undo or source.image is None:
        return None
    frames = UndoneFrames(source.image.frames, part.undo)
    same = digest_of(frames) == part.original_pixels
    if same and bound_to is not None and bound_to.level is not None:
        same = matches(dark_air(replace(source.image, frames=frames)), bound_to)
    if not same:
        raise DamagedMessageError("the undo list gives other pixels than the original's")
    return frames


def _put_pixels(restored: Dataset, source: DicomObject) -> None:
    """Give a restored header the file's pixel data, in the file's transfer syntax."""
    implicit, little = source.dataset.original_encoding
    change_encoding(restored, bool(implicit), little is not False)
    for tag in (*OFFSET_TABLES, *PIXEL_TAGS):
        if tag in restored:
            del restored[tag]
        if tag in source.dataset:
            restored[tag] = source.dataset.get_item(tag, keep_deferred=True)
    restored.file_meta.TransferSyntaxUID = UID(source.transfer_syntax)
    restored.filename = getattr(source.dataset, "filename", None)
    restored.timestamp = getattr(source.dataset, "timestamp", None)


def _whole(
    source: DicomObject,
    part: HeaderPart,
    head: Dataset,
    pixel_header: bytes,
    frames: Frames | None,
) -> tuple[bytes, Instance | None, bytes] | None:
    """What the original file is made of again; None where that does not give its very bytes."""
    if not part.original_file:
        return None
    syntax = str(head.file_meta.TransferSyntaxUID)
    image: Instance | None = None
    if frames is not None and source.image is not None:
        image = source.image.in_syntax(head, syntax)
    elif source.has_pixels and syntax != source.transfer_syntax:
        return None  # Pixel data that are copied would mean something else.
    trial = Restoration(source, head, frames, RestoredAs.ORIGINAL_FILE)
    hashed, length = hashlib.sha256(), -len(part.head) - len(part.tail)
    try:
        for piece in _original_parts(trial, part.head, image, part.tail):
            hashed.update(piece)
            length += len(piece)
    except (CoverslipError, ValueError, RuntimeError):
        return None  # The original's transfer syntax cannot be written here.
    if hashed.digest() != part.original_file:
        return None
    encapsulated = source.is_encapsulated if image is None else syntax not in NATIVE
    little = head.original_encoding[1] is not False
    if not _goes_before(pixel_header, source, None if encapsulated else length, little):
        return None
    return part.head, image, part.tail


def _goes_before(
    pixel_header: bytes, source: DicomObject, length: int | None, little: bool
) -> bool:
    """Whether a sealed header ends with tag, VR and length of an object's pixel data.

    Whoever has the recipient can seal any header, one among them that hides the pixel data in
    another attribute. ``length`` is None for encapsulated pixel data.
    """
    tag = pixel_tag(source.dataset)
    if tag is None or len(pixel_header) not in (8, 12):
        return tag is None and not pixel_header
    order = "<" if little else ">"
    announced = struct.unpack(order + "2HI", pixel_header[:4] + pixel_header[-4:])
    if announced[:2] != (tag >> 16, tag & 0xFFFF):
        return False
    return bool(announced[2] == (UNDEFINED_LENGTH if length is None else length))


def _original_parts(
    restoration: Restoration, head: bytes, image: Instance | None, tail: bytes
) -> Iterator[bytes]:
    yield head
    if image is not None and restoration.frames is not None:
        assert restoration.source.image is not None
        yield from encoded_value(image, restoration.frames, restoration.source.image)
    else:
        yield from pixel_value_parts(restoration.source)
        if restoration.source.is_encapsulated:
            yield b"\xfe\xff\xdd\xe0\0\0\0\0"
    yield tail


def _identity_alone(
    source: DicomObject, extraction: Extraction, missing: tuple[Missing, ...]
) -> Restoration:
    restored = header.restore(source.dataset, extraction.record)
    _own_uid(restored)
    return Restoration(source, restored, None, RestoredAs.IDENTITY, missing)


def _own_uid(restored: Dataset) -> None:
    """Say that a file is not the original: a SOP Instance UID of its own, DERIVED."""
    old = str(restored.get("SOPInstanceUID", ""))
    restored.SOPInstanceUID = new_uid(_UID_LABEL, old)
    if getattr(restored, "file_meta", None) is not None:
        restored.file_meta.MediaStorageSOPInstanceUID = restored.SOPInstanceUID
    kinds = list(restored.get("ImageType") or [])
    if kinds:
        restored.ImageType = ["DERIVED", *kinds[1:]]
    restored.DerivationDescription = _DERIVATION
