"""Any DICOM object, with readable pixels or without, and the bytes around its pixel data."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from coverslip.dicom.parsing import (
    Instance,
    check_complete,
    complete_meta,
    image_of,
    is_deflated,
    open_file,
    parse,
    raw_element,
)
from coverslip.errors import CoverslipError, NotAnImageError, NotDicomError, TruncatedFileError
from coverslip.files import check_target, refuse_malformed, save_dataset, write_dataset
from coverslip.pixels.scratch import PartStream
from coverslip.pixels.stored import StoredValue, end_of_fragments

Source = str | Path | bytes | BinaryIO | Dataset
"""A path, the bytes of a file, a binary file open for reading, or a data set with its file meta
information."""

PIXEL_TAGS = (0x7FE00010, 0x7FE00009, 0x7FE00008)
"""Pixel Data, Double Float Pixel Data, Float Pixel Data."""
OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
"""Extended Offset Table and its lengths."""
UNDEFINED_LENGTH = 0xFFFFFFFF
_BUFFERED = ("OB", "OD", "OF", "OL", "OV", "OW")
_CHUNK = 1 << 20
_DELIMITER_BYTES = 8


@dataclass(frozen=True, repr=False)
class OriginalBytes:
    """A file's bytes around the value of its pixel data.

    Attributes
    ----------
    head : bytes
        Up to the value of the pixel data; the whole file where it has none.
    tail : bytes
        What follows it.
    sha256 : bytes
        Of the whole file; empty where there was none, or where its bytes cannot be made again.
    """

    head: bytes
    tail: bytes
    sha256: bytes


@dataclass(frozen=True)
class DicomObject:
    """A DICOM object of any kind.

    Attributes
    ----------
    dataset : Dataset
        As read; never changed by this package.
    transfer_syntax : str
    image : Instance or None
        Where its pixels can be read and written.
    not_image : CoverslipError or None
        Why they cannot; None for an image.
    original : OriginalBytes
    pixels : StoredValue or None
        Where the value of its pixel data lies in its file.
    is_encapsulated : bool
        Its pixel data are a row of items (PS3.5 section A.4).
    path : Path or None
        Where it was read from; never written to.
    notes : list of str
        What the reader of a report should know.
    """

    dataset: Dataset = field(repr=False)
    transfer_syntax: str
    image: Instance | None
    not_image: CoverslipError | None
    original: OriginalBytes
    pixels: StoredValue | None = None
    is_encapsulated: bool = False
    path: Path | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_image(cls, image: Instance) -> DicomObject:
        """The object of an image that was read by itself.

        Its file's bytes are looked up again where it was read from one.
        """
        if image.path is not None:
            with open_file(image.path) as file:
                size = file.seek(0, io.SEEK_END)
                tag = pixel_tag(image.dataset)
                original = _original_bytes(file, image.dataset, tag, size)
            stored = None if tag is None else _where(image.dataset, tag, image.path)
        else:
            original, stored = OriginalBytes(header_bytes(image.dataset), b"", b""), None
            tag = pixel_tag(image.dataset)
        return cls(
            image.dataset,
            image.transfer_syntax,
            image,
            None,
            original,
            stored,
            _is_encapsulated(image.dataset, tag),
            image.path,
            list(image.notes),
        )

    @property
    def has_pixels(self) -> bool:
        """Whether there is pixel data of any kind."""
        return pixel_tag(self.dataset) is not None


def pixel_tag(ds: Dataset) -> int | None:
    """The tag of a data set's pixel data; None where it has none."""
    return next((tag for tag in PIXEL_TAGS if tag in ds), None)


