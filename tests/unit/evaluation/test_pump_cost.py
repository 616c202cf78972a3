"""The benchmark of the pump rule counts what it says it counts."""

from __future__ import annotations

from benchmarks.pump_cost import DAY_MS, measure
from shared.market.model import Market, Side, Trade, TradeKind

HOUR_MS = 3_600_000


def _trade(at_ms: int, price: float, quantity: float, number: int) -> Trade:
    return Trade(Market.SPOT, "XBTC", TradeKind.AGG_TRADE, number, price, quantity, Side.BUY, at_ms, at_ms)


def test_it_counts_the_chunks_that_were_judged() -> None:
    quiet = [_trade(minute * 60_000, 100.0, 1.0, minute) for minute in range(20 * 60)]
    # Two bursts behind the warm-up, each in one chunk: several buying milliseconds, a rise of a percent.
    bursts = [
        _trade(hour * HOUR_MS + 61_000 + 10 * n, 100.0 + 0.1 * n, 50.0, hour * 100 + n)
        for hour in (10, 15)
        for n in range(12)
    ]
    file = sorted([*quiet, *bursts], key=lambda trade: trade.event_ms)
    rounds: list[tuple[int, int]] = []
    costs = measure([file, file], 2, lambda done, total: rounds.append((done, total)))
    days = (file[-1].event_ms - file[0].event_ms) / DAY_MS
    assert costs.judged_a_day == 2 / days
    assert rounds == [(1, 2), (2, 2)]
    assert costs.spike_us > 0
    assert costs.pump_us > 0
    assert costs.judged_us > 0
    assert costs.state_bytes > 1_000
