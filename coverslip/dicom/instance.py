"""One DICOM file in, one out: pixels as stored integers, everything else as it was."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
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

from coverslip.errors import (
    DoesNotComeBackError,
    NotAnImageError,
    NotDicomError,
    TruncatedFileError,
    UnreadableFileError,
)
from coverslip.files import check_target, write_dataset
from coverslip.pixels import layout as pixels
from coverslip.pixels.frames import (
    HELD,
    EncapsulatedFrames,
    Frames,
    HeldFrames,
    NativeFrames,
    Parts,
    Spool,
    Stored,
    find_fragments,
)

_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_LOOK = 1 << 20
"""Bytes at the start of pixel data in which a codestream begins."""
_LARGEST_OFFSET_TABLE = 0xFFFFFFFE
"""The basic offset table has offsets of 32 bits; past it the extended one is needed (PS3.3 section
C.7.6.3.1.8).
"""
_ENCODERS = (str(RLELossless), str(JPEGLSLossless), str(JPEG2000Lossless))


@dataclass(frozen=True)
class Instance:
    """A DICOM image.

    Attributes
    ----------
    dataset : Dataset
        The header and the pixel data as read; never changed by this package.
    frames : Frames
        Stored values int32 [frames, rows, cols]: no rescale, no presentation, sign extended. What
        is longer than `coverslip.pixels.frames.HELD` is read from the file when it is wanted.
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
    frames: Frames = field(repr=False)
    legal: tuple[int, int]
    padding: tuple[int, int] | None
    inverted: bool
    transfer_syntax: str
    layout: pixels.Layout
    path: Path | None = None
    notes: list[str] = field(default_factory=list)

    @cached_property
    def planes(self) -> NDArray[np.int32]:
        """All frames in memory, int32 [frames, rows, cols]."""
        return self.frames.whole()

    @property
    def is_lossy(self) -> bool:
        """The pixels are in a lossy transfer syntax: they can be read, and must not be written."""
        return self.transfer_syntax in pixels.LOSSY

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