def read_object(source: Source) -> DicomObject:
    """Read a DICOM object of any kind.

    Parameters
    ----------
    source : path, bytes, binary file or Dataset

    Returns
    -------
    DicomObject

    Raises
    ------
    UnreadableFileError, NotAnImageError, TruncatedFileError
        There is no such file, it is no DICOM, or it was cut.
    """
    file, path = _open(source)
    with file:
        ds = parse(file, deferred=path is not None)
        size = file.seek(0, io.SEEK_END)
        check_complete(ds, size)
        tag = pixel_tag(ds)
        original = _original_bytes(file, ds, tag, size)
    if path is None:
        ds.buffer = None  # Everything is in memory, and the file is closed.
    encapsulated = _is_encapsulated(ds, tag)
    notes: list[str] = []
    syntax = complete_meta(ds, notes)
    stored = None if path is None or tag is None else _where(ds, tag, path)
    try:
        with refuse_malformed():
            image = image_of(ds, path, syntax, notes)
        reason = None
    except TruncatedFileError:
        raise
    except CoverslipError as error:
        image, reason = None, error
    return DicomObject(ds, syntax, image, reason, original, stored, encapsulated, path, notes)


def _open(source: Source) -> tuple[BinaryIO, Path | None]:
    if isinstance(source, (str, Path)):
        path = Path(source)
        return open_file(path), path
    if isinstance(source, bytes):
        return io.BytesIO(source), None
    if isinstance(source, Dataset):
        file = io.BytesIO()
        try:
            dcmwrite(file, source, enforce_file_format=True)
        except (AttributeError, TypeError, ValueError, KeyError):
            # What pydicom says may quote values.
            raise NotAnImageError(
                "the data set cannot be written as a DICOM file; one with SOP Class UID, SOP "
                "Instance UID and a Transfer Syntax UID in its file meta information was expected: "
                "complete it first"
            ) from None
        return io.BytesIO(file.getvalue()), None
    return io.BytesIO(source.read()), None


def _is_encapsulated(ds: Dataset, tag: int | None) -> bool:
    if tag is None:
        return False
    element = raw_element(ds, tag)
    if isinstance(element, RawDataElement):
        return element.length == UNDEFINED_LENGTH
    return bool(element.is_undefined_length)


def _raw(ds: Dataset, tag: int) -> RawDataElement | None:
    element = raw_element(ds, tag)
    return element if isinstance(element, RawDataElement) else None


def _where(ds: Dataset, tag: int, path: Path) -> StoredValue | None:
    element = _raw(ds, tag)
    if element is None or is_deflated(ds):
        return None
    return StoredValue(
        path, element.value_tell, None if element.length == UNDEFINED_LENGTH else element.length
    )


def _original_bytes(file: BinaryIO, ds: Dataset, tag: int | None, size: int) -> OriginalBytes:
    """The bytes around the pixel data, and the digest of all of them.

    Raises
    ------
    TruncatedFileError
        The file ends before its pixel data do.
    """
    if is_deflated(ds):
        return _inflated_bytes(ds)
    element = None if tag is None else _raw(ds, tag)
    start = size if element is None else element.value_tell
    if element is None:
        end = size
    elif element.length == UNDEFINED_LENGTH:
        end = start + end_of_fragments(_reader(file, start))
    else:
        end = start + element.length
    if end > size:
        raise TruncatedFileError(
            "the file ends before its pixel data do; a whole file was expected: get a whole copy"
        )
    if element is not None and element.length == UNDEFINED_LENGTH:
        end = min(end + _DELIMITER_BYTES, size)
    file.seek(0)
    head = file.read(start)
    file.seek(end)
    tail = file.read()
    return OriginalBytes(head, tail, _digest(file))


def _reader(file: BinaryIO, start: int) -> Callable[[int, int], bytes]:
    def read(at: int, count: int) -> bytes:
        file.seek(start + at)
        return file.read(count)

    return read


def _digest(file: BinaryIO) -> bytes:
    hashed = hashlib.sha256()
    file.seek(0)
    while part := file.read(_CHUNK):
        hashed.update(part)
    return hashed.digest()


def _inflated_bytes(ds: Dataset) -> OriginalBytes:
    """As `_original_bytes`, for a deflated data set: its header written again without deflation.

    Which deflater wrote a file is not known, so that its very bytes are not promised.
    """
    return OriginalBytes(header_bytes(ds), b"", b"")


