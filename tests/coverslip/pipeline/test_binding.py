"""The level T, and the blocks that reach it: the same in cover and stego, whatever the image is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverslip.dicom.instance import Instance
from coverslip.dicom.objects import read_object
from coverslip.engine import EmbedRequest
from coverslip.errors import DamagedMessageError
from coverslip.pipeline.binding import (
    DIGEST_BYTES,
    BindingSeal,
    Brightness,
    bind,
    content_seal,
    dark_air,
    matches,
    measure_brightness,
    pack,
    unpack,
)
from coverslip.pipeline.embedding import narrowed_planes
from coverslip.pipeline.planes import Planes
from coverslip.pixels.frames import HeldFrames
from coverslip.scheme.carriers import clear_blocks
from coverslip.scheme.dct import to_blocks
from coverslip.scheme.reference import ReferenceEngine
from tests.coverslip.pipeline.images import drawn


@dataclass(frozen=True)
class Drawn:
    """An image, and what the engine is asked to do with it."""

    instance: Instance
    mask: NDArray[np.uint8]
    step: float
    use_padding: bool
    seed: int


@st.composite
def images(draw: st.DrawFn) -> Drawn:
    """Any image of 8 to 16 bits with air, body and what else comes; not only sensible ones."""
    stored = draw(st.integers(8, 16))
    signed = draw(st.booleans())
    lo = -(1 << (stored - 1)) if signed else 0
    hi = lo + (1 << stored) - 1
    frames, rows, cols = draw(st.integers(1, 3)), draw(st.integers(4, 41)), draw(st.integers(4, 41))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    shape = (frames, rows, cols)
    span = draw(st.sampled_from([60, (hi - lo) // 3, hi - lo]))
    floor = draw(st.sampled_from([lo, lo + 20, hi - span // 2]))
    # Air that is nearly as uneven as the body is reaches up to T and beyond.
    air = random.integers(0, draw(st.sampled_from([2, 12, span // 3, span // 2, span])), shape)
    body = random.integers(span // 2, span + 1, shape)
    row, col = np.ogrid[:rows, :cols]
    inside = ((row - rows / 2) / rows) ** 2 + ((col - cols / 2) / cols) ** 2 < draw(
        st.sampled_from([0.02, 0.08, 0.3])
    )
    planes = np.where(inside, body, air) + floor
    for value in (lo, hi):  # extremes anywhere, in the air too
        planes[random.random(shape) < draw(st.sampled_from([0, 0, 0.02]))] = value
    flat = draw(st.integers(0, rows))
    planes[:, :flat] = (
        draw(st.sampled_from([floor, lo, hi])) if draw(st.booleans()) else planes[:, :flat]
    )
    planes = planes.clip(lo, hi).astype(np.int32)
    photometric = draw(st.sampled_from(["MONOCHROME2", "MONOCHROME1"]))
    if photometric == "MONOCHROME1":
        planes = np.int32(lo + hi) - planes
    ds = drawn(planes, stored=stored, signed=signed, photometric=photometric)
    padding = draw(st.sampled_from(["none", "one", "range"]))
    if padding != "none":
        ds.add_new(0x00280120, "SS" if signed else "US", int(planes.flat[seed % planes.size]))
    if padding == "range":
        limit = min(int(planes.flat[seed % planes.size]) + 3, hi)
        ds.add_new(0x00280121, "SS" if signed else "US", limit)
    image = read_object(ds).image
    assert image is not None and np.array_equal(image.planes, planes)
    # What a network outlines may be anything, nothing among it.
    mask = np.where(random.random() < 0.3, 0, inside & (random.random((rows, cols)) < 0.95))
    step = draw(st.sampled_from([0.5, 4.0, 8.0, 37.3, 300.0]))
    return Drawn(image, mask.astype(np.uint8), step, draw(st.booleans()), seed)


def embed_anything(planes: Planes, image: Drawn) -> tuple[HeldFrames, int]:
    """Stego frames with phases that mean nothing, and the number of blocks that carry them."""
    random = np.random.default_rng(image.seed + 1)
    frames, rows, cols = planes.pixels.shape
    blocks = (frames, rows // 4, cols // 4)
    request = EmbedRequest(
        pixels=planes.pixels.whole(),
        legal=np.tile(np.array(planes.legal, np.int32), (frames, 1)),
        padding=np.full(frames, planes.padding, np.int32),
        phases=random.integers(0, 256, (*blocks, 16), dtype=np.uint8),
        slots=random.integers(0, 30, blocks, dtype=np.int32),
        coefficients=np.ones((frames, 16), np.float32),
        step=np.full(frames, image.step, np.float32),
        votes=np.full(frames, 5, np.int32),
        margin=np.zeros(frames, np.int32),
    )
    # What keeps T must not depend on the judges of air: every block inside the range may carry.
    with patch("coverslip.scheme.reference.allowed_blocks", clear_blocks):
        done = ReferenceEngine(lambda _: image.mask).embed(request)
    stored = image.instance.frames.whole()
    return HeldFrames(planes.back(stored, done.stego)), int(done.carriers.sum())


def brightness_of(instance: Instance) -> Brightness:
    return measure_brightness(dark_air(instance), instance.legal[0])


def assert_bound(image: Drawn) -> int:
    """Fail unless what reaches T is the same after embedding; the number of carriers."""
    instance = image.instance
    brightness = brightness_of(instance)
    level = brightness.level_for(image.step)
    if level is None:
        return 0
    planes = narrowed_planes(instance, brightness, level, image.use_padding)
    frames, carriers = embed_anything(planes, image)
    stego = replace(instance, frames=frames)
    before, after = (dark_air(each).whole() for each in (instance, stego))
    for cover, plane in zip(before, after, strict=True):
        reaching = to_blocks(cover).max(axis=-1) >= level
        assert np.array_equal(reaching, to_blocks(plane).max(axis=-1) >= level)
        assert np.array_equal(to_blocks(cover)[reaching], to_blocks(plane)[reaching])
    assert before.min() <= after.min(), "nothing gets darker than the cover's darkest pixel"
    assert matches(dark_air(stego), bind(dark_air(instance), level))
    return carriers


@given(images())
@settings(max_examples=150, deadline=None)
def test_what_reaches_the_level_is_the_same_in_cover_and_stego(image: Drawn) -> None:
    event("carries" if assert_bound(image) else "carries nothing")


def head_and_air(rows: int, cols: int, seed: int = 0) -> NDArray[np.int32]:
    random = np.random.default_rng(seed)
    row, col = np.ogrid[:rows, :cols]
    body = ((row / rows - 0.5) / 0.3) ** 2 + ((col / cols - 0.5) / 0.3) ** 2 < 1
    noise = random.integers(0, 9, (1, rows, cols))
    return (np.where(body, 900, 20) + noise).astype(np.int32)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(("rows", "cols"), [(128, 128), (125, 131)])
def test_a_head_in_air_carries_many_blocks_and_stays_bound(
    photometric: str, rows: int, cols: int
) -> None:
    planes = head_and_air(rows, cols)
    mask = (planes[0] > 400).astype(np.uint8)
    if photometric == "MONOCHROME1":
        planes = np.int32(4095) - planes
    image = read_object(drawn(planes, stored=12, photometric=photometric)).image
    assert image is not None
    # Of such a small picture the hull and its margin leave little more than the corners.
    assert assert_bound(Drawn(image, mask, 8.0, False, 3)) > 50


def level_by_definition(planes: NDArray[np.int32]) -> int | None:
    """T by sorting: the definition in the module's words."""
    blocks = np.concatenate([to_blocks(plane).reshape(-1, 16) for plane in planes]).astype(int)
    uneven = np.sort(blocks[np.ptp(blocks, axis=1) > 0].sum(axis=1))
    above = np.sort(planes[planes > planes.min()].astype(int))
    if not len(uneven) or not len(above):
        return None
    air = uneven[int(0.03 * (len(uneven) - 1))] / 16
    bright = above[int(0.98 * (len(above) - 1))]
    level = int(np.floor((3 * air + bright) / 4))
    return level if level > air else None


