"""One DICOM file in, one out: pixels as stored integers, everything else as it was."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.errors import InvalidDicomError
from pydicom.pixels.encoders.base import get_encoder
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
    JPEGLSLossless,
    RLELossless,
)

from coverslip.dicom import planes as pixels
from coverslip.dicom.files import check_target, write_dataset
from coverslip.errors import (
    DoesNotComeBackError,
    NotAnImageError,
    TruncatedFileError,
    UnreadableFileError,
)

_PIXEL_DATA = 0x7FE00010
_LARGEST_OFFSET_TABLE = 0xFFFFFFFE
"""The basic offset table has offsets of 32 bits; past it the extended one is needed (PS3.3 section C.7.6.3.1.8)."""
_ENCODERS = (str(RLELossless), str(JPEGLSLossless), str(JPEG2000Lossless))


@dataclass(frozen=True)
class Instance:
    """A DICOM image.

    Attributes
    ----------
    dataset : Dataset
        The header and the pixel data as read; never changed by this package.
    planes : int32 [frames, rows, cols]
        Stored values: no rescale, no presentation, sign extended.
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
        Where it was read from; never written to.
    notes : list of str
        What the reader of a report should know.
    """

    dataset: Dataset = field(repr=False)
    planes: NDArray[np.int32] = field(repr=False)
    legal: tuple[int, int]
    padding: tuple[int, int] | None
    inverted: bool
    transfer_syntax: str
    layout: pixels.Layout
    path: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def photometric(self) -> str:
        """MONOCHROME1 or MONOCHROME2."""
        return "MONOCHROME1" if self.inverted else "MONOCHROME2"

    def with_dataset(self, dataset: Dataset) -> Instance:
        """The same pixels under another header."""
        return replace(self, dataset=dataset)


def _looks_like_dicom(ds: Dataset) -> bool:
    meta = getattr(ds, "file_meta", None)
    return "SOPClassUID" in ds or ("Rows" in ds and "Columns" in ds) or bool(meta and "TransferSyntaxUID" in meta)


def _parse(path: Path) -> FileDataset:
    not_dicom = NotAnImageError(
        "the file is no DICOM; a DICOM image (PS3.10) was expected: leave it out, or check that it was copied whole"
    )
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableFileError(
            f"the file cannot be read ({type(error).__name__}); check that it is there and that you may read it"
        ) from None
    with file:
        try:
            try:
                return dcmread(file)
            except InvalidDicomError:
                file.seek(0)
                ds = dcmread(file, force=True)
        except (OSError, EOFError):
            raise TruncatedFileError(_CUT) from None
        except Exception:
            # A parser fed arbitrary bytes fails in arbitrary ways; what it says may quote them.
            raise not_dicom from None
    if not _looks_like_dicom(ds):
        raise not_dicom
    return ds


_CUT = "the file ends in the middle of its data set; a whole file was expected: get a whole copy"


def _ends_early(ds: FileDataset, path: Path) -> bool:
    """Whether bytes are left after the last element, or missing from it: a file that was cut inside the header."""
    if not len(ds):
        return True
    last = cast("DataElement | RawDataElement", ds.get_item(max(ds.keys())))
    if not isinstance(last, RawDataElement):
        return False
    if ds.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return len(last.value or b"") != last.length
    return last.value_tell + last.length != path.stat().st_size


def _check_complete(ds: FileDataset, path: Path) -> None:
    if "PixelData" in ds or "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        return
    if _ends_early(ds, path):
        raise TruncatedFileError(_CUT)
    raise NotAnImageError("the file has no pixel data; a DICOM image was expected: leave it out")


def _complete_meta(ds: FileDataset, notes: list[str]) -> str:
    """Say which transfer syntax the data set has, where the file does not."""
    if getattr(ds, "file_meta", None) is None:
        ds.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = guessed
        notes.append(f"the file did not say its transfer syntax; it reads as {guessed.name}")
    return str(ds.file_meta.TransferSyntaxUID)


def _note_codestream(ds: Dataset, layout: pixels.Layout, transfer_syntax: str, notes: list[str]) -> None:
    """Say where a JPEG 2000 codestream and the header differ; readers differ in which they believe."""
    if transfer_syntax not in (JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL):
        return
    start = ds.PixelData.find(b"\xff\x4f\xff\x51", 0, 1 << 20)
    found = get_j2k_parameters(ds.PixelData[start : start + 64]) if start >= 0 else {}
    if found and found["is_signed"] != layout.signed:
        notes.append(
            f"the JPEG 2000 codestream says {'signed' if found['is_signed'] else 'unsigned'} where the header says "
            f"{'signed' if layout.signed else 'unsigned'}; the header was believed, and what is written agrees with it"
        )


def read_instance(path: str | Path) -> Instance:
    """Read a DICOM image.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Instance

    Raises
    ------
    UnreadableFileError
        There is no such file, or it may not be read.
    NotAnImageError
        No DICOM, or no pixel data.
    TruncatedFileError
        The file was cut.
    LossySourceError, DecoderMissingError
        The transfer syntax cannot be written again without loss, or not read here.
    FloatPixelsError, ColourPixelsError, BinaryPixelsError, DeepPixelsError, UnsupportedPixelsError
        A kind of pixels that cannot carry a record.
    """
    path = Path(path)
    ds = _parse(path)
    notes: list[str] = []
    _check_complete(ds, path)
    transfer_syntax = _complete_meta(ds, notes)
    layout = pixels.layout_of(ds, transfer_syntax)
    pixels.check_syntax(transfer_syntax)
    planes = np.empty(layout.shape, dtype=np.int32)
    for number, plane in enumerate(pixels.iter_planes(ds, layout, transfer_syntax)):
        planes[number] = plane
    _note_codestream(ds, layout, transfer_syntax, notes)
    return Instance(
        dataset=ds,
        planes=planes,
        legal=layout.legal,
        padding=pixels.padding_of(ds, layout),
        inverted=ds.get("PhotometricInterpretation") == "MONOCHROME1",
        transfer_syntax=transfer_syntax,
        layout=layout,
        path=path,
        notes=notes,
    )


def _native_data(instance: Instance, planes: NDArray[np.int32]) -> bytes:
    """The pixel data with new values in it: bits outside Bits Stored, and bytes after the last frame, as they were."""
    layout = instance.layout
    data = bytearray(instance.dataset.PixelData)
    dtype = pixels.word_type(layout)
    count = layout.rows * layout.cols
    if layout.swapped:
        whole = np.frombuffer(data, dtype=np.uint8, count=len(data) // 2 * 2).reshape(-1, 2)
        flat = whole[:, ::-1].reshape(-1)
        for number in range(layout.frames):
            part = slice(number * count, (number + 1) * count)
            flat[part] = pixels.words_of(planes[number].ravel(), layout, flat[part])
        whole[:] = flat.reshape(-1, 2)[:, ::-1]
    else:
        for number in range(layout.frames):
            view = np.frombuffer(data, dtype=dtype, count=count, offset=number * layout.frame_bytes)
            view[:] = pixels.words_of(planes[number].ravel(), layout, view)
    return bytes(data)


def _encode_frames(instance: Instance, planes: NDArray[np.int32]) -> list[bytes]:
    """Encode every frame in the instance's own transfer syntax."""
    layout, syntax = instance.layout, instance.transfer_syntax
    encoder = get_encoder(UID(syntax))
    rle = syntax == RLELossless
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.cols,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "photometric_interpretation": instance.photometric,
        "bits_allocated": layout.allocated,
        # RLE packs whole words, bits outside Bits Stored included; the others code values.
        "bits_stored": layout.allocated if rle else layout.stored,
        "pixel_representation": 0 if rle else int(layout.signed),
    }
    before = pixels.rle_words(instance.dataset, layout) if rle else None
    frames = []
    for plane in planes:
        words = pixels.words_of(plane, layout, None if before is None else next(before))
        source = words if rle or not layout.signed else words.view(f"i{words.itemsize}")
        frames.append(bytes(encoder.encode(source, **options)))
    return frames


