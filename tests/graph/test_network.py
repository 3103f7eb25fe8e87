"""The outline: preprocessing, regions, paste, and the whole network in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from scipy import ndimage

from tests.paths import ROOT

tf = pytest.importorskip("tensorflow")
pytest.importorskip("official.vision")

from coverslip_graph.network import Network, write_weights  # noqa: E402
from coverslip_graph.paste import paste  # noqa: E402
from coverslip_graph.preprocess import SIDE, hat_weights, prepare  # noqa: E402
from coverslip_graph.refine import CELLS, refine  # noqa: E402
from coverslip_graph.regions import HatAligner, greedy  # noqa: E402

pytestmark = pytest.mark.slow
"""These tests run networks, or files by the dozen."""

WEIGHTS = ROOT / "models" / "weights.npz"


def phantom(height: int, width: int, seed: int = 0) -> NDArray[np.int32]:
    """A bright noisy ellipse on a dark noisy ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:height, :width]
    body = ((rows / height - 0.5) / 0.35) ** 2 + ((columns / width - 0.5) / 0.4) ** 2 < 1
    return np.where(
        body, 1000 + rng.normal(0, 30, body.shape), 20 + rng.normal(0, 5, body.shape)
    ).astype(np.int32)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.load(WEIGHTS)


class TestPrepare:
    def test_resampling_rows_sum_to_one(self) -> None:
        weights = hat_weights(tf.constant([0.1, 3.0, 250.0]), tf.constant(100), tf.constant(2.5))
        assert np.allclose(np.sum(weights, axis=1), 1.0, atol=1e-5)

    def test_a_frame_sized_picture_is_not_resampled(self) -> None:
        weights = hat_weights(
            tf.range(SIDE, dtype=tf.float32) + 0.5, tf.constant(SIDE), tf.constant(1.0)
        )
        assert np.array_equal(weights, np.eye(SIDE))

    def test_keeps_the_aspect_ratio(self) -> None:
        prepared = prepare(tf.constant(phantom(300, 600)[None]))
        assert np.allclose(prepared.shape, [128, 256])
        assert np.all(prepared.image[0, 128:] == 0) and np.any(prepared.image[0, 127] != 0)

    @pytest.mark.parametrize("level", [-32768, 0, 65535])
    def test_constant_images_stay_finite(self, level: int) -> None:
        image = prepare(tf.fill([1, 40, 50], level)).image
        assert np.all(np.isfinite(image)) and np.abs(image).max() <= 1.6

    def test_gain_and_offset_do_not_matter(self) -> None:
        pixels = phantom(256, 256)
        first = prepare(tf.constant(pixels[None])).image
        second = prepare(tf.constant((pixels * 7 - 20000)[None])).image
        assert np.allclose(first, second, atol=1e-3)

    def test_one_outlier_does_not_matter(self) -> None:
        pixels = phantom(512, 512)
        spoilt = pixels.copy()
        spoilt[250:260, 250:260] = 60000
        change = np.abs(
            prepare(tf.constant(pixels[None])).image - prepare(tf.constant(spoilt[None])).image
        )
        assert change[0, :100].max() < 0.02

    def test_background_changes_hardly_move_the_body(self) -> None:
        pixels = phantom(512, 512)
        noise = np.random.default_rng(1).integers(-8, 9, pixels.shape)
        stego = np.where(pixels < 500, pixels + noise, pixels)
        change = np.abs(
            prepare(tf.constant(pixels[None])).image - prepare(tf.constant(stego[None])).image
        )
        assert change[0, 96:160, 96:160].max() < 0.01

    def test_an_air_of_zeros_stays_where_it_was(self) -> None:
        # The lowest of many block means falls with the noise of an embedding; it used to shift the
        # square root of every dark pixel.
        pixels = np.where(phantom(512, 512) > 500, 30, 0).astype(np.int32)
        noise = np.random.default_rng(1).integers(-7, 8, pixels.shape)
        stego = np.where(
            (pixels == 0) & (np.random.default_rng(2).random(pixels.shape) < 0.1), noise, pixels
        )
        cover, after = (
            prepare(tf.constant(image[None])) for image in (pixels, stego.astype(np.int32))
        )
        quiet = ndimage.minimum_filter((pixels == stego).astype(np.uint8), 5)[::2, ::2] == 1
        assert np.abs(cover.image - after.image)[0][quiet].max() < 0.05


