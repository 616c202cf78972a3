from __future__ import annotations

from pathlib import Path as File

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.evaluation.figures import scores
from local.evaluation.outcomes import RESAMPLES, Path, PathBuilder, difference, grid_path, lift, outcomes
from local.evaluation.plot import Point, scatter, strip_bars, ticks
from local.evaluation.truth import Matched, Protocol, match, read_labels, thin
from shared.errors import UsageError
from shared.times import HOUR_MS, MINUTE_MS

T = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS
HERE = Protocol(before_ms=60_000, within_ms=25_000, pause_ms=30 * MINUTE_MS, warmup_ms=6 * HOUR_MS)
SPAN = {"X": [(T, T + 24 * HOUR_MS)]}
EVENT = T + 10 * HOUR_MS


@pytest.mark.parametrize(
    ("away_ms", "hit"), [(-60_001, False), (-60_000, True), (0, True), (25_000, True), (25_001, False)]
)
def test_an_alarm_finds_an_event_from_a_minute_before_to_a_chunk_after(away_ms: int, hit: bool) -> None:
    matched = match({"X": [EVENT + away_ms]}, {"X": [EVENT]}, SPAN, HERE)
    assert (len(matched.found), len(matched.missed), matched.false) == ((1, 0, 0) if hit else (0, 1, 1))


def test_an_alarm_silences_the_next_half_hour() -> None:
    early = EVENT - 29 * MINUTE_MS
    matched = match({"X": [early, EVENT]}, {"X": [EVENT]}, SPAN, HERE)
    assert (len(matched.found), matched.false, matched.alarms) == (0, 1, 1)
    assert thin([5, 0, 10, 19, 20], 10) == [0, 10, 20]


def test_nothing_counts_during_the_warm_up_or_outside_the_recording() -> None:
    labels = {"X": [T + HOUR_MS, T + 30 * HOUR_MS], "Y": [EVENT]}
    matched = match({"X": [T + HOUR_MS]}, labels, SPAN, HERE)
    assert matched == Matched((), (), 0, 0)


def test_an_event_in_two_recordings_counts_once_and_takes_the_earliest_alarm() -> None:
    spans = {"X": [(T, T + 24 * HOUR_MS), (T + HOUR_MS, T + 30 * HOUR_MS)]}
    matched = match({"X": [EVENT + 10_000, EVENT - 5_000]}, {"X": [EVENT]}, spans, HERE)
    assert matched.found == (("X", EVENT, -5_000),)


def test_scores_are_the_usual_ones() -> None:
    found = tuple(("X", EVENT + n, delay) for n, delay in enumerate([1000, 2000, 9000]))
    row = scores(Matched(found, (("X", 1),), 2, 5), symbol_days=4.0)
    assert (row["precision"], row["recall"], row["f1"]) == (0.6, 0.75, pytest.approx(2 / 3))
    assert (row["delay_s_median"], row["false_per_symbol_day"]) == (2.0, 0.5)
    silent = scores(Matched((), (), 0, 0), 0.0)
    assert (silent["precision"], silent["recall"], silent["f1"], silent["false_per_symbol_day"]) == (None,) * 4


def test_labels_are_read_by_their_column_names(tmp_path: File) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("Symbol,announced,Onset\nxyzbtc,no,2021-01-01 00:00:10\nXYZBTC,,1609459210000\nXYZBTC,,\n")
    assert read_labels(path) == {"XYZBTC": [1_609_459_210_000]}
    with pytest.raises(UsageError, match="line 2"):
        read_labels(path, "announced")
    with pytest.raises(UsageError, match="needs a column"):
        read_labels(path, "nowhere")
    with pytest.raises(UsageError):
        read_labels(tmp_path / "absent.csv")
    path.write_text("symbol,time\n")
    with pytest.raises(UsageError, match="no event"):
        read_labels(path)


def test_a_path_knows_only_the_last_price_before_each_minute() -> None:
    times = np.array([T + 1, T + 59_000, T + 60_001, T + 200_000])
    path = grid_path(times, np.array([10.0, 11.0, 12.0, 13.0]), MINUTE_MS)
    assert path.start_ms == T + MINUTE_MS
    assert path.prices.tolist() == [11.0, 12.0, 12.0]
    assert path.index(np.array([T + MINUTE_MS, T + MINUTE_MS + 1])).tolist() == [0, 1]


def test_lift_is_the_movement_after_alarms_over_the_movement_after_the_others() -> None:
    rng = np.random.default_rng(1)
    quiet = rng.normal(0, 1e-4, 3000)
    at = np.arange(100, 2900, 100)
    for start in at:
        quiet[start + 1 : start + 6] *= 4  # the five minutes after each alarm
    path = Path(T, MINUTE_MS, np.exp(np.cumsum(quiet)))
    measured = lift({"X": path}, {"X": [(T + int(k) * MINUTE_MS, 0) for k in at]}, 5 * MINUTE_MS)
    assert measured is not None
    assert measured.low is not None
    assert measured.high is not None
    assert measured.low < measured.lift < measured.high
    assert 3.0 < measured.lift < 4.2
    path = Path(T, MINUTE_MS, np.exp(np.cumsum(rng.normal(0, 1e-4, 3000))))
    nothing = lift({"X": path}, {"X": [(T + k * MINUTE_MS, 0) for k in range(40, 2900, 20)]}, 5 * MINUTE_MS)
    assert nothing is not None
    assert 0.93 < nothing.lift < 1.07
    assert lift({"X": path}, {"Y": [(T, 0)]}, 5 * MINUTE_MS) is None