@given(images())
@settings(max_examples=60, deadline=None)
def test_the_level_is_a_quarter_of_the_way_from_air_to_bright(image: Drawn) -> None:
    frames = dark_air(image.instance)
    measured = brightness_of(image.instance)
    assert measured.level == level_by_definition(frames.whole())
    assert measured == measure_brightness(HeldFrames(frames.whole()), image.instance.legal[0])
    assert (measured.lowest, measured.highest) == frames.extremes()


@pytest.mark.parametrize("value", [0, 17, 65535])
def test_an_image_of_one_value_has_no_level(value: int) -> None:
    planes = np.full((2, 9, 12), value, np.int32)
    image = read_object(drawn(planes)).image
    assert image is not None
    assert brightness_of(image).level is None
    assert brightness_of(image).level_for(8.0) is None


@given(st.floats(0.1, 3000), st.integers(1, 500), st.integers(0, 3000))
def test_a_large_step_raises_the_level_and_never_above_the_bright_end(
    step: float, room: int, height: int
) -> None:
    brightness = Brightness(0, 4000, air=30, bright=30 + room + height, level=30 + room)
    level = brightness.level_for(step)
    if level is None:
        assert 30 + int(1.6 * step) >= brightness.bright or room >= brightness.bright - 30
    else:
        assert max(30 + room, 30 + int(1.6 * step)) == level < brightness.bright


