"""What an engine does: outline the body, embed a phase plane, measure phases. Graph, serving and
edge each have one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coverslip.errors import EngineError
from coverslip.plugins import ENGINES, load_plugin


@dataclass(frozen=True)
class EmbedRequest:
    """What an engine needs to embed; no key, record or bit of one among it. B images of H x W; Hb =
    H // 4, Wb = W // 4.

    Attributes
    ----------
    pixels : int32 [B, H, W]
        Stored values, grey levels.
    legal : int32 [B, 2]
        Lowest and highest legal pixel, inclusive.
    padding : int32 [B]
        Pixel padding value; below the legal range for none.
    phases : uint8 [B, Hb, Wb, 16]
        Wanted (c / step) mod 1 of every coefficient, in 1/256.
    slots : int32 [B, Hb, Wb]
        Slot of each block, 0 to 8190.
    coefficients : float32 [B, 16]
        1 = carries, 0 = is left alone; row-major, index 0 is DC.
    step : float32 [B]
        Grey levels, above 0.
    votes : int32 [B]
        Carriers wanted in each slot, at least 1.
    margin : int32 [B]
        Pixels kept clear around the body, 0 to 32.
    """

    pixels: NDArray[np.int32]
    legal: NDArray[np.int32]
    padding: NDArray[np.int32]
    phases: NDArray[np.uint8]
    slots: NDArray[np.int32]
    coefficients: NDArray[np.float32]
    step: NDArray[np.float32]
    votes: NDArray[np.int32]
    margin: NDArray[np.int32]


@dataclass(frozen=True)
class Segmented:
    """The outlined body.

    Attributes
    ----------
    mask : uint8 [B, H, W]
        1 = body, without margin.
    score : float32 [B]
        Best detection's score; 0 where no body was found.
    """

    mask: NDArray[np.uint8]
    score: NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """A stego image.

    Attributes
    ----------
    stego : int32 [B, H, W]
    mask : uint8 [B, H, W]
        1 = body, without margin.
    carriers : uint8 [B, Hb, Wb]
        1 = the block carries.
    """

    stego: NDArray[np.int32]
    mask: NDArray[np.uint8]
    carriers: NDArray[np.uint8]


@dataclass(frozen=True)
class Measured:
    """What a reader measures.

    Attributes
    ----------
    phases : uint8 [B, Hb, Wb, 16]
        (c / step) mod 1 of every coefficient, in 1/256.
    mask : uint8 [B, H, W]
        1 = body, without margin.
    """

    phases: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Engine(Protocol):
    """A runtime that holds the released model."""

    @property
    def name(self) -> str:
        """What the command line calls it."""
        ...

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        """Outline the body in pixels int32 [B, H, W]."""
        ...

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embed a phase plane into each image."""
        ...

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        """Measure the phases of pixels int32 [B, H, W] at step float32 [B]."""
        ...


class SignatureEngine(ABC):
    """An engine over a model with the signatures ``segment``, ``embed`` and ``extract``; a runtime
    says how one is run.
    """

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        """Outline the body in pixels int32 [B, H, W]."""
        out = self._run("segment", {"pixels": pixels})
        return Segmented(out["mask"], out["score"])

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embed a phase plane into each image."""
        out = self._run("embed", vars(request))
        return Embedded(out["stego"], out["mask"], out["carriers"])

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        """Measure the phases of pixels int32 [B, H, W] at step float32 [B]."""
        out = self._run("extract", {"pixels": pixels, "step": step})
        return Measured(out["phases"], out["mask"])

    @abstractmethod
    def _run(self, signature: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs of a signature by name, for inputs by name."""


def open_engine(
    name: str = "litert", model: Path | str | None = None, *, threads: int | None = None
) -> Engine:
    """Open a runtime with the released model.

    Parameters
    ----------
    name : str
        ``litert``, or ``tensorflow`` where it is installed.
    model : Path or str, optional
        Another model than the released one: a .tflite file, or a SavedModel's folder.
    threads : int, optional
        Of LiteRT; TensorFlow takes the cores it finds.

    Raises
    ------
    EngineError
        There is no such runtime, or it is not installed.
    ModelMissingError
        The model is not there.
    """
    try:
        kind = load_plugin(ENGINES, name)
    except LookupError:
        raise EngineError(
            f"there is no engine '{name}': expected litert or tensorflow; install what provides it"
        ) from None
    except ModuleNotFoundError as error:
        raise EngineError(
            f"engine '{name}' needs {error.name}, which is not installed: install "
            f"'coverslip[{name}]'"
        ) from None
    engine: Engine = kind.open(model, threads)
    return engine
