from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.calibration import PacedQuantile, TrailingQuantile, TrailingRarity


@pytest.mark.parametrize("rate", [0.005, 0.01, 0.05])
def test_flags_the_wanted_share_of_exchangeable_scores(rate: float) -> None:
    source, quantile = random.Random(7), TrailingQuantile(rate)
    said = [quantile.flags(source.lognormvariate(0, 2)) for _ in range(60_000)]
    assert said[:300] == [None] * 300
    assert sum(map(bool, said)) / len(said) == pytest.approx(rate, rel=0.15)


def test_a_constant_series_never_flags() -> None:
    quantile = TrailingQuantile(0.05, capacity=50, minimum=10)
    assert not any(quantile.flags(0.25) for _ in range(500))
    assert quantile.flags(0.24) is True


@given(st.lists(st.floats(), max_size=80))
def test_numbers_that_are_none_are_neither_judged_nor_learnt(scores: list[float]) -> None:
    quantile = TrailingQuantile(0.2, capacity=10, minimum=3)
    finite = 0
    for score in scores:
        answer = quantile.flags(score)
        if not math.isfinite(score):
            assert answer is None
        else:
            finite += 1
    assert len(quantile) == min(10, finite)


@given(st.lists(st.floats(-5, 5), max_size=40), st.lists(st.floats(-5, 5), max_size=20))
def test_the_threshold_depends_only_on_what_came_before(before: list[float], after: list[float]) -> None:
    one, two = TrailingQuantile(0.1, 20, 5), TrailingQuantile(0.1, 20, 5)
    for score in before:
        one.flags(score)
    two.restore(json.loads(json.dumps(one.snapshot())))
    assert [one.flags(score) for score in after] == [two.flags(score) for score in after]


@given(st.lists(st.one_of(st.floats(-9, 9), st.integers(0, 3).map(float)), max_size=50), st.integers(1, 15))
def test_rarity_is_the_share_of_the_past_at_least_as_large(values: list[float], capacity: int) -> None:
    rarity = TrailingRarity(capacity, minimum=3)
    for i, value in enumerate(values):
        past = values[max(0, i - capacity) : i]
        expected = sum(one >= value for one in past) / len(past) if len(past) >= 3 else None
        assert rarity.step(value) == expected


@pytest.mark.parametrize("rate", [0.0, 1.0, math.nan])
def test_refuses_rates_that_mean_nothing(rate: float) -> None:
    with pytest.raises(ValueError):
        TrailingQuantile(rate)


@pytest.mark.parametrize("rate", [0.005, 0.01, 0.05])
def test_a_paced_quantile_pays_back_after_the_scores_have_moved(rate: float) -> None:
    """The scores drift by their own spread, as in a market that wakes up; the bare quantile flags more."""
    source, paced, bare = random.Random(3), PacedQuantile(rate), TrailingQuantile(rate)
    said, plain = [], []
    for n in range(6300):
        score = source.gauss(0, 1) - min(1.0, max(0.0, (n - 2000) / 1500))
        said.append(paced.flags(score))
        plain.append(bare.flags(score))
    judged = [flag for flag in said if flag is not None]
    assert len(judged) == 6000
    assert sum(judged) / len(judged) == pytest.approx(rate, rel=0.15)
    assert sum(map(bool, plain)) > sum(judged)


def test_a_paced_quantile_continues_from_a_snapshot_also_from_one_of_the_bare_kind() -> None:
    source, one, two = random.Random(1), PacedQuantile(0.05), PacedQuantile(0.05)
    for _ in range(900):
        one.flags(source.gauss(0, 1))
    two.restore(json.loads(json.dumps(one.snapshot())))
    later = [source.gauss(0, 1) for _ in range(300)]
    assert [one.flags(score) for score in later] == [two.flags(score) for score in later]
    old = TrailingQuantile(0.05)
    three = PacedQuantile(0.05)
    three.restore(old.snapshot())
    assert (three.judged, three.backlog) == (0, 0.0)


def test_surprise_is_the_robust_z_of_the_logarithm() -> None:
    past = TrailingRarity(100, minimum=3)
    for value in (1.0, 2.0, 4.0, 8.0, 16.0):
        past.learn(value)
    assert past.surprise(64.0) == pytest.approx(4 / 1.4826)
    assert past.surprise(0.0) is None
    assert TrailingRarity(100, minimum=3).surprise(1.0) is None
