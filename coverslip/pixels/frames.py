"""Frames read a few at a time, so that a long instance is never in memory as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from coverslip.pixels.scratch import ScratchFile

WINDOW = 8
"""Frames in memory at the same time."""


class Frames(ABC):
    """Planes int32 [frames, rows, cols] that are read or computed on demand.

    Parameters
    ----------
    shape : (int, int, int)
        Frames, rows, columns.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """Frames ``start`` to ``stop``, exclusive: int32 [stop - start, rows, cols]."""

    @property
    def size(self) -> int:
        """Pixels of all frames."""
        frames, rows, cols = self.shape
        return frames * rows * cols

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int32]: ...

    @overload
    def __getitem__(self, index: slice) -> NDArray[np.int32]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.int32]:
        wanted = range(len(self))[index]
        if isinstance(wanted, int):
            plane: NDArray[np.int32] = self.read(wanted, wanted + 1)[0]
            return plane
        if wanted.step != 1:
            raise ValueError("frames come in order: leave the slice's step out")
        return self.read(wanted.start, max(wanted.start, wanted.stop))

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        for number in range(len(self)):
            yield self[number]

    def windows(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """All frames in order, `WINDOW` at a time, with the number of the first of them."""
        for start in range(0, len(self), WINDOW):
            yield start, self.read(start, min(start + WINDOW, len(self)))

    def extremes(self) -> tuple[int, int]:
        """Lowest and highest value of all frames; reads every frame."""
        ends = [(int(window.min()), int(window.max())) for _, window in self.windows()]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def whole(self) -> NDArray[np.int32]:
        """All frames in memory."""
        return self.read(0, len(self))


class HeldFrames(Frames):
    """Frames of an array int32 [frames, rows, cols] in memory."""

    def __init__(self, array: NDArray[np.int32]) -> None:
        frames, rows, cols = array.shape
        super().__init__((frames, rows, cols))
        self._array = array

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`; a view."""
        return self._array[start:stop]


class MappedFrames(Frames):
    """Frames with a function applied to their values.

    Parameters
    ----------
    frames : Frames
    function : callable
        From int32 [n, rows, cols] to the same type and shape.
    """

    def __init__(
        self, frames: Frames, function: Callable[[NDArray[np.int32]], NDArray[np.int32]]
    ) -> None:
        super().__init__(frames.shape)
        self._frames = frames
        self._function = function

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`."""
        return self._function(self._frames.read(start, stop))


class SpooledFrames(Frames):
    """Frames in a scratch file, added one window after the other, two bytes a pixel.

    Parameters
    ----------
    shape : (int, int, int)
        Shape of all frames once they are added.
    legal : (int, int)
        Lowest and highest value, inclusive; at most 16 bits apart.
    folder : Path, optional
        As for `ScratchFile`.
    """

    def __init__(
        self, shape: tuple[int, int, int], legal: tuple[int, int], folder: Path | None = None
    ) -> None:
        super().__init__(shape)
        self._legal = legal
        self._file = ScratchFile(folder)

    def add(self, planes: NDArray[np.int32]) -> None:
        """Add the next frames, int32 [n, rows, cols].

        Raises
        ------
        ValueError
            A value is outside the legal range.
        """
        low, high = self._legal
        if int(planes.min()) < low or int(planes.max()) > high:
            raise ValueError("planes must stay inside the legal range")
        self._file.add((planes - low).astype(np.uint16).tobytes())

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`."""
        length = self.shape[1] * self.shape[2] * 2
        data = self._file.get(start * length, (stop - start) * length)
        return np.frombuffer(data, dtype=np.uint16).reshape(stop - start, *self.shape[1:]).astype(
            np.int32
        ) + np.int32(self._legal[0])
