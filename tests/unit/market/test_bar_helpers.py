from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.market.bars import BarBuilder, closed_bars, is_closed, normalize_bars
from shared.market.model import Bar, Market, Side, Trade, TradeKind

MINUTE = 60_000


def bar(minute: int, close: float = 1.0) -> Bar:
    return Bar(Market.SPOT, "X", minute * MINUTE, minute * MINUTE + 59_999, 1.0, 1.0, 1.0, close, 1.0)


def trade(at_ms: int, price: float, quantity: float = 1.0, side: Side = Side.BUY) -> Trade:
    return Trade(Market.SPOT, "X", TradeKind.TRADE, None, price, quantity, side, at_ms, at_ms)


def test_a_bar_is_closed_once_its_close_time_has_passed() -> None:
    assert not is_closed(bar(0), 59_999)
    assert is_closed(bar(0), 60_000)
    assert closed_bars([bar(0), bar(1), bar(2)], 120_000) == [bar(0), bar(1)]


@given(st.lists(st.integers(0, 10)))
def test_normalized_bars_ascend_without_repeats(minutes: list[int]) -> None:
    """F208: unsorted and repeated bars; a missing one stays missing."""
    bars, dropped = normalize_bars(bar(minute, float(i + 1)) for i, minute in enumerate(minutes))
    assert [one.open_ms for one in bars] == sorted({minute * MINUTE for minute in minutes})
    assert dropped + len(bars) == len(minutes)
    for one in bars:  # the last one given wins
        last = max(i for i, minute in enumerate(minutes) if minute * MINUTE == one.open_ms)
        assert one.close == last + 1


def test_builds_bars_and_fills_quiet_minutes() -> None:
    builder = BarBuilder(Market.SPOT, "X")
    for one in (trade(0, 10.0), trade(1, 12.0, 2.0, Side.SELL), trade(2, 9.0), trade(59_999, 11.0)):
        assert builder.add(one) == []
    first, quiet = builder.add(trade(130_000, 20.0))
    assert (first.open, first.high, first.low, first.close) == (10.0, 12.0, 9.0, 11.0)
    assert (first.volume, first.taker_buy_volume, first.trades, first.quote_volume) == (5.0, 3.0, 4, 54.0)
    assert (quiet.open_ms, quiet.close_ms, quiet.volume, quiet.close, quiet.trades) == (60_000, 119_999, 0.0, 11.0, 0)
    builder.add(trade(59_999, 1.0))
    builder.add(trade(130_001, float("nan")))
    assert (builder.late_trades, builder.refused) == (1, 1)
    running = builder.running()
    assert running is not None
    assert running.open_ms == 120_000
    assert builder.flush(179_999) == []
    (last,) = builder.flush(180_000)
    assert (last.open, last.close) == (20.0, 20.0)


def test_an_empty_builder_has_nothing_to_return() -> None:
    builder = BarBuilder(Market.SPOT, "X")
    assert builder.flush(None) == []
    assert builder.running() is None