def test_alarms_of_one_block_of_hours_have_no_bounds() -> None:
    path = Path(0, MINUTE_MS, np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-4, 3000))))
    measured = lift({"X": path}, {"X": [(k * MINUTE_MS, 0) for k in (400, 500, 600)]}, 5 * MINUTE_MS)
    assert measured is not None
    assert (measured.alarms, measured.low, measured.high) == (3, None, None)


def test_two_sets_of_alarms_are_compared_over_the_same_blocks() -> None:
    rng = np.random.default_rng(2)
    ours, our_blocks = rng.gamma(2, 1, 40), rng.integers(0, 6, 40)
    theirs, their_blocks = rng.gamma(2, 0.7, 30), rng.integers(1, 7, 30)
    found = difference(ours, our_blocks, theirs, their_blocks, seed=3)
    gaps = []
    for drawn in np.random.default_rng(3).integers(0, 7, (RESAMPLES, 7)):
        mine = [v for block in drawn for v, b in zip(ours, our_blocks, strict=True) if b == block]
        other = [v for block in drawn for v, b in zip(theirs, their_blocks, strict=True) if b == block]
        if mine and other:
            gaps.append(np.mean(mine) - np.mean(other))
    assert found.more == pytest.approx(ours.mean() - theirs.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gaps, (0.025, 0.975))))
    alike = difference(ours, our_blocks, ours, our_blocks)
    assert (alike.more, alike.low, alike.high) == (0.0, 0.0, 0.0)


def test_blocks_are_the_same_for_every_set_of_alarms_on_the_same_paths() -> None:
    price = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-4, 3000)))
    paths = {"X": Path(T, MINUTE_MS, price), "Y": Path(T, MINUTE_MS, price)}
    late, both = (T + 2000 * MINUTE_MS, 0), (T + 100 * MINUTE_MS, 0)
    first = outcomes(paths, {"Y": [late]}, 5 * MINUTE_MS)
    second = outcomes(paths, {"X": [both, late], "Y": [both, late]}, 5 * MINUTE_MS)
    assert first is not None
    assert second is not None
    assert len(set(second.blocks.tolist())) == 4
    assert first.blocks[0] == second.blocks[3]


def test_direction_agrees_when_the_price_goes_that_way() -> None:
    path = Path(T, MINUTE_MS, np.exp(np.arange(600) * 1e-4))
    measured = lift({"X": path}, {"X": [(T + 60_000 * k, 1 if k % 4 else -1) for k in range(80)]}, 5 * MINUTE_MS)
    assert measured is not None
    assert measured.agreement == 0.75


def test_charts_escape_their_texts_and_survive_odd_numbers() -> None:
    drawn = scatter([("<b>", [Point(1, 2, "&"), Point(float("nan"), 1)])], title="<i>", x="x", y="y", joined=True)
    assert "<b>" not in drawn
    assert "&lt;b&gt;" in drawn
    assert scatter([("a", [])], title="t", x="x", y="y") == ""
    assert strip_bars([("a", [0, 0])], title="t", x="x", y="y", every=2, level=1.0) == ""
    strips = strip_bars([("a", [1, 2]), ("<b>", [0, 1])], title="t", x="x", y="y", every=2, level=1.0)
    assert strips.count("<rect") == 4
    assert strips.count('class="level"') == 2
    assert "&lt;b&gt;" in strips
    assert ticks(0.0, 1.0) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3.0, 3.0) == [3.0]


@given(
    st.lists(st.tuples(st.integers(0, 10 * MINUTE_MS), st.floats(1.0, 9.0)), max_size=40), st.integers(1, 41),
    st.sampled_from([1_000, MINUTE_MS]),
)  # fmt: skip
def test_a_path_of_blocks_in_any_order_is_what_was_known_at_each_point(
    known: list[tuple[int, float]], size: int, step_ms: int
) -> None:
    builder = PathBuilder(step_ms)
    for at in range(0, len(known), size):
        times, prices = zip(*known[at : at + size], strict=True)
        builder.add(np.array(times), np.array(prices))
    path = builder.path()
    if not known:
        assert (builder.first_ms, len(path.prices)) == (None, 0)
        return
    ordered = sorted(known, key=lambda one: one[0])  # stable: of equal times the later one is the newer
    assert (builder.first_ms, builder.last_ms) == (ordered[0][0], ordered[-1][0])
    grid = [at for at in range(0, 11 * MINUTE_MS, step_ms) if ordered[0][0] <= at <= ordered[-1][0]]
    wanted = [[price for time, price in ordered if time <= at][-1] for at in grid]
    assert path.prices.tolist() == wanted
    assert not grid or path.start_ms == grid[0]
