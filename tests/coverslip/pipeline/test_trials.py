"""What a profile for lossy codecs promises is tried on the very plane."""

from dataclasses import replace

import numpy as np
import pytest

from coverslip import pipeline
from coverslip.dicom.instance import read_instance
from coverslip.errors import DoesNotComeBackError
from coverslip.pipeline import trials
from coverslip.scheme.address import slot_count, slot_plane
from coverslip.scheme.profiles import ROBUST
from tests.covers import head_ct
from tests.coverslip.pipeline.images import IDENTITY
from tests.coverslip.pipeline.test_pipeline import (
    assert_in_header,
    embed,
    embed_in_pixels,
)

QUIET = replace(ROBUST, span_share=1e-4)
"""Steps far too small for a lossy codec: the lowest rung."""


@pytest.fixture(scope="module")
def cover(tmp_path_factory):
    path = tmp_path_factory.mktemp("cover") / "cover.dcm"
    head_ct(9).save_as(path)
    return path


@pytest.fixture(scope="module")
def robust(cover):
    return embed(cover, ROBUST)


def test_robust_comes_back_after_every_codec(robust):
    sealed = pipeline.read_votes(robust.frames[0].votes)
    profile = replace(ROBUST, step=robust.report.step)

    def first_failing(expected):
        return trials.first_failing_disturbance(
            robust.stego[0], robust.instance.legal, IDENTITY.recipient, profile, expected
        )

    assert first_failing(sealed) is None
    other = bytes([sealed[0] ^ 1]) + sealed[1:]
    assert first_failing(other) is next(iter(trials.Disturbance))


@pytest.mark.parametrize("codec", trials.CODECS.values(), ids=trials.CODECS)
def test_codecs_lose_something_and_stay_in_the_legal_range(codec, cover):
    instance = read_instance(cover)
    plane, (lo, hi) = instance.planes[0], instance.legal
    coded = codec(plane, (lo, hi))
    assert coded.dtype == np.int32 and coded.shape == plane.shape
    assert lo <= coded.min() and coded.max() <= hi
    assert 0 < np.abs(coded - plane).mean() < 0.02 * np.ptp(plane)


def test_what_a_codec_would_spoil_is_refused_with_its_name(cover):
    with pytest.raises(DoesNotComeBackError, match=r"JPEG 2000 at 20:1.*use --profile default"):
        embed_in_pixels(cover, replace(QUIET, fallbacks=()))


def test_what_a_crop_would_take_is_refused_too(cover):
    with pytest.raises(DoesNotComeBackError, match="6% of every side is cut away"):
        embed_in_pixels(cover, replace(QUIET, votes=1, least_votes=0.5, fallbacks=()))
    reason = assert_in_header(
        cover, "does-not-come-back", profile=replace(QUIET, votes=1, least_votes=0.5, fallbacks=())
    )
    assert "6% of every side is cut away" in reason.message


@pytest.mark.slow
def test_longer_steps_and_fewer_votes_are_tried_before_a_slice_is_refused(cover, tmp_path):
    done = embed(cover, replace(QUIET, fallbacks=((1, 3), (8, 4))))
    assert done.report.step == QUIET.choices(1)[0].step * 16
    frame = done.frames[0]
    slots = slot_plane(
        *frame.carriers.shape,
        slot_count(len(done.symbol), len(ROBUST.coefficients)),
        frame.votes.variant,
    )
    assert np.bincount(slots[frame.carriers]).max() == 4
    done.write(tmp_path / "stego.dcm")
    assert pipeline.extract(read_instance(tmp_path / "stego.dcm"), IDENTITY).profile == "robust"


@pytest.mark.parametrize(
    "kept",
    [(slice(29, -17), slice(6, -30)), (slice(2, -30), slice(27, -1))],
    ids=["top left", "bottom right"],
)
def test_robust_is_read_after_every_side_lost_up_to_six_per_cent(kept, robust):
    plane = np.ascontiguousarray(robust.stego[0][kept])
    votes = pipeline.read_cropped(
        plane, IDENTITY.recipient, replace(ROBUST, step=robust.report.step)
    )
    assert votes is not None
    assert pipeline.read_votes(votes) == pipeline.read_votes(robust.frames[0].votes)
