from __future__ import annotations

import gzip
import json
import math
import statistics
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.market.model import Market, Side, Trade, TradeKind, Window
from shared.market.windows import WindowAggregator, WindowConfig

START = 1_700_000_000_000  # a multiple of 20 s


def trade(at_ms: int, price: float = 100.0, quantity: float = 1.0, trade_id: int | None = None) -> Trade:
    return Trade(Market.SPOT, "X", TradeKind.TRADE, trade_id, price, quantity, Side.BUY, START + at_ms, START + at_ms)


def aggregator(window_ms: int = 20_000, lateness_ms: int = 2_000) -> WindowAggregator:
    return WindowAggregator(Market.SPOT, "X", WindowConfig(window_ms, lateness_ms))


def feed(windows: WindowAggregator, trades: list[Trade]) -> list[Window]:
    return [window for one in trades for window in windows.add(one)]


def test_closes_when_the_newest_time_passes_the_end_by_the_lateness() -> None:
    windows = aggregator()
    assert feed(windows, [trade(0), trade(19_999), trade(21_999)]) == []
    (closed,) = windows.add(trade(22_000))
    assert (closed.start_ms, closed.end_ms, closed.trade_count) == (START, START + 20_000, 2)
    assert windows.add(trade(19_000)) == []
    assert (windows.late_trades, windows.trades) == (1, 4)
    (last,) = windows.flush(None)
    assert (last.trade_count, last.late_trades) == (2, 1)


def test_a_straggler_within_the_lateness_joins_its_window() -> None:
    windows = aggregator()
    feed(windows, [trade(0, 10.0, trade_id=5), trade(21_000, 30.0, trade_id=8), trade(19_000, 20.0, trade_id=7)])
    first, second = windows.flush(None)
    assert (first.trade_count, first.first_price, first.last_price, first.first_id, first.last_id) == (2, 10, 20, 5, 7)
    assert second.trade_count == 1
    assert windows.late_trades == 0


def test_order_inside_a_window_is_by_id_where_there_is_one_else_by_time() -> None:
    windows = aggregator()
    feed(windows, [trade(5, 2.0, trade_id=2), trade(5, 3.0, trade_id=3), trade(5, 1.0, trade_id=1)])
    (by_id,) = windows.flush(None)
    assert (by_id.first_price, by_id.last_price, by_id.return_) == (1.0, 3.0, 2.0)
    windows = aggregator()
    feed(windows, [trade(5, 2.0), trade(9, 3.0), trade(1, 1.0), trade(9, 4.0)])
    (by_time,) = windows.flush(None)
    assert (by_time.first_price, by_time.last_price) == (1.0, 4.0)


def test_counts_empty_windows_and_does_not_return_them() -> None:
    windows = aggregator()
    closed = feed(windows, [trade(0), trade(100_000)])
    closed += windows.flush(None)
    assert [window.start_ms - START for window in closed] == [0, 100_000]
    assert windows.empty_windows == 4


def test_flush_by_exchange_time_makes_later_trades_late() -> None:
    windows = aggregator()
    windows.add(trade(0))
    assert windows.flush(START + 21_999) == []
    assert len(windows.flush(START + 22_000)) == 1
    windows.add(trade(1))
    assert windows.late_trades == 1
    assert windows.flush(None) == []


def test_missing_trades_mark_the_windows_they_touch() -> None:
    windows = aggregator()
    windows.mark_incomplete(START + 19_999, START + 20_000)
    windows.mark_incomplete(START + 60_000, START + 61_000)
    windows.mark_filled(START + 60_000, START + 61_000)
    closed = feed(windows, [trade(0), trade(20_000), trade(40_000), trade(60_000)]) + windows.flush(None)
    assert [window.complete for window in closed] == [False, False, True, True]


steps = st.lists(
    st.tuples(
        st.integers(-30_000, 40_000),
        st.integers(1, 10**13).map(lambda n: n / 1e8),
        st.integers(1, 10**14).map(lambda n: n / 1e8),
    ),
    max_size=40,
)


def _trades(moves: list[tuple[int, float, float]]) -> list[Trade]:
    at, trades = 0, []
    for i, (move, price, quantity) in enumerate(moves):
        at = max(0, at + move)
        trades.append(trade(at, price, quantity, i))
    return trades


