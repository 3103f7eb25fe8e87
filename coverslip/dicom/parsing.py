"""Parses DICOM files: data sets, and images with their pixels as stored integers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from coverslip.errors import (
    NotAnImageError,
    NotDicomError,
    TruncatedFileError,
    UnreadableFileError,
)
from coverslip.pixels.decoding import (
    LOSSY,
    NATIVE,
    PIXEL_DATA,
    check_decoder,
    check_syntax,
    iter_planes,
    not_readable,
    not_writable,
)
from coverslip.pixels.frames import Frames, HeldFrames
from coverslip.pixels.layout import Layout, layout_of, padding_of
from coverslip.pixels.scratch import HELD_BYTES
from coverslip.pixels.stored import EncapsulatedFrames, NativeFrames, StoredValue, find_fragments

_UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PREFIX = 1 << 20
"""Bytes at the start of pixel data within which a codestream begins."""
_CUT = "the file ends in the middle of its data set; a whole file was expected: get a whole copy"


@dataclass(frozen=True)
class Instance:
    """A DICOM image.

    Attributes
    ----------
    dataset : Dataset
        The header and the pixel data as read; never changed by this package.
    frames : Frames
        Stored values int32 [frames, rows, cols]: no rescale, no presentation, sign extended. Pixel
        data longer than `coverslip.pixels.scratch.HELD_BYTES` are read from the file on demand.
    legal : (int, int)
        Lowest and highest value that can be stored, inclusive.
    padding : (int, int) or None
        Lowest and highest value that pads the image, inclusive.
    inverted : bool
        MONOCHROME1: the lowest value is white, so that air is bright.
    transfer_syntax : str
        UID of the pixel data as read.
    layout : Layout
    path : Path or None
        The file it was read from; never written to.
    notes : list of str
        Remarks for the reader of a report.
    """

    dataset: Dataset = field(repr=False)
    frames: Frames = field(repr=False)
    legal: tuple[int, int]
    padding: tuple[int, int] | None
    inverted: bool
    transfer_syntax: str
    layout: Layout
    path: Path | None = None
    notes: list[str] = field(default_factory=list)

    @cached_property
    def planes(self) -> NDArray[np.int32]:
        """All frames in memory, int32 [frames, rows, cols]."""
        return self.frames.whole()

    @property
    def is_lossy(self) -> bool:
        """The pixels are in a lossy transfer syntax: they can be read, and must not be written."""
        return self.transfer_syntax in LOSSY

    @property
    def photometric(self) -> str:
        """MONOCHROME1 or MONOCHROME2."""
        return "MONOCHROME1" if self.inverted else "MONOCHROME2"

    def with_dataset(self, dataset: Dataset) -> Instance:
        """The same pixels under another header."""
        return replace(self, dataset=dataset)

    def in_syntax(self, dataset: Dataset, transfer_syntax: str) -> Instance:
        """The same values under another header, to be written in another transfer syntax."""
        layout = self.layout
        if transfer_syntax != self.transfer_syntax:
            big = UID(transfer_syntax) == ExplicitVRBigEndian
            layout = replace(layout, big_endian=big, swapped=False)
        return replace(self, dataset=dataset, transfer_syntax=transfer_syntax, layout=layout)


def read_instance(path: str | Path) -> Instance:
    """Read a DICOM image whose pixels can be written again.

    `coverslip.dicom.objects.read_object` reads lossy ones as well.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Instance

    Raises
    ------
    UnreadableFileError
        The file is missing, or may not be read.
    NotAnImageError
        The file is not DICOM, or has no pixel data.
    TruncatedFileError
        The file was cut short.
    LossySourceError, DecoderMissingError
        The transfer syntax cannot be written again without loss, or not read here.
    FloatPixelsError, ColourPixelsError, BinaryPixelsError, DeepPixelsError, UnsupportedPixelsError
        A kind of pixels that cannot carry a record.
    """
    path = Path(path)
    with open_file(path) as file:
        ds = parse(file, deferred=True)
    check_complete(ds, path.stat().st_size)
    notes: list[str] = []
    image = image_of(ds, path, complete_meta(ds, notes), notes)
    if image.is_lossy:
        raise not_writable(image.transfer_syntax)
    return image


def image_of(
    ds: FileDataset, path: Path | None, transfer_syntax: str, notes: list[str]
) -> Instance:
    """The image in a data set.

    Parameters
    ----------
    ds : FileDataset
        From `parse`.
    path : Path, optional
        The file that its long pixel data were left in.
    transfer_syntax : str
        From `complete_meta`.
    notes : list of str
        Grows.

    Raises
    ------
    As `read_instance`, but for `UnreadableFileError`. A lossy image is refused only where it does
    not decode.
    """
    if not any(keyword in ds for keyword in PIXEL_KEYWORDS):
        raise NotAnImageError(
            "the file has no pixel data; a DICOM image was expected: leave it out"
        )
    layout = layout_of(ds, transfer_syntax)
    check_syntax(transfer_syntax)
    stored = None if path is None else _stored_pixel_data(ds, path, layout)
    prefix = ds.PixelData[:_PREFIX] if stored is None else stored.read(0, _PREFIX)
    frames = _decodable_frames(ds, layout, transfer_syntax, stored)
    _note_codestream(prefix, layout, transfer_syntax, notes)
    return Instance(
        dataset=ds,
        frames=frames,
        legal=layout.legal,
        padding=padding_of(ds, layout),
        inverted=ds.get("PhotometricInterpretation") == "MONOCHROME1",
        transfer_syntax=transfer_syntax,
        layout=layout,
        path=path,
        notes=notes,
    )


def open_file(path: Path) -> BinaryIO:
    """A file, open for reading.

    Raises
    ------
    UnreadableFileError
        The file is missing, or may not be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableFileError(
            f"the file cannot be read ({type(error).__name__}); check that it is there and that "
            "you may read it"
        ) from None


