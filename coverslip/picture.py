"""Pictures for people: the outlined body, the carriers, the change. Pillow and numpy alone."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from coverslip.files import write_bytes_atomically
from coverslip.qr import symbol as symbols
from coverslip.scheme.dct import SIDE

if TYPE_CHECKING:
    from coverslip.pipeline import Embedding, Survey
    from coverslip.pixels.frames import Frames

_PANEL = 384
_CAPTION = 24
_GAP = 8
_BODY = np.array([214, 96, 77], dtype=np.float64)
_CARRIER = np.array([67, 147, 195], dtype=np.float64)


def grey(plane: NDArray[np.int32]) -> NDArray[np.uint8]:
    """A plane [H, W] as grey bytes, brightened by a square root.

    Black is the 1st percentile, white the 99.5th.
    """
    low, high = np.percentile(plane, (1, 99.5))
    scaled = np.clip((plane - low) / max(high - low, 1.0), 0, 1)
    return np.asarray(255 * np.sqrt(scaled), dtype=np.uint8)


def _tint(
    plane: NDArray[np.int32], where: NDArray[np.bool_], colour: NDArray[np.float64]
) -> NDArray[np.uint8]:
    base = np.repeat(grey(plane)[..., None], 3, axis=2).astype(np.float64)
    base[where] = 0.45 * base[where] + 0.55 * colour
    return base.astype(np.uint8)


def _block_pixels(blocks: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    full = np.zeros(shape, dtype=bool)
    rows, cols = (side * SIDE for side in blocks.shape)
    full[:rows, :cols] = np.kron(blocks, np.ones((SIDE, SIDE), dtype=bool))
    return full


def _difference(cover: NDArray[np.int32], stego: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Stego minus cover around mid grey, stretched to the largest change."""
    change = (stego - cover).astype(np.float64)
    return (127.5 + 127.5 * change / max(float(np.abs(change).max()), 1.0)).astype(np.uint8)


def _panel(picture: NDArray[np.uint8], caption: str, sharp: bool = False) -> Image.Image:
    image = Image.fromarray(picture).convert("RGB")
    scale = _PANEL / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    image = image.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)
    panel = Image.new("RGB", (_PANEL, _PANEL + _CAPTION), "white")
    panel.paste(image, ((_PANEL - image.width) // 2, _CAPTION + (_PANEL - image.height) // 2))
    ImageDraw.Draw(panel).text((4, 4), caption, fill="black", font=ImageFont.load_default(14))
    return panel


def _sheet(panels: list[Image.Image], columns: int, path: Path) -> None:
    rows = -(-len(panels) // columns)
    width, height = panels[0].size
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white"
    )
    for i, panel in enumerate(panels):
        sheet.paste(panel, ((i % columns) * (width + _GAP), (i // columns) * (height + _GAP)))
    _save_png(sheet, path)


def _save_png(image: Image.Image, path: Path) -> None:
    """Save a picture in place of an older one; its folder is created if missing."""
    stream = BytesIO()
    image.save(stream, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, stream.getvalue(), overwrite=True)


def save_symbol(symbol: NDArray[np.bool_], path: Path) -> None:
    """Save a QR symbol bool [n, n] with its quiet zone as PNG."""
    _save_png(Image.fromarray(symbols.render(symbol)), path)


def save_embedding(cover: NDArray[np.int32] | Frames, embedding: Embedding, path: Path) -> None:
    """Save cover, mask, carriers, stego, difference and the symbol read back, as one PNG.

    Parameters
    ----------
    cover : int32 [F, H, W] or Frames
    embedding : Embedding
        Its first carrying frame is drawn.
    path : Path
    """
    number = next(i for i, frame in enumerate(embedding.frames) if frame.votes is not None)
    frame = embedding.frames[number]
    assert frame.votes is not None
    plane, stego = cover[number], embedding.stego_frames[number]
    largest = int(np.abs(stego - plane).max())
    panels = [
        _panel(grey(plane), "cover"),
        _panel(_tint(plane, frame.mask > 0, _BODY), "mask: body, never touched"),
        _panel(
            _tint(plane, _block_pixels(frame.carriers, plane.shape), _CARRIER),
            f"carriers: {int(frame.carriers.sum())} blocks",
        ),
        _panel(grey(stego), "stego"),
        _panel(_difference(plane, stego), f"difference, at most {largest} grey levels"),
        _panel(
            symbols.render(frame.votes.symbol()), "QR symbol, read back from the stego", sharp=True
        ),
    ]
    _sheet(panels, 3, path)


def save_survey(survey: Survey, path: Path) -> None:
    """Save an image's first frame, its body and the background that may carry, as one PNG."""
    assert survey.source.image is not None
    assert survey.pixels is not None
    plane, pixels = survey.source.image.frames[0], survey.pixels
    panels = [
        _panel(grey(plane), "first frame"),
        _panel(_tint(plane, pixels.mask > 0, _BODY), "mask: body, never touched"),
        _panel(
            _tint(plane, _block_pixels(pixels.allowed, plane.shape), _CARRIER),
            f"may carry: {int(pixels.allowed.sum())} blocks",
        ),
    ]
    _sheet(panels, 3, path)