def is_deflated(ds: Dataset) -> bool:
    """Whether the data set was deflated in its file."""
    meta = getattr(ds, "file_meta", None)
    return bool(meta and meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _looks_like_dicom(ds: Dataset) -> bool:
    meta = getattr(ds, "file_meta", None)
    return (
        "SOPClassUID" in ds
        or ("Rows" in ds and "Columns" in ds)
        or bool(meta and "TransferSyntaxUID" in meta)
    )


def _read(file: BinaryIO, longest: int | None, head: bool) -> tuple[FileDataset, bool]:
    """A data set whose values above ``longest`` bytes are left in the file.

    Also whether the file says that it is DICOM.
    """
    try:
        return dcmread(file, defer_size=longest, stop_before_pixels=head), True
    except InvalidDicomError:
        file.seek(0)
        return dcmread(file, defer_size=longest, stop_before_pixels=head, force=True), False


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
        The file is no DICOM.
    TruncatedFileError
        The file was cut.
    """
    not_dicom = NotDicomError(
        "the file is no DICOM; a DICOM image (PS3.10) was expected: leave it out, or check that "
        "it was copied whole"
    )
    try:
        ds, known = _read(file, HELD if deferred else None, head)
        if deferred and not _only_pixels_left(ds, file):
            file.seek(0)
            ds, known = _read(file, None, head)
    except (OSError, EOFError):
        raise TruncatedFileError(_CUT) from None
    except Exception:
        # A parser fed arbitrary bytes fails in arbitrary ways; what it says may quote them.
        raise not_dicom from None
    if not known and not _looks_like_dicom(ds):
        raise not_dicom
    return ds


def open_file(path: Path) -> BinaryIO:
    """A file, open for reading.

    Raises
    ------
    UnreadableFileError
        There is no such file, or it may not be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableFileError(
            f"the file cannot be read ({type(error).__name__}); check that it is there and that "
            "you may read it"
        ) from None


def _only_pixels_left(ds: FileDataset, file: BinaryIO) -> bool:
    """Take in what was left in the file for its length, but for the pixel data; whether that
    worked.
    """
    if is_deflated(ds):
        # Places are those in the inflated data set, not in the file.
        return not any(_left(ds, tag) for tag in ds.keys())  # noqa: SIM118
    for tag in ds.keys():  # noqa: SIM118 - a data set iterates over elements
        if not _left(ds, tag) or tag == _PIXEL_DATA:
            continue
        element = cast("RawDataElement", as_left(ds, tag))
        if element.length == _UNDEFINED:
            return False
        file.seek(element.value_tell)
        ds[tag] = element._replace(value=file.read(element.length))
    return True


def as_left(ds: Dataset, tag: int) -> DataElement | RawDataElement:
    """An attribute as it is, without reading what was left in the file."""
    return cast("DataElement | RawDataElement", ds.get_item(tag, keep_deferred=True))


def _left(ds: Dataset, tag: int) -> bool:
    """Whether an attribute's value was left in the file."""
    element = as_left(ds, tag)
    return isinstance(element, RawDataElement) and element.value is None and element.length != 0


_CUT = "the file ends in the middle of its data set; a whole file was expected: get a whole copy"


def ends_early(ds: FileDataset, size: int) -> bool:
    """Whether a file of so many bytes was cut inside its header.

    Bytes are left after the last element then, or missing from it.
    """
    if not len(ds):
        return True
    last = as_left(ds, max(ds.keys()))
    if not isinstance(last, RawDataElement) or last.length == _UNDEFINED:
        return False
    if is_deflated(ds):
        return len(last.value or b"") != last.length
    return last.value_tell + last.length != size


def check_complete(ds: FileDataset, size: int) -> None:
    """Refuse a data set without pixel data whose file of ``size`` bytes was cut.

    Raises
    ------
    TruncatedFileError
    """
    if not any(name in ds for name in PIXEL_KEYWORDS) and ends_early(ds, size):
        raise TruncatedFileError(_CUT)


def complete_meta(ds: FileDataset, notes: list[str]) -> str:
    """Give and say which transfer syntax the data set has, where the file does not."""
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


def _note_codestream(
    start_of: bytes, layout: pixels.Layout, transfer_syntax: str, notes: list[str]
) -> None:
    """Say where a JPEG 2000 codestream and the header differ; readers differ in which they
    believe.
    """
    if transfer_syntax not in (JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL):
        return
    start = start_of.find(b"\xff\x4f\xff\x51")
    found = get_j2k_parameters(start_of[start : start + 64]) if start >= 0 else {}
    if found and found["is_signed"] != layout.signed:
        notes.append(
            f"the JPEG 2000 codestream says {'signed' if found['is_signed'] else 'unsigned'} "
            "where the header says "
            f"{'signed' if layout.signed else 'unsigned'}; the header was believed, and what is "
            "written agrees with it"
        )


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
    with open_file(path) as file:
        ds = parse(file, deferred=True)
    check_complete(ds, path.stat().st_size)
    notes: list[str] = []
    image = image_of(ds, path, complete_meta(ds, notes), notes)
    if image.is_lossy:
        raise pixels.not_writable(image.transfer_syntax)
    return image


def image_of(
    ds: FileDataset, path: Path | None, transfer_syntax: str, notes: list[str]
) -> Instance:
    """The image in a data set that was read from a path, or from elsewhere.

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
    if not any(name in ds for name in PIXEL_KEYWORDS):
        raise NotAnImageError(
            "the file has no pixel data; a DICOM image was expected: leave it out"
        )
    layout = pixels.layout_of(ds, transfer_syntax)
    pixels.check_syntax(transfer_syntax)
    stored = None if path is None else _stored(ds, path, layout)
    start_of = ds.PixelData[:_LOOK] if stored is None else stored.read(0, _LOOK)
    try:
        frames = _frames_of(ds, layout, transfer_syntax, stored)
        if transfer_syntax in pixels.LOSSY:
            frames.read(0, 1)  # Decoders know only part of what there is.
    except TruncatedFileError:
        if transfer_syntax in pixels.LOSSY:
            raise pixels.not_readable(transfer_syntax) from None
        raise
    _note_codestream(start_of, layout, transfer_syntax, notes)
    return Instance(
        dataset=ds,
        frames=frames,
        legal=layout.legal,
        padding=pixels.padding_of(ds, layout),
        inverted=ds.get("PhotometricInterpretation") == "MONOCHROME1",
        transfer_syntax=transfer_syntax,
        layout=layout,
        path=path,
        notes=notes,
    )


def _stored(ds: FileDataset, path: Path, layout: pixels.Layout) -> Stored | None:
    """Where pixel data that are long, as they are or decoded, lie in their file; None for those to
    be held in memory.
    """
    element = as_left(ds, _PIXEL_DATA)
    if not isinstance(element, RawDataElement) or is_deflated(ds):
        return None
    if not _left(ds, _PIXEL_DATA) and layout.frames * layout.frame_bytes <= HELD:
        return None
    return Stored(
        path, element.value_tell, None if element.length == _UNDEFINED else element.length
    )


def _frames_of(
    ds: Dataset, layout: pixels.Layout, transfer_syntax: str, stored: Stored | None
) -> Frames:
    """The frames, from their file where they were left there and can be told apart; in memory
    otherwise.
    """
    if stored is not None and transfer_syntax in pixels.NATIVE and not layout.swapped:
        return NativeFrames(stored, layout)
    if stored is not None and transfer_syntax not in pixels.NATIVE:
        pixels.check_decoder(transfer_syntax)
        fragments = find_fragments(stored, layout.frames)
        if fragments is not None:
            return EncapsulatedFrames(stored, ds, layout, transfer_syntax, fragments)
    planes = np.empty(layout.shape, dtype=np.int32)
    for number, plane in enumerate(pixels.iter_planes(ds, layout, transfer_syntax)):
        planes[number] = plane
    return HeldFrames(planes)


def _native_data(instance: Instance, planes: NDArray[np.int32]) -> bytes:
    """The pixel data with new values in it: bits outside Bits Stored, and bytes after the last
    frame, as they were.
    """
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


def _native_parts(frames: Frames, source: NativeFrames, layout: pixels.Layout) -> Iterator[bytes]:
    """As `_native_data`, in parts, for pixel data that are in their file."""
    dtype = pixels.word_type(layout)
    for start, window in frames.windows():
        before = source.words(start, start + len(window))
        for plane, old in zip(window, before, strict=True):
            yield pixels.words_of(plane, layout, old).astype(dtype, copy=False).tobytes()
    yield source.rest()


def _encode_frames(instance: Instance, frames: Frames) -> Iterator[tuple[NDArray[np.int32], bytes]]:
    """Encode frame after frame in the instance's own transfer syntax: what was encoded, and as
    what.
    """
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
    before = _rle_words(instance) if rle else None
    for plane in frames:
        words = pixels.words_of(plane, layout, None if before is None else next(before))
        source = words if rle or not layout.signed else words.view(f"i{words.itemsize}")
        yield plane, bytes(encoder.encode(source, **options))


def _rle_words(instance: Instance) -> Iterator[pixels.Words]:
    """Each frame's words as the instance has them."""
    frames = instance.frames
    if isinstance(frames, EncapsulatedFrames):
        return (frames.rle_words(number) for number in range(len(frames)))
    return pixels.rle_words(instance.dataset, instance.layout)


def _put_native(out: Dataset, data: bytes | BufferedIOBase, vr: str) -> None:
    out[_PIXEL_DATA] = DataElement(_PIXEL_DATA, vr, data)


def _item(length: int) -> bytes:
    """The tag and length of an item of encapsulated pixel data."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, length)


def _put_encapsulated(out: Dataset, encoded: Iterator[bytes], count: int, spool: Spool) -> None:
    """Put frames as they are encoded into ``spool`` and, from there, into ``out`` (PS3.5 section
    A.4).
    """
    offsets, lengths = [], []
    spool.add(b"\0" * (8 + 4 * count))
    first = spool.length
    for frame in encoded:
        data = frame + b"\0" * (len(frame) % 2)
        offsets.append(spool.add(_item(len(data)) + data) - first)
        lengths.append(len(data))
    if "ExtendedOffsetTable" in out or spool.length - first > _LARGEST_OFFSET_TABLE:
        out.ExtendedOffsetTable = struct.pack(f"<{count}Q", *offsets)
        out.ExtendedOffsetTableLengths = struct.pack(f"<{count}Q", *lengths)
        # The basic table is empty then; the room that was kept for it is passed over.
        start, table = first - 8, _item(0)
    else:
        start, table = 0, _item(4 * count) + struct.pack(f"<{count}I", *offsets)
    spool.put(start, table)
    element = DataElement(_PIXEL_DATA, "OB", Parts(spool.parts(start), spool.length - start))
    element.is_undefined_length = True
    out[_PIXEL_DATA] = element


def _as_explicit(instance: Instance, frames: Frames, out: Dataset) -> None:
    """Put native pixel data and say explicit little endian."""
    layout = replace(instance.layout, big_endian=False, swapped=False)
    dtype = pixels.word_type(layout)
    length = layout.frames * layout.frame_bytes
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in out:
            del out[keyword]

    def parts() -> Iterator[bytes]:
        for plane in frames:
            yield pixels.words_of(plane, layout).astype(dtype, copy=False).tobytes()
        yield b"\0" * (length % 2)

    _put_native(out, Parts(parts, length + length % 2), "OW")


def _checked(
    encoded: Iterator[tuple[NDArray[np.int32], bytes]], instance: Instance
) -> Iterator[bytes]:
    """Encoded frames, each decoded again before it is given on."""
    layout = replace(instance.layout, frames=1)
    header = pixels.pixel_header(instance.dataset, instance.transfer_syntax)
    for wanted, frame in encoded:
        single = pixels.single_frame(header, encapsulate([frame]))
        if not np.array_equal(
            next(pixels.iter_planes(single, layout, instance.transfer_syntax)), wanted
        ):
            raise DoesNotComeBackError("the encoder does not give a frame back")
        yield frame


def _put_planes(instance: Instance, frames: Frames, out: Dataset, spool: Spool) -> list[str]:
    """Replace the pixel data of ``out``, keeping the transfer syntax where an encoder for it
    exists.
    """
    syntax, source = instance.transfer_syntax, instance.frames
    if isinstance(source, NativeFrames):
        vr = as_left(instance.dataset, _PIXEL_DATA).VR
        _put_native(
            out,
            Parts(lambda: _native_parts(frames, source, instance.layout), source.length),
            "OB" if vr == "OB" else "OW",
        )
        return []
    if syntax in pixels.NATIVE:
        _put_native(out, _native_data(instance, frames.whole()), instance.dataset["PixelData"].VR)
        return []
    why = "nothing installed encodes it"
    if syntax in _ENCODERS and get_encoder(UID(syntax)).is_available:
        try:
            _put_encapsulated(
                out, _checked(_encode_frames(instance, frames), instance), len(frames), spool
            )
        except (RuntimeError, ValueError, DoesNotComeBackError, TruncatedFileError):
            why = "its encoder does not give these pixels back"
        else:
            return []
    _as_explicit(instance, frames, out)
    return [
        f"written as {ExplicitVRLittleEndian.name}: the source is {UID(syntax).name}, and {why}"
    ]


def _verify(written: Path, instance: Instance, frames: Frames) -> None:
    found = read_instance(written).frames
    if found.shape != instance.layout.shape or not all(
        np.array_equal(found.read(start, start + len(wanted)), wanted)
        for start, wanted in frames.windows()
    ):
        raise DoesNotComeBackError(
            "what was about to be written does not decode to the pixels it was made from; "
            "nothing was written: report this file"
        )


def _adjust_extremes(out: Dataset, cover: Frames, ends: tuple[int, int], allocated: int) -> None:
    """Keep Smallest and Largest Image Pixel Value true where they were; ``ends`` are the new
    ones.
    """
    keywords = ("SmallestImagePixelValue", "LargestImagePixelValue")
    if not any(isinstance(out.get(keyword), int) for keyword in keywords):
        return
    mask = (1 << allocated) - 1
    for keyword, before, after in zip(keywords, cover.extremes(), ends, strict=True):
        value = out.get(keyword)
        if (
            isinstance(value, int)
            and value & mask == before & mask
            and value & mask != after & mask
        ):
            # The element's own VR may disagree with the pixels' sign: the word is what counts.
            new = after & 0xFFFF
            out[keyword].value = new - 0x10000 if out[keyword].VR == "SS" and new > 0x7FFF else new


def encoded_value(instance: Instance, frames: Frames, source: Instance) -> Iterator[bytes]:
    """The value of pixel data in an instance's transfer syntax, delimiter and padding included.

    Parameters
    ----------
    instance : Instance
        Gives header and transfer syntax.
    frames : Frames
        Stored values int32 [F, H, W].
    source : Instance
        What ``frames`` were read from: where it is in the same transfer syntax, its bits outside
        Bits Stored and what follows the last frame stay as they are.

    Raises
    ------
    ValueError
        Nothing installed encodes the transfer syntax.
    """
    syntax, layout = instance.transfer_syntax, instance.layout
    if syntax in pixels.NATIVE and syntax == source.transfer_syntax:
        if isinstance(source.frames, NativeFrames):
            yield from _native_parts(frames, source.frames, layout)
        else:
            yield _native_data(source, frames.whole())
    elif syntax in pixels.NATIVE:
        dtype, length = pixels.word_type(layout), layout.frames * layout.frame_bytes
        for plane in frames:
            yield pixels.words_of(plane, layout).astype(dtype, copy=False).tobytes()
        yield b"\0" * (length % 2)
    elif syntax in _ENCODERS and syntax == source.transfer_syntax:
        out = Dataset()
        with Spool() as spool:
            encoded = (frame for _, frame in _encode_frames(source, frames))
            _put_encapsulated(out, encoded, len(frames), spool)
            yield out[_PIXEL_DATA].value.read()
        yield b"\xfe\xff\xdd\xe0\0\0\0\0"
    else:
        raise ValueError(f"nothing installed encodes {UID(syntax).name}")


_MISFIT = "planes must have the shape of the instance's and stay inside its legal range"


def write_instance(
    instance: Instance,
    planes: NDArray[np.int32] | Frames,
    path: str | Path,
    overwrite: bool = False,
    mode: int = 0o666,
) -> list[str]:
    """Write an instance with other pixels.

    The transfer syntax stays where it is native or an encoder exists (RLE, JPEG-LS lossless, JPEG
    2000 lossless) and becomes explicit little endian otherwise. The file appears at once and whole,
    after what it holds was read back.

    Parameters
    ----------
    instance : Instance
        Gives the header and the bits outside Bits Stored.
    planes : int32 [frames, rows, cols] or Frames
        Inside the legal range.
    path : str or Path
    overwrite : bool
        Replace what is there; the instance's own file is never replaced.
    mode : int
        Permissions of the file, before the process's umask.

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
    frames = planes if isinstance(planes, Frames) else HeldFrames(planes)
    if frames.shape != instance.layout.shape:
        raise ValueError(_MISFIT)
    low, high = frames.extremes()
    if low < lo or high > hi:
        raise ValueError(_MISFIT)
    check_target(path, instance.path, overwrite)
    out = copy.deepcopy(instance.dataset)
    with Spool(path.parent) as spool:
        notes = _put_planes(instance, frames, out, spool)
        _adjust_extremes(out, instance.frames, (low, high), instance.layout.allocated)
        write_dataset(
            out, path, overwrite, lambda written: _verify(written, instance, frames), mode
        )
    return notes
