from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverslip.scheme.profiles import (
    DEFAULT,
    FIRST_ROBUST,
    FORMER,
    LOWEST_RUNG,
    PROFILES,
    ROBUST,
    Profile,
    readable,
)


@given(st.integers(1, 65535))
def test_a_robust_step_is_at_least_its_share_of_the_range_and_a_rung_at_most_above(
    span: int,
) -> None:
    step = ROBUST.for_span(span).step
    least = max(ROBUST.span_share * span, LOWEST_RUNG)
    assert 0.99 * least <= step <= 1.43 * least
    assert step == np.float32(step) == float(str(step))


@given(st.integers(300, 60000), st.floats(0.75, 1.3))
def test_a_reader_who_knows_the_range_roughly_tries_the_right_step(span: int, share: float) -> None:
    tried = {profile.step for profile in ROBUST.near_span(round(span * share))}
    assert {choice.step for choice in ROBUST.choices(span)} <= tried
    assert len(tried) <= len(ROBUST.fallbacks) + 3


def test_a_step_of_the_callers_own_stays() -> None:
    assert ROBUST.with_beta(100, 4095).for_span(4000).step == pytest.approx(163.8)


def test_other_profiles_know_one_step() -> None:
    assert DEFAULT.for_span(4000) is DEFAULT
    assert DEFAULT.near_span(4000) == [DEFAULT]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
def test_a_step_is_resolved_once(profile: Profile) -> None:
    once = profile.for_span(2411)
    assert once.for_span(2411) == once


def test_what_earlier_versions_wrote_is_read_after_what_is_written_today() -> None:
    assert readable(ROBUST) == (ROBUST, FIRST_ROBUST)
    assert readable(ROBUST.for_span(4095)) == (ROBUST.for_span(4095), FIRST_ROBUST.for_span(4095))
    assert readable(DEFAULT) == (DEFAULT,)
    assert all(former.name == name for name, versions in FORMER.items() for former in versions)


def test_a_profile_of_the_callers_own_numbers_is_read_with_those_alone() -> None:
    own = replace(ROBUST, alpha=0.2)
    assert readable(own) == (own,)
    resolved = ROBUST.with_beta(64, 4095)
    assert [version.step for version in readable(resolved)] == [resolved.step] * 2


@given(st.integers(1, 65535))
def test_a_writer_tries_ever_longer_steps(span: int) -> None:
    choices = ROBUST.choices(span)
    assert choices[0] == ROBUST.for_span(span)
    assert [choice.step for choice in choices] == sorted(choice.step for choice in choices)
    assert len(set(choices)) == len(choices)
    assert all(choice.votes <= ROBUST.votes for choice in choices)
    assert DEFAULT.choices(span) == [DEFAULT]


def test_numbers_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="span_share"):
        replace(ROBUST, span_share=-1)
