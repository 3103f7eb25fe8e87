"""The fused graph: one definition, saved for TensorFlow and converted for LiteRT."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

from coverslip_graph import blocks as block
from coverslip_graph.carriers import (
    allowed_blocks,
    choose,
    measure_blocks,
    near_blocks,
    rank,
    touched_blocks,
)
from coverslip_graph.quantiser import measure, move, to_bytes


class Outliner(Protocol):
    """A network that finds the body; it shares nothing with the block work but its mask."""

    def segment(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mask uint8 [B, H, W] and best score float32 [B] of pixels int32 [B, H, W]."""
        ...


def _spec(name: str, dtype: tf.DType, *shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


PIXELS = _spec("pixels", tf.int32, None, None, None)
STEP = _spec("step", tf.float32, None)
EMBED = (
    PIXELS,
    _spec("legal", tf.int32, None, 2),
    _spec("padding", tf.int32, None),
    _spec("phases", tf.uint8, None, None, None, 16),
    _spec("slots", tf.int32, None, None, None),
    _spec("coefficients", tf.float32, None, 16),
    STEP,
    _spec("votes", tf.int32, None),
    _spec("margin", tf.int32, None),
)


class Coverslip(tf.Module):
    """What a runtime serves: `segment`, `embed` and `extract`, as `coverslip.engine.Engine`
    describes them.

    Parameters
    ----------
    network : Outliner
        Finds the body; its variables are saved with the module when it is a `tf.Module`.
    """

    def __init__(self, network: Outliner) -> None:
        super().__init__(name="coverslip")
        self.network = network

    @tf.function(input_signature=[PIXELS])
    def segment(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Outline the body: mask uint8 [B, H, W] and score float32 [B]."""
        mask, score = self.network.segment(pixels)
        return {"mask": mask, "score": score}

    @tf.function(input_signature=EMBED)
    def embed(
        self,
        pixels: tf.Tensor,
        legal: tf.Tensor,
        padding: tf.Tensor,
        phases: tf.Tensor,
        slots: tf.Tensor,
        coefficients: tf.Tensor,
        step: tf.Tensor,
        votes: tf.Tensor,
        margin: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Embed a phase plane: stego int32 [B, H, W], mask uint8 [B, H, W], carriers uint8 [B, H //
        4, W // 4].
        """
        mask, _ = self.network.segment(pixels)
        stego, carriers = embed_planes(
            pixels, mask, legal, padding, phases, slots, coefficients, step, votes, margin
        )
        return {"stego": stego, "mask": mask, "carriers": carriers}

    @tf.function(input_signature=[PIXELS, STEP])
    def extract(self, pixels: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Measure phases: uint8 [B, H // 4, W // 4, 16] in 1/256 of a step, and the mask uint8 [B,
        H, W].
        """
        mask, _ = self.network.segment(pixels)
        return {"phases": measure_planes(pixels, step), "mask": mask}


def measure_planes(pixels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Phases uint8 [B, H // 4, W // 4, 16] of pixels int32 [B, H, W] at step float32 [B]; no
    network.
    """
    return to_bytes(measure(block.to_blocks(tf.cast(pixels, tf.float32)), step))


def embed_planes(
    pixels: tf.Tensor,
    mask: tf.Tensor,
    legal: tf.Tensor,
    padding: tf.Tensor,
    phases: tf.Tensor,
    slots: tf.Tensor,
    coefficients: tf.Tensor,
    step: tf.Tensor,
    votes: tf.Tensor,
    margin: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Embed a phase plane around a mask; no network. Parameters as in
    `coverslip.engine.EmbedRequest`, and mask uint8 [B, H, W].

    Returns
    -------
    stego : int32 [B, H, W]
    carriers : uint8 [B, H // 4, W // 4]
    """
    bounds = tf.cast(legal, tf.float32)
    cut = block.to_blocks(tf.cast(pixels, tf.float32))
    touched = touched_blocks(mask, margin)
    levels = measure_blocks(cut, tf.cast(padding, tf.float32))
    allowed = allowed_blocks(levels, touched, bounds)
    moved = move(cut, phases, coefficients, step, bounds)
    price = rank(moved.cost, near_blocks(touched), levels.uneven)
    carriers = choose(price, moved.usable * allowed, slots, votes)
    kept = moved.change * tf.expand_dims(carriers, 3)
    stego = pixels + tf.cast(block.from_blocks(kept, tf.shape(pixels)), tf.int32)
    return stego, tf.cast(carriers, tf.uint8)