def _put_native(out: Dataset, data: bytes, vr: str) -> None:
    out[_PIXEL_DATA] = DataElement(_PIXEL_DATA, vr, data)


def _put_encapsulated(out: Dataset, frames: list[bytes]) -> None:
    length = sum(len(frame) + len(frame) % 2 + 8 for frame in frames)
    if "ExtendedOffsetTable" in out or length > _LARGEST_OFFSET_TABLE:
        data, out.ExtendedOffsetTable, out.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        data = encapsulate(frames, has_bot=True)
    element = DataElement(_PIXEL_DATA, "OB", data)
    element.is_undefined_length = True
    out[_PIXEL_DATA] = element


def _as_explicit(instance: Instance, planes: NDArray[np.int32], out: Dataset) -> None:
    """Put native pixel data and say explicit little endian."""
    layout = replace(instance.layout, big_endian=False, swapped=False)
    words = pixels.words_of(planes, layout)
    data = (words if layout.allocated == 8 else words.astype("<u2", copy=False)).tobytes()
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in out:
            del out[keyword]
    _put_native(out, data + b"\0" * (len(data) % 2), "OW")


def _put_planes(instance: Instance, planes: NDArray[np.int32], out: Dataset) -> list[str]:
    """Replace the pixel data of ``out``, keeping the transfer syntax where an encoder for it exists."""
    syntax = instance.transfer_syntax
    if syntax in pixels.NATIVE:
        _put_native(out, _native_data(instance, planes), instance.dataset["PixelData"].VR)
        return []
    why = "nothing installed encodes it"
    if syntax in _ENCODERS and get_encoder(UID(syntax)).is_available:
        try:
            _put_encapsulated(out, _encode_frames(instance, planes))
            _verify(out, instance, planes)
        except (RuntimeError, ValueError, DoesNotComeBackError, TruncatedFileError):
            why = "its encoder does not give these pixels back"
        else:
            return []
    _as_explicit(instance, planes, out)
    return [f"written as {ExplicitVRLittleEndian.name}: the source is {UID(syntax).name}, and {why}"]


