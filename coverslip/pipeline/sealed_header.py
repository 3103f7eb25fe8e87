"""Makes the sealed header part of an object, and the binding of one that its header carries."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset

from coverslip.crypto.keys import Recipient
from coverslip.crypto.seal import FrameKind, seal
from coverslip.deidentification import header
from coverslip.dicom.instance import Instance
from coverslip.dicom.objects import PIXEL_TAGS, DicomObject, parse_head, pixel_value_parts
from coverslip.errors import DamagedMessageError, NotDicomError, TruncatedFileError
from coverslip.pipeline.binding import BindingSeal, content_seal
from coverslip.pipeline.header_part import HeaderPart, digest_of, encode_header_part
from coverslip.pipeline.undo import undo_frame
from coverslip.pixels.frames import Frames


def pixels_digest(source: DicomObject) -> bytes:
    """Digest of an object's pixels as they are sealed; empty where it has none.

    Of their encoded bytes where they cannot be read, or where decoders may differ in what they
    make of them.
    """
    if source.image is not None and not source.image.is_lossy:
        return digest_of(source.image.frames)
    if not source.has_pixels:
        return b""
    hashed, length = hashlib.sha256(b"coverslip encoded pixels v1"), 0
    for part in pixel_value_parts(source):
        hashed.update(part)
        length += len(part)
    hashed.update(b"\0" * (length % 2))  # An odd one is padded when it is written.
    return hashed.digest()


def _pixel_digests(source: DicomObject) -> Iterator[bytes]:
    """Every digest that may stand for an object's pixels in a seal."""
    yield pixels_digest(source)
    # A transfer syntax that may lose does not always.
    if source.image is not None and source.image.is_lossy:
        yield digest_of(source.image.frames)


def has_pixels_of(source: DicomObject, digest: bytes) -> bool:
    """Whether an object's pixels are those of a digest."""
    return any(own == digest for own in _pixel_digests(source))


def content_digest(source: DicomObject, clean: Dataset) -> bytes:
    """Digest of what stays of an object's data set; with its UIDs where there are no pixels."""
    return header.content_digest(clean, with_uids=not source.has_pixels)


def content_binding(source: DicomObject, clean: Dataset) -> BindingSeal:
    """What binds a record to an object that carries it in its header."""
    return content_seal(content_digest(source, clean), pixels_digest(source))


def is_bound_to(source: DicomObject, binding: BindingSeal) -> bool:
    """Whether an object is the one that a record in its header names."""
    # The digest of what stays leaves private attributes out, the mark among them.
    content = content_digest(source, source.dataset)
    return any(content_seal(content, pixels) == binding for pixels in _pixel_digests(source))


def sealed_original(part: HeaderPart) -> tuple[FileDataset, bytes]:
    """The original's data set without its pixel data, from a sealed header part.

    Also the tag, VR and length of the pixel data, as they stand in the file; nothing where it has
    none.

    Raises
    ------
    DamagedMessageError
        What is in the part is not a DICOM file around its pixel data.
    """
    try:
        head, pixel_header = parse_head(part.head)
        _add_tail(head, part.tail)
    except (NotDicomError, TruncatedFileError):
        raise DamagedMessageError(
            "the sealed header part does not hold the original header: use an undamaged copy of "
            "the file; the identity in the pixels can be read without it"
        ) from None
    return head, pixel_header


def _add_tail(head: FileDataset, tail: bytes) -> None:
    """Add what followed the original's pixel data.

    Raises
    ------
    TruncatedFileError
        It is not the end of a data set.
    """
    implicit, little = head.original_encoding
    try:
        after = read_dataset(io.BytesIO(tail), bool(implicit), little is not False)
        for tag in after.keys():  # noqa: SIM118 - a data set iterates over elements
            head[tag] = after.get_item(tag)
    except Exception:
        # As in `coverslip.dicom.parsing.parse`: arbitrary bytes fail in arbitrary ways.
        raise TruncatedFileError("the end of a data set was expected") from None
    if any(tag in after for tag in PIXEL_TAGS):
        raise TruncatedFileError("one element of pixel data was expected")


def seal_header_part(
    source: DicomObject, clean: Dataset, recipient: Recipient, stego: Frames | None
) -> bytes:
    """Seal what the pixels have no room for.

    Parameters
    ----------
    source : DicomObject
        The original.
    clean : Dataset
        Its de-identified header, not marked yet.
    recipient : Recipient
    stego : Frames or None
        Stored values int32 [F, H, W]; None where no pixel was changed.

    Returns
    -------
    bytes
        A sealed frame of kind `FrameKind.HEADER_PART`.
    """
    original = source.original
    pixels = pixels_digest(source)
    part = HeaderPart(
        head=original.head,
        tail=original.tail,
        undo=b"" if stego is None or source.image is None else _undo_lists(source.image, stego),
        original_pixels=pixels,
        stego_pixels=pixels if stego is None else digest_of(stego),
        original_file=original.sha256,
        content=content_digest(source, clean),
    )
    return seal(encode_header_part(part), recipient.public, FrameKind.HEADER_PART)


def _undo_lists(cover: Instance, stego: Frames) -> bytes:
    lists = io.BytesIO()
    for start, window in stego.windows():
        covers = cover.frames.read(start, start + len(window))
        for pair in zip(covers, window, strict=True):
            lists.write(undo_frame(*pair))
    return lists.getvalue()