class TestRegions:
    def test_greedy_agrees_with_tensorflow(self) -> None:
        rng = np.random.default_rng(3)
        low = rng.uniform(0, 60, (2, 40, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 60, low.shape)], axis=-1).astype(
            np.float32
        )
        scores = rng.uniform(0.01, 1, (2, 40)).astype(np.float32)
        chosen, chosen_scores = greedy(tf.constant(boxes), tf.constant(scores), 6, 0.4)
        for image in range(2):
            wanted = tf.image.non_max_suppression(boxes[image], scores[image], 6, 0.4).numpy()
            assert np.allclose(chosen[image][: wanted.size], boxes[image][wanted], atol=1e-4)
            assert np.allclose(chosen_scores[image][: wanted.size], scores[image][wanted])

    def test_greedy_gives_score_zero_when_nothing_is_left(self) -> None:
        boxes = tf.constant([[[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.9]]])
        _, scores = greedy(boxes, tf.constant([[0.9, 0.8]]), 2, 0.5)
        assert np.allclose(scores, [[0.9, 0.0]])

    def test_aligner_samples_bilinearly(self) -> None:
        level = np.random.default_rng(4).normal(size=(1, 16, 16, 3)).astype(np.float32)
        box = np.array([[[8.0, 4.0, 60.0, 50.0]]], np.float32)
        crop = HatAligner(5, 2)({"2": tf.constant(level)}, tf.constant(box))[0, 0]
        steps = (np.arange(5) + 0.5) / 5
        rows, columns = (8 + 52 * steps) / 4 - 0.5, (4 + 46 * steps) / 4 - 0.5
        where = np.meshgrid(rows, columns, indexing="ij")
        wanted = [
            ndimage.map_coordinates(level[0, ..., c], where, order=1, mode="nearest")
            for c in range(3)
        ]
        assert np.allclose(crop, np.stack(wanted, axis=-1), atol=1e-5)