def slow_windows(
    trades: list[Trade], window_ms: int, lateness_ms: int
) -> tuple[list[tuple[int, int, float, float, float, float, float]], int]:
    """Sort trades into windows with the definition alone: late is what came after its window had closed."""
    kept: dict[int, list[Trade]] = {}
    newest, late = -1, 0
    for one in trades:
        newest = max(newest, one.event_ms)
        start = one.event_ms // window_ms * window_ms
        if start + window_ms + lateness_ms <= newest:
            late += 1
        else:
            kept.setdefault(start, []).append(one)
    out = []
    for start, members in sorted(kept.items()):
        members = sorted(members, key=lambda one: one.trade_id or 0)
        prices = [one.price for one in members]
        volume = sum(Fraction(str(one.quantity)) for one in members)
        deviation = math.sqrt(statistics.variance(map(Fraction, prices))) if len(prices) > 1 else 0.0
        out.append((start, len(prices), float(volume), float(volume / len(prices)), prices[0], prices[-1], deviation))
    return out, late


@given(steps, st.sampled_from([0, 2_000, 30_000]))
def test_equals_the_definition(moves: list[tuple[int, float, float]], lateness_ms: int) -> None:
    """F603: trades on the edge, empty windows, stragglers, against the definition."""
    trades = _trades(moves)
    windows = aggregator(lateness_ms=lateness_ms)
    closed = feed(windows, trades) + windows.flush(None)
    expected, late = slow_windows(trades, 20_000, lateness_ms)
    assert windows.late_trades == late
    assert windows.trades + late == len(trades)
    assert [window.start_ms for window in closed] == [one[0] for one in expected]
    for window, (_, count, volume, average, first, last, deviation) in zip(closed, expected, strict=True):
        assert (window.trade_count, window.first_price, window.last_price) == (count, first, last)
        assert window.volume == pytest.approx(volume, rel=1e-15)
        assert window.avg_trade_size == pytest.approx(average, rel=1e-15)
        assert window.volatility == pytest.approx(deviation, rel=1e-9, abs=1e-9)
    span = (closed[-1].start_ms - closed[0].start_ms) // 20_000 + 1 if closed else 0
    assert windows.empty_windows == span - len(closed)


@given(steps, steps)
def test_a_restored_aggregator_goes_on_as_if_nothing_had_happened(
    before: list[tuple[int, float, float]], after: list[tuple[int, float, float]]
) -> None:
    one, two = aggregator(), aggregator()
    one.mark_incomplete(START, START + 10)
    feed(one, _trades(before))
    two.restore(json.loads(json.dumps(one.snapshot())))
    assert feed(two, _trades(after)) + two.flush(None) == feed(one, _trades(after)) + one.flush(None)
    assert two.snapshot() == one.snapshot()


@given(st.floats(), st.floats())
def test_survives_every_float(price: float, quantity: float) -> None:
    windows = aggregator()
    feed(windows, [trade(0, price, quantity), trade(1, 1.0, 1.0), trade(2, price, quantity)])
    (closed,) = windows.flush(None)
    assert windows.trades + windows.refused == 3
    for value in (closed.volume, closed.avg_trade_size, closed.return_, closed.volatility):
        assert math.isfinite(value)


def test_equal_prices_have_no_volatility() -> None:
    windows = aggregator()
    feed(windows, [trade(i, 61837.63) for i in range(100)])
    assert windows.flush(None)[0].volatility == 0.0


def test_refuses_a_snapshot_of_another_window_length() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        aggregator(20_000).restore(aggregator(10_000).snapshot())
    with pytest.raises(ValueError):
        WindowConfig(0)


@pytest.mark.recorded
def test_counts_the_recorded_windows(recorded_dir: Path) -> None:
    expected = json.loads((recorded_dir / "expected.json").read_text())["trades"]
    for name in (name for name in expected if name.startswith("trades/")):
        windows = aggregator()
        count = 0
        with gzip.open(recorded_dir / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                at = row["T"] - START
                count += len(windows.add(trade(at, float(row["p"]), float(row["q"]), row.get("t"))))
        count += len(windows.flush(None))
        assert count == expected[name]["n_nonempty_20s_windows_epoch_aligned"]
        assert windows.empty_windows + count == expected[name]["span_20s_windows"]
        assert (windows.trades, windows.late_trades) == (expected[name]["n_trades"], 0)
