"""Writes a DICOM image with other pixels, and reads it back before the file gets its name."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from coverslip.dicom.encoding import put_frames
from coverslip.dicom.parsing import Instance, read_instance
from coverslip.errors import DoesNotComeBackError
from coverslip.files import check_target, write_dataset
from coverslip.pixels.frames import Frames, HeldFrames
from coverslip.pixels.scratch import ScratchFile

_MISFIT = "planes must have the shape of the instance's and stay inside its legal range"


def write_instance(
    instance: Instance,
    planes: NDArray[np.int32] | Frames,
    path: str | Path,
    overwrite: bool = False,
    mode: int = 0o666,
) -> list[str]:
    """Write an instance with other pixels.

    The transfer syntax stays if it is native or an encoder exists (RLE, JPEG-LS lossless, JPEG 2000
    lossless) and becomes explicit little endian otherwise. The file appears at once and whole,
    after its content was read back.

    Parameters
    ----------
    instance : Instance
        The source of the header and of the bits outside Bits Stored.
    planes : int32 [frames, rows, cols] or Frames
        Inside the legal range.
    path : str or Path
    overwrite : bool
        Replace an existing file; the instance's own file is never replaced.
    mode : int
        Permissions of the file, before the process's umask.

    Returns
    -------
    list of str
        Remarks for the reader of a report, such as a change of transfer syntax.

    Raises
    ------
    ValueError
        The planes have another shape, or values outside the legal range.
    OutputExistsError
        There is a file at ``path``, or it is the input.
    DoesNotComeBackError
        The written file does not decode to ``planes``.
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
    with ScratchFile(path.parent) as scratch:
        notes = put_frames(instance, frames, out, scratch)
        _update_extremes(out, instance.frames, (low, high), instance.layout.allocated)
        write_dataset(
            out, path, overwrite, lambda written: _verify(written, instance, frames), mode
        )
    return notes


def _verify(written: Path, instance: Instance, frames: Frames) -> None:
    decoded = read_instance(written).frames
    if decoded.shape != instance.layout.shape or not all(
        np.array_equal(decoded.read(start, start + len(planes)), planes)
        for start, planes in frames.windows()
    ):
        raise DoesNotComeBackError(
            "what was about to be written does not decode to the pixels it was made from; "
            "nothing was written: report this file"
        )


def _update_extremes(
    out: Dataset, cover: Frames, extremes: tuple[int, int], allocated: int
) -> None:
    """Update Smallest and Largest Image Pixel Value, if they were right before."""
    keywords = ("SmallestImagePixelValue", "LargestImagePixelValue")
    if not any(isinstance(out.get(keyword), int) for keyword in keywords):
        return
    mask = (1 << allocated) - 1
    for keyword, before, after in zip(keywords, cover.extremes(), extremes, strict=True):
        value = out.get(keyword)
        if (
            isinstance(value, int)
            and value & mask == before & mask
            and value & mask != after & mask
        ):
            # The element's own VR may disagree with the pixels' sign: the word is what counts.
            new = after & 0xFFFF
            out[keyword].value = new - 0x10000 if out[keyword].VR == "SS" and new > 0x7FFF else new