def test_one_grey_level_anywhere_in_a_block_that_reaches_the_level_is_noticed() -> None:
    planes = head_and_air(41, 46)
    image = read_object(drawn(planes, stored=12)).image
    assert image is not None
    level = brightness_of(image).level
    assert level is not None
    bound = bind(image.frames, level)
    reaching = np.kron(to_blocks(planes[0]).max(axis=-1) >= level, np.ones((4, 4), bool))
    noticed = np.ones(planes.shape[1:], bool)
    noticed[:40, :44] = reaching
    for row, col in [*np.argwhere(reaching)[::97], (40, 0), (0, 45), (40, 45)]:
        changed = planes.copy()
        changed[0, row, col] += 1
        assert not matches(HeldFrames(changed), bound), (row, col)
    for row, col in np.argwhere(~noticed)[::97]:
        changed = planes.copy()
        changed[0, row, col] += 1
        assert matches(HeldFrames(changed), bound), (row, col)


def test_blocks_that_change_places_and_frames_that_do_are_noticed() -> None:
    planes = np.concatenate([head_and_air(40, 40, seed) for seed in range(2)])
    bound = bind(HeldFrames(planes), 200)
    moved = planes.copy()
    moved[0, 16:20, 12:16], moved[0, 16:20, 16:20] = (
        planes[0, 16:20, 16:20],
        planes[0, 16:20, 12:16],
    )
    for other in (moved, planes[::-1], planes[:1], planes.transpose(0, 2, 1)):
        assert not matches(HeldFrames(np.ascontiguousarray(other)), bound)


BINDINGS = st.none() | st.builds(
    BindingSeal,
    st.none() | st.integers(-(2**15), 2**16),
    st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES),
)


@given(BINDINGS, st.binary(min_size=1, max_size=200))
def test_a_binding_and_a_record_come_apart_as_they_were(
    bound: BindingSeal | None, record: bytes
) -> None:
    content = pack(bound, record)
    assert len(content) == len(record) + (1 if bound is None else 21)
    assert unpack(content) == (bound, record)


@given(st.binary(max_size=60))
def test_any_content_has_a_binding_or_is_damaged(content: bytes) -> None:
    try:
        bound, record = unpack(content)
    except DamagedMessageError:
        return
    # That of a whole object has no level, and room for one.
    assert pack(bound, record) == content or (bound is not None and bound.level is None)


def test_a_bound_object_is_its_header_and_its_pixels() -> None:
    seals = {content_seal(a, b).digest for a in (b"one", b"two") for b in (b"", b"pixels")}
    assert len(seals) == 4