def parse(file: BinaryIO, *, deferred: bool, head: bool = False) -> FileDataset:
    """The data set of a file.

    Parameters
    ----------
    file : binary file
        At its beginning.
    deferred : bool
        Leave long pixel data in the file, which then has a name.
    head : bool
        Stop before the pixel data.

    Raises
    ------
    NotDicomError
        The file is not DICOM.
    TruncatedFileError
        The file was cut short.
    """
    not_dicom = NotDicomError(
        "the file is not DICOM; a DICOM image (PS3.10) was expected: leave it out, or check that "
        "it was copied whole"
    )
    try:
        ds, has_preamble = _read(file, HELD_BYTES if deferred else None, head)
        if deferred and not _load_deferred(ds, file):
            file.seek(0)
            ds, has_preamble = _read(file, None, head)
    except (OSError, EOFError):
        raise TruncatedFileError(_CUT) from None
    except Exception:
        # A parser of arbitrary bytes fails in arbitrary ways; its message may quote the file.
        raise not_dicom from None
    if not has_preamble and not _looks_like_dicom(ds):
        raise not_dicom
    return ds


def _read(file: BinaryIO, defer_size: int | None, head: bool) -> tuple[FileDataset, bool]:
    """Read a data set, and whether the file has DICOM's preamble and prefix.

    Values longer than ``defer_size`` bytes are left in the file.
    """
    try:
        return dcmread(file, defer_size=defer_size, stop_before_pixels=head), True
    except InvalidDicomError:
        file.seek(0)
        return dcmread(file, defer_size=defer_size, stop_before_pixels=head, force=True), False


def _looks_like_dicom(ds: Dataset) -> bool:
    meta = getattr(ds, "file_meta", None)
    return (
        "SOPClassUID" in ds
        or ("Rows" in ds and "Columns" in ds)
        or bool(meta and "TransferSyntaxUID" in meta)
    )


def _load_deferred(ds: FileDataset, file: BinaryIO) -> bool:
    """Load all values left in the file except the pixel data; False if that is not possible."""
    if is_deflated(ds):
        # Positions are those in the inflated data set, not in the file.
        return not any(_is_deferred(ds, tag) for tag in ds.keys())  # noqa: SIM118
    for tag in ds.keys():  # noqa: SIM118 - a data set iterates over elements
        if not _is_deferred(ds, tag) or tag == PIXEL_DATA:
            continue
        element = cast("RawDataElement", raw_element(ds, tag))
        if element.length == _UNDEFINED_LENGTH:
            return False
        file.seek(element.value_tell)
        ds[tag] = element._replace(value=file.read(element.length))
    return True


def raw_element(ds: Dataset, tag: int) -> DataElement | RawDataElement:
    """An attribute as parsed, without loading a value left in the file."""
    return cast("DataElement | RawDataElement", ds.get_item(tag, keep_deferred=True))