class TestPaste:
    BOX = (40.0, 20.0, 200.0, 180.0)

    def pasted(self, score: float, count: int) -> NDArray[np.float32]:
        plane: NDArray[np.float32] = paste(
            tf.ones([1, 1, 28, 28]), tf.constant([[self.BOX]]), tf.constant([[score]]), count
        ).numpy()
        return plane

    @pytest.mark.parametrize("count", [SIDE, SIDE // 2])
    def test_a_full_mask_fills_its_box(self, count: int) -> None:
        wanted = np.zeros((SIDE, SIDE), np.float32)
        wanted[40:200, 20:180] = 1
        step = SIDE // count
        assert np.allclose(self.pasted(0.5, count)[0], wanted[::step, ::step], atol=1e-5)

    def test_a_doubtful_detection_is_not_body(self) -> None:
        assert not self.pasted(0.49, SIDE).any()


def refined(pixels: NDArray[np.int32], probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Refine a probability [CELLS, CELLS] over the frame of an image [H, W]; mask uint8 [H, W]."""
    prepared = prepare(tf.constant(pixels[None]))
    mask = refine(
        tf.constant(probability[None]),
        prepared.plane,
        prepared.levels,
        tf.constant(pixels[None]),
        prepared.scale,
    )
    out: NDArray[np.uint8] = mask.numpy()[0]
    return out


class TestRefine:
    """A rim that is too wide moves to the edge in the pixels; else the network's mask stays."""

    @pytest.mark.parametrize("size", [(512, 512), (384, 274), (200, 256)])
    def test_a_wide_rim_goes_to_the_edge(self, size: tuple[int, int]) -> None:
        pixels = phantom(*size)
        body = pixels > 500
        cell = max(size) / CELLS
        rows = np.minimum(((np.arange(CELLS) + 0.5) * cell).astype(int), size[0] - 1)
        columns = np.minimum(((np.arange(CELLS) + 0.5) * cell).astype(int), size[1] - 1)
        covered = np.outer(np.arange(CELLS) < size[0] / cell, np.arange(CELLS) < size[1] / cell)
        wide = (
            ndimage.binary_dilation(body, iterations=round(1.5 * cell))[np.ix_(rows, columns)]
            & covered
        ).astype(np.float32)
        mask = refined(pixels, 0.9 * wide).astype(bool)
        wrong = np.count_nonzero(mask != body) / body.sum()
        assert wrong < 0.005
        assert (
            wrong
            < 0.1
            * np.count_nonzero(ndimage.binary_dilation(body, iterations=round(1.5 * cell)) != body)
            / body.sum()
        )

    def test_a_flat_image_keeps_the_networks_mask(self) -> None:
        probability = np.zeros((CELLS, CELLS), np.float32)
        probability[30:90, 40:100] = 1.0
        mask = refined(np.full((256, 256), 77, np.int32), probability)
        wanted = probability.repeat(2, axis=0).repeat(2, axis=1)
        assert np.count_nonzero(mask != wanted) / wanted.sum() < 0.06

    def test_dark_body_that_is_sure_stays_body(self) -> None:
        pixels = phantom(512, 512)
        probability = ((pixels > 500)[2::4, 2::4]).astype(np.float32)
        lung = np.zeros((512, 512), bool)
        lung[200:300, 84:180] = True  # behind a wall of 30 pixels
        mask = refined(np.where(lung, 20, pixels).astype(np.int32), probability)
        assert mask[lung].all()


class TestNetwork:
    def test_weights_survive_saving(self, network: Network, tmp_path: Path) -> None:
        network.save_weights(tmp_path / "again.npz")
        pixels = tf.constant(phantom(200, 180)[None])
        assert np.array_equal(
            Network.load(tmp_path / "again.npz").segment(pixels).mask, network.segment(pixels).mask
        )

    def test_refuses_other_weights(self, network: Network, tmp_path: Path) -> None:
        write_weights(tmp_path / "other.npz", [np.zeros(3, np.float32)])
        with pytest.raises(ValueError, match="1 arrays that do not fit"):
            network.load_weights(tmp_path / "other.npz")

    def test_outlines_a_head(self, network: Network) -> None:
        path = str(get_testdata_file("J2K_pixelrep_mismatch.dcm"))
        pixels = pydicom.dcmread(path).pixel_array.astype(np.int32)
        opened = ndimage.binary_opening(
            pixels > -300, iterations=3
        )  # Hounsfield units; skin is above
        parts, _ = ndimage.label(opened)
        wanted = ndimage.binary_fill_holes(parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1)
        outlined = network.segment(tf.constant(pixels[None]))
        mask = outlined.mask.numpy()[0].astype(bool)
        assert float(outlined.score[0]) > 0.9
        assert np.count_nonzero(mask & wanted) / np.count_nonzero(mask | wanted) > 0.9

    def test_images_of_a_batch_do_not_touch_each_other(self, network: Network) -> None:
        batch = np.stack([phantom(256, 200, seed) * (seed + 1) for seed in range(3)])
        together = network.segment(tf.constant(batch)).mask.numpy()
        alone = [network.segment(tf.constant(image[None])).mask.numpy()[0] for image in batch]
        assert np.mean(together != np.stack(alone)) < 1e-4

    def test_converts_with_builtin_ops_and_agrees(self, network: Network) -> None:
        interpreters = pytest.importorskip("ai_edge_litert.interpreter")
        traced = tf.function(
            network.segment, input_signature=[tf.TensorSpec([None, None, None], tf.int32, "pixels")]
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [traced.get_concrete_function()], network
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        interpreter = interpreters.Interpreter(model_content=converter.convert())
        where = interpreter.get_input_details()[0]["index"]
        for shape in [(1, 512, 512), (1, 256, 256), (1, 511, 511), (2, 300, 190), (1, 64, 64)]:
            pixels = np.stack([phantom(shape[1], shape[2], seed) for seed in range(shape[0])])
            interpreter.resize_tensor_input(where, shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(where, pixels)
            interpreter.invoke()
            outputs = [
                interpreter.get_tensor(detail["index"])
                for detail in interpreter.get_output_details()
            ]
            mask = next(output for output in outputs if output.dtype == np.uint8)
            assert np.mean(mask != traced(tf.constant(pixels)).mask.numpy()) < 1e-3
