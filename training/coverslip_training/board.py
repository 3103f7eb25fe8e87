"""Shows a running training: lines with the time left, and TensorBoard's scalars and images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coverslip.metrics import iou
from coverslip.picture import grey
from coverslip_training.records import Slice
from coverslip_training.tasks import Outline

SHOWN = 6
"""Number of slices whose masks are drawn, the same ones at every checkpoint."""

WIDTH = 384
"""Longer side of an image, pixels."""

_LABEL, _NETWORK = (67, 195, 90), (214, 96, 77)


def choose(items: Sequence[Slice]) -> list[Slice]:
    """Choose `SHOWN` slices, spread over all of them."""
    picks = np.unique(np.linspace(0, len(items) - 1, min(SHOWN, len(items))).round().astype(int))
    return [items[pick] for pick in picks]


def draw(
    pixels: NDArray[np.int32], label: NDArray[np.uint8], outlined: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Draw a slice [H, W] with the label's outline in green and the network's in red.

    The result is uint8 [384, 384, 3], padded with black.
    """
    scale = WIDTH / max(pixels.shape)
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    canvas = cv2.cvtColor(np.asarray(cv2.resize(grey(pixels), size)), cv2.COLOR_GRAY2RGB)
    for mask, colour in ((label, _LABEL), (outlined, _NETWORK)):
        large = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST))
        lines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, lines, -1, colour, 1)
    frame = np.zeros((WIDTH, WIDTH, 3), np.uint8)
    frame[: size[1], : size[0]] = canvas
    return frame


class Board:
    """Writes TensorBoard's scalars and images of a run.

    Parameters
    ----------
    out : Path or None
        Folder for event files; None writes nothing, for all workers but the first.
    items : sequence of Slice
        Slices to draw masks on; they must not be trained on.
    """

    def __init__(self, out: Path | None, items: Sequence[Slice]) -> None:
        self._writer = (
            tf.summary.create_file_writer(str(out)) if out else tf.summary.create_noop_writer()
        )
        self._items = items

    def scalars(self, step: int, losses: Mapping[str, float], rate: float, speed: float) -> None:
        """Write losses by part, learning rate, and steps per second."""
        with self._writer.as_default(step=step):
            for name, value in losses.items():
                tf.summary.scalar(f"loss/{name}", value)
            tf.summary.scalar("learning_rate", rate)
            tf.summary.scalar("steps_per_second", speed)
        self._writer.flush()

    def images(self, step: int, outline: Outline) -> None:
        """Draw label and network's outline on the slices, and write their mean IoU."""
        if not self._items:
            return
        masks = [outline(item.pixels) for item in self._items]
        pairs = list(zip(self._items, masks, strict=True))
        frames = [draw(item.pixels, item.label, mask) for item, mask in pairs]
        overlap = np.mean([iou(mask, item.label) for item, mask in pairs])
        with self._writer.as_default(step=step):
            tf.summary.image("masks", np.stack(frames), max_outputs=len(frames))
            tf.summary.scalar("masks/iou", overlap)
        self._writer.flush()


class ProgressLog:
    """Prints lines with losses and the time left, above a bar on a terminal.

    Parameters
    ----------
    steps, first : int
        Total number of steps, and number of those done before.
    quiet : bool
        Print nothing, for all workers but the first.
    """

    def __init__(self, steps: int, first: int, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, soft_wrap=True, highlight=False)
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        self.bar = Progress(
            *columns, console=self.console, disable=not self.console.is_terminal, transient=True
        )
        self._task = self.bar.add_task("training", total=steps, completed=first)
        self._steps, self._step, self._time = steps, first, time.monotonic()

    def advance(self, step: int, losses: Mapping[str, float]) -> float:
        """Print a line after some steps.

        Returns
        -------
        float
            Steps per second since the last call.
        """
        now = time.monotonic()
        speed = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        minutes = (self._steps - step) / speed / 60
        parts = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
        self.console.print(
            f"step {step}/{self._steps}  {1 / speed:.2f} s/step  {minutes:.0f} min left  {parts}"
        )
        self.bar.update(self._task, completed=step)
        return speed