def _is_deferred(ds: Dataset, tag: int) -> bool:
    """Whether an attribute's value was left in the file."""
    element = raw_element(ds, tag)
    return isinstance(element, RawDataElement) and element.value is None and element.length != 0


def is_deflated(ds: Dataset) -> bool:
    """Whether the data set was deflated in its file."""
    meta = getattr(ds, "file_meta", None)
    return bool(meta and meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def check_complete(ds: FileDataset, size: int) -> None:
    """Refuse a data set without pixel data whose file of ``size`` bytes was cut.

    Raises
    ------
    TruncatedFileError
    """
    if not any(keyword in ds for keyword in PIXEL_KEYWORDS) and _ends_early(ds, size):
        raise TruncatedFileError(_CUT)


def _ends_early(ds: FileDataset, size: int) -> bool:
    """Whether the file was cut inside the header: its last element is not where the file ends."""
    if not len(ds):
        return True
    last = raw_element(ds, max(ds.keys()))
    if not isinstance(last, RawDataElement) or last.length == _UNDEFINED_LENGTH:
        return False
    if is_deflated(ds):
        return len(last.value or b"") != last.length
    return last.value_tell + last.length != size


def complete_meta(ds: FileDataset, notes: list[str]) -> str:
    """The transfer syntax of the data set, added to the file meta information if missing."""
    if getattr(ds, "file_meta", None) is None:
        ds.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        guessed = (
            ImplicitVRLittleEndian
            if implicit
            else ExplicitVRLittleEndian
            if little
            else ExplicitVRBigEndian
        )
        ds.file_meta.TransferSyntaxUID = guessed
        notes.append(f"the file did not say its transfer syntax; it reads as {guessed.name}")
    return str(ds.file_meta.TransferSyntaxUID)


def _stored_pixel_data(ds: FileDataset, path: Path, layout: Layout) -> StoredValue | None:
    """The pixel data in their file; None if they, and their decoded frames, fit in memory."""
    element = raw_element(ds, PIXEL_DATA)
    if not isinstance(element, RawDataElement) or is_deflated(ds):
        return None
    decoded = layout.frames * layout.frame_bytes
    if not _is_deferred(ds, PIXEL_DATA) and decoded <= HELD_BYTES:
        return None
    length = None if element.length == _UNDEFINED_LENGTH else element.length
    return StoredValue(path, element.value_tell, length)


def _decodable_frames(
    ds: Dataset, layout: Layout, transfer_syntax: str, stored: StoredValue | None
) -> Frames:
    """As `_frames_of`; lossy frames only where the first one decodes."""
    if transfer_syntax not in LOSSY:
        return _frames_of(ds, layout, transfer_syntax, stored)
    try:
        frames = _frames_of(ds, layout, transfer_syntax, stored)
        frames.read(0, 1)  # Decoders know only some of the variants that exist.
    except TruncatedFileError:
        raise not_readable(transfer_syntax) from None
    return frames


def _frames_of(
    ds: Dataset, layout: Layout, transfer_syntax: str, stored: StoredValue | None
) -> Frames:
    """The frames, read from their file on demand if each can be found in it; else in memory."""
    if stored is not None and transfer_syntax in NATIVE and not layout.swapped:
        return NativeFrames(stored, layout)
    if stored is not None and transfer_syntax not in NATIVE:
        check_decoder(transfer_syntax)
        fragments = find_fragments(stored, layout.frames)
        if fragments is not None:
            return EncapsulatedFrames(stored, ds, layout, transfer_syntax, fragments)
    planes = np.empty(layout.shape, dtype=np.int32)
    for number, plane in enumerate(iter_planes(ds, layout, transfer_syntax)):
        planes[number] = plane
    return HeldFrames(planes)


def _note_codestream(prefix: bytes, layout: Layout, transfer_syntax: str, notes: list[str]) -> None:
    """Note if a JPEG 2000 codestream contradicts the header: readers differ in which they use."""
    if transfer_syntax not in (JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL):
        return
    start = prefix.find(b"\xff\x4f\xff\x51")
    parameters = get_j2k_parameters(prefix[start : start + 64]) if start >= 0 else {}
    if parameters and parameters["is_signed"] != layout.signed:
        signs = {True: "signed", False: "unsigned"}
        notes.append(
            f"the JPEG 2000 codestream says {signs[bool(parameters['is_signed'])]} where the "
            f"header says {signs[layout.signed]}; the header was believed, and the file written "
            "agrees with it"
        )