def header_bytes(ds: Dataset) -> bytes:
    """A data set without its pixel data, as the bytes of a file in explicit little endian."""
    out = copy.deepcopy(ds)
    for tag in PIXEL_TAGS:
        if tag in out:
            del out[tag]
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    with refuse_malformed():
        dcmwrite(file, out, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return file.getvalue()


def parse_head(head: bytes) -> tuple[FileDataset, bytes]:
    """The data set of the bytes of a file up to the value of its pixel data.

    Also what follows that data set: tag, VR and length of the pixel data; nothing where it has
    none.

    Raises
    ------
    NotDicomError, TruncatedFileError
        They are not those of a DICOM file.
    """
    if _says_deflated(head):
        # `header_bytes` never deflates, and a parser would inflate without end.
        raise NotDicomError(
            "a header was expected that is not deflated: use an undamaged copy of the file"
        )
    file = io.BytesIO(head)
    ds = parse(file, deferred=False, head=True)
    complete_meta(ds, [])
    return ds, file.read()


def _says_deflated(head: bytes) -> bool:
    """Whether the file meta information of a file says that its data set is deflated."""
    start = 132 if head[128:132] == b"DICM" else 0
    try:
        meta = read_dataset(
            io.BytesIO(head[start:]),
            False,
            True,
            stop_when=lambda tag, _vr, _length: tag.group != 2,
        )
        return bool(meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)
    except Exception:  # What cannot be parsed is for `parse` to refuse.
        return False


def write_object(
    source: DicomObject, header: Dataset, path: Path, overwrite: bool, mode: int = 0o666
) -> None:
    """Write an object's pixel data, as they are, under another header.

    Parameters
    ----------
    source : DicomObject
        Gives the pixel data.
    header : Dataset
        With file meta information; its own pixel data are not used.
    path : Path
    overwrite : bool
        Replace what is there; the object's own file is never replaced.
    mode : int
        Permissions of the file, before the process's umask.

    Raises
    ------
    OutputExistsError
    """
    check_target(path, source.path, overwrite)
    # The pixel data are copied as they are: there is nothing to decode again.
    write_dataset(_with_pixels(source, header), path, overwrite, mode=mode)


def object_bytes(source: DicomObject, header: Dataset) -> bytes:
    """An object's pixel data, as they are, under another header, as the bytes of a file.

    Raises
    ------
    CannotWriteError
    """
    file = io.BytesIO()
    save_dataset(_with_pixels(source, header), file)
    return file.getvalue()


def _with_pixels(source: DicomObject, header: Dataset) -> Dataset:
    """A copy of a header with an object's pixel data, which may still lie in their file."""
    out = copy.deepcopy(header)
    tag = pixel_tag(source.dataset)
    raw = None if tag is None else _raw(source.dataset, tag)
    if tag is not None and raw is not None and source.pixels is not None:
        # As `pixel_value_parts` finds them: parsers differ over fragments that are broken.
        out[tag] = _copied(source.pixels, raw)
    return out


def _copied(stored: StoredValue, raw: RawDataElement) -> DataElement:
    """Pixel data as they lie in their file, read in parts while they are written."""
    encapsulated = raw.length == UNDEFINED_LENGTH
    length = _value_length(stored, encapsulated)
    # Only these can be written from a stream; UN is what some converters make of them.
    vr = raw.VR if raw.VR in _BUFFERED else "OB" if encapsulated else "OW"
    padding = length % 2

    def parts() -> Iterator[bytes]:
        yield from _parts(stored, length)
        yield b"\0" * padding

    element = DataElement(raw.tag, vr, PartStream(parts, length + padding))
    element.is_undefined_length = encapsulated
    return element


def _value_length(stored: StoredValue, encapsulated: bool) -> int:
    return end_of_fragments(stored.read) if encapsulated else stored.length


def _parts(stored: StoredValue, length: int) -> Iterator[bytes]:
    for at in range(0, length, _CHUNK):
        yield stored.read(at, min(_CHUNK, length - at))


def pixel_value_parts(source: DicomObject) -> Iterator[bytes]:
    """The value of an object's pixel data as it is encoded, in parts."""
    tag = pixel_tag(source.dataset)
    if tag is None:
        return
    if source.pixels is None:
        # As it was read: to parse it, its VR would have to be one.
        raw = _raw(source.dataset, tag)
        value = source.dataset[tag].value if raw is None else raw.value
        yield bytes(value or b"")
        return
    length = _value_length(source.pixels, source.is_encapsulated)
    yield from _parts(source.pixels, length)