def _verify(ds: Dataset, instance: Instance, planes: NDArray[np.int32]) -> None:
    syntax = str(ds.file_meta.TransferSyntaxUID)
    layout = pixels.layout_of(ds, syntax)
    decoded = pixels.iter_planes(ds, layout, syntax)
    if layout.shape != instance.layout.shape or not all(
        np.array_equal(plane, wanted) for plane, wanted in zip(decoded, planes, strict=True)
    ):
        raise DoesNotComeBackError(
            "what was about to be written does not decode to the pixels it was made from; nothing was written: report this file"
        )


def _adjust_extremes(out: Dataset, cover: NDArray[np.int32], stego: NDArray[np.int32], allocated: int) -> None:
    """Keep Smallest and Largest Image Pixel Value true where they were."""
    for keyword, before, after in (
        ("SmallestImagePixelValue", cover.min, stego.min),
        ("LargestImagePixelValue", cover.max, stego.max),
    ):
        value = out.get(keyword)
        if not isinstance(value, int):
            continue
        mask = (1 << allocated) - 1
        if value & mask == int(before()) & mask and value & mask != int(after()) & mask:
            # The element's own VR may disagree with the pixels' sign: the word is what counts.
            new = int(after()) & 0xFFFF
            out[keyword].value = new - 0x10000 if out[keyword].VR == "SS" and new > 0x7FFF else new


def write_instance(instance: Instance, planes: NDArray[np.int32], path: str | Path, overwrite: bool = False) -> list[str]:
    """Write an instance with other pixels.

    The transfer syntax stays where it is native or an encoder exists (RLE, JPEG-LS lossless, JPEG 2000 lossless) and becomes
    explicit little endian otherwise. The file appears at once and whole, after what it holds was read back.

    Parameters
    ----------
    instance : Instance
        Gives the header and the bits outside Bits Stored.
    planes : int32 [frames, rows, cols]
        Inside the legal range.
    path : str or Path
    overwrite : bool
        Replace what is there; the instance's own file is never replaced.

    Returns
    -------
    list of str
        What the reader of a report should know, such as a change of transfer syntax.

    Raises
    ------
    ValueError
        The planes have another shape, or values outside the legal range.
    OutputExistsError
        Something is at ``path``, or it is the input.
    DoesNotComeBackError
        What was encoded does not decode to ``planes``.
    """
    path = Path(path)
    lo, hi = instance.legal
    if planes.shape != instance.planes.shape or int(planes.min()) < lo or int(planes.max()) > hi:
        raise ValueError("planes must have the shape of the instance's and stay inside its legal range")
    check_target(path, instance.path, overwrite)
    out = copy.deepcopy(instance.dataset)
    notes = _put_planes(instance, planes, out)
    _adjust_extremes(out, instance.planes, planes, instance.layout.allocated)
    write_dataset(out, path, overwrite, lambda written: _verify(written, instance, planes))
    return notes
