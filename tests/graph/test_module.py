"""The fused graph in every runtime against the reference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coverslip.scheme.dct import to_blocks
from coverslip.scheme.quantise import measure, to_bytes
from tests.graph.planes import RANGES, reference, request, requests, stack

once = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
@given(requests())
@once
def test_stego_and_carriers_are_the_references(engine, wanted):
    embedded = engine.embed(wanted)
    stego, carriers = reference(wanted, embedded.mask)
    np.testing.assert_array_equal(embedded.carriers, carriers)
    difference = np.abs(embedded.stego - stego)
    # Float32 against float64: of these small planes' pixels, one in a million lies where it falls
    # the other way.
    assert difference.max() <= 1 and np.count_nonzero(difference) <= 1


@given(requests(steps=(1.0, 6.0, 8.0, 64.0)))
@once
def test_runtimes_agree_at_whole_steps_too(tensorflow_engine, litert_engine, wanted):
    ours, theirs = tensorflow_engine.embed(wanted), litert_engine.embed(wanted)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    np.testing.assert_array_equal(ours.carriers, theirs.carriers)
    np.testing.assert_array_equal(ours.stego, theirs.stego)


@given(requests(steps=(1.0, 6.7, 8.0, 64.0)))
@once
def test_only_carriers_change_and_they_read_back(engine, wanted):
    embedded = engine.embed(wanted)
    rows, cols = embedded.carriers.shape[1:]
    changed = embedded.stego != wanted.pixels
    assert not changed[:, rows * 4 :].any() and not changed[:, :, cols * 4 :].any()
    assert not to_blocks(changed[0]).any(axis=-1)[embedded.carriers[0] == 0].any()
    assert not changed[embedded.mask > 0].any()
    phases = engine.extract(embedded.stego, wanted.step).phases
    off = (phases - wanted.phases).astype(np.int8)[embedded.carriers > 0] * wanted.coefficients[0]
    assert not off.size or np.abs(off).max() <= 0.2 * 256 + 1


def test_an_image_where_no_block_may_carry_stays_as_it_is(engine):
    wanted = replace(
        request("scene", 64, 96, (0, 4095), 1), legal=np.array([[5000, 6000]], np.int32)
    )
    embedded = engine.embed(wanted)
    np.testing.assert_array_equal(embedded.stego, wanted.pixels)
    assert not embedded.carriers.any()


@given(requests(steps=(0.5, 1.0, 6.7, 8.0, 64.0)))
@once
def test_measured_phases_are_the_references_to_one_256th(engine, wanted):
    phases = engine.extract(wanted.pixels, wanted.step).phases[0]
    expected = to_bytes(measure(to_blocks(wanted.pixels[0]), float(wanted.step[0])))
    assert np.abs((phases - expected).astype(np.int8)).max() <= 1
    assert np.mean(phases != expected) < 0.01 or wanted.step[0] in (0.5, 1.0, 8.0, 64.0)


@pytest.mark.parametrize("legal", RANGES)
def test_at_most_one_pixel_in_100_000_differs_and_by_one_level(engine, legal):
    differing = total = 0
    for seed, kind in enumerate(["noise", "dark", "scene"]):
        wanted = request(kind, 256, 256, legal, seed, votes=1000, slots=1, margin=0)
        embedded = engine.embed(wanted)
        stego, carriers = reference(wanted, embedded.mask)
        both = np.repeat(np.repeat((carriers & embedded.carriers) > 0, 4, axis=1), 4, axis=2)
        difference = np.abs(stego - embedded.stego)[both]
        assert difference.max(initial=0) <= 1
        assert np.mean(carriers != embedded.carriers) < 1e-3
        differing, total = differing + np.count_nonzero(difference), total + difference.size
    assert total > 16000
    assert differing <= 1e-5 * max(total, 100_000)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (31, 50)])
def test_the_batch_changes_nothing(engine, height, width):
    kinds = ["scene", "dark", "noise", "floor", "scene"]
    ones = [
        request(
            kind,
            height,
            width,
            RANGES[seed],
            seed,
            step=3.3 + seed,
            votes=1 + seed,
            margin=3 * seed,
        )
        for seed, kind in enumerate(kinds)
    ]
    together = engine.embed(stack(*ones))
    for index, one in enumerate(ones):
        alone = engine.embed(one)
        for name in ("stego", "mask", "carriers"):
            np.testing.assert_array_equal(getattr(together, name)[index], getattr(alone, name)[0])


@pytest.mark.slow
@given(st.integers(2, 4), st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_graph_itself_takes_batches(runners, batch, height, width, seed):
    """What a server that merges requests relies on; the engines pass images one by one."""
    ones = [
        request(
            "scene", height, width, (0, 4095), seed + i, votes=1 + i, margin=2 * i, step=5.3 + i
        )
        for i in range(batch)
    ]
    for run in runners:
        together = run(stack(*ones))
        stego, carriers = reference(stack(*ones), together["mask"])
        np.testing.assert_array_equal(together["carriers"], carriers)
        np.testing.assert_array_equal(together["stego"], stego)


def test_nothing_carries_where_everything_is_illegal(engine):
    wanted = request("ceiling", 40, 40, (0, 4095), 1)
    wanted.pixels[:] = 5000
    embedded = engine.embed(wanted)
    assert not embedded.carriers.any()
    np.testing.assert_array_equal(embedded.stego, wanted.pixels)


def test_padding_is_left_alone(engine):
    wanted = request("dark", 64, 64, (0, 4095), 1, votes=500, padding=7)
    wanted.pixels[0, :20] = 7
    embedded = engine.embed(wanted)
    assert embedded.carriers[0, 5:].any()
    np.testing.assert_array_equal(embedded.stego[wanted.pixels == 7], 7)
    touched = to_blocks(wanted.pixels[0] == 7).any(axis=-1)
    assert not embedded.carriers[0][touched].any()
