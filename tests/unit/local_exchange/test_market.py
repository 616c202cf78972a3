"""The simulated market: the same from its seed however it is asked, its bars made of its trades, its statistics."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from local.exchange.market import SimulatedMarket
from local.exchange.scenarios import demo_plan
from local.exchange.source import Print
from shared.alerts.gates import gate
from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.volume_spike import VolumeSpikeDetector
from shared.market.model import Bar, Market
from shared.settings import Settings

START = 1_790_000_040_000 // MINUTE_MS * MINUTE_MS


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return SimulatedMarket(7, START, plan=demo_plan(START))


def prints(market: SimulatedMarket, start_ms: int, end_ms: int, symbol: str = "BTCUSDT") -> list[Print]:
    return market.prints(
        Market.SPOT, symbol, aggregate=False, start_ms=start_ms, end_ms=end_ms - 1, limit=100_000, now_ms=end_ms
    )


def test_the_same_seed_is_the_same_market_in_any_order_of_asking() -> None:
    one, other = (SimulatedMarket(3, START, plan=demo_plan(START)) for _ in range(2))
    whole = prints(one, START - 2 * HOUR_MS, START + HOUR_MS)
    pieces = [prints(other, START + k * HOUR_MS, START + (k + 1) * HOUR_MS) for k in (0, -1, -2)]
    assert [p for piece in reversed(pieces) for p in piece] == whole
    by_id = other.prints(
        Market.SPOT, "BTCUSDT", aggregate=False, from_id=whole[0].id, limit=len(whole), now_ms=START + HOUR_MS
    )
    assert by_id[: len(whole)] == whole
    assert one.ladder(Market.SPOT, "BTCUSDT", levels=5, now_ms=START) == other.ladder(
        Market.SPOT, "BTCUSDT", levels=5, now_ms=START
    )
    assert prints(SimulatedMarket(4, START), START, START + MINUTE_MS) != prints(one, START, START + MINUTE_MS)


def test_ids_are_consecutive_across_hours_and_planted_trades(market: SimulatedMarket) -> None:
    found = prints(market, START - HOUR_MS, START + 2 * HOUR_MS)
    assert [p.id for p in found] == list(range(found[0].id, found[0].id + len(found)))
    times = [p.time_ms for p in found]
    assert times == sorted(times)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "QTUMUSDT"])
def test_bars_are_exactly_their_trades(market: SimulatedMarket, symbol: str) -> None:
    candles = market.candles(
        Market.SPOT, symbol, start_ms=START, end_ms=START + 90 * MINUTE_MS, limit=90, now_ms=START + 3 * HOUR_MS
    )
    assert len(candles) == 90
    for candle in candles:
        inside = prints(market, candle.open_ms, candle.open_ms + MINUTE_MS, symbol)
        assert candle.trades == len(inside)
        assert Decimal(candle.volume) == sum((Decimal(p.quantity) for p in inside), Decimal(0))
        taken = [p for p in inside if not p.buyer_is_maker]
        assert Decimal(candle.taker_volume) == sum((Decimal(p.quantity) for p in taken), Decimal(0))
        assert Decimal(candle.quote_volume) == sum((Decimal(p.price) * Decimal(p.quantity) for p in inside), Decimal(0))
        if inside:
            prices = [Decimal(p.price) for p in inside]
            assert [candle.open, candle.close] == [inside[0].price, inside[-1].price]
            assert (Decimal(candle.high), Decimal(candle.low)) == (max(prices), min(prices))
            assert (candle.first_id, candle.last_id) == (inside[0].id, inside[-1].id)


def test_nothing_is_shown_that_has_not_happened(market: SimulatedMarket) -> None:
    now = START + 7 * MINUTE_MS + 12_345
    running = market.candles(Market.SPOT, "BTCUSDT", start_ms=None, end_ms=None, limit=1, now_ms=now)[0]
    so_far = prints(market, now - now % MINUTE_MS, now + 1)
    assert running.trades == len(so_far)
    newest = market.prints(Market.SPOT, "BTCUSDT", aggregate=False, limit=1, now_ms=now)[0]
    assert newest.time_ms <= now
    assert newest == so_far[-1]
    ahead = market.candles(Market.SPOT, "BTCUSDT", start_ms=now + HOUR_MS, end_ms=None, limit=5, now_ms=now)
    assert ahead == []


def test_statistics_are_like_a_market() -> None:
    market = SimulatedMarket(11, START)
    candles = {
        symbol: market.candles(Market.USDM, symbol, start_ms=None, end_ms=START - MINUTE_MS, limit=1000, now_ms=START)
        for symbol in ("BTCUSDT", "ZECUSDT")
    }
    returns = {s: np.diff(np.log([float(c.close) for c in rows])) for s, rows in candles.items()}
    for r in returns.values():
        kurtosis = ((r - r.mean()) ** 4).mean() / r.var() ** 2
        assert kurtosis > 3.2  # heavy tails
        assert 0.0001 < r.std() < 0.002
    five = {s: r[: len(r) // 5 * 5].reshape(-1, 5).sum(axis=1) for s, r in returns.items()}
    beta = np.cov(five["ZECUSDT"], five["BTCUSDT"])[0, 1] / five["BTCUSDT"].var(ddof=1)
    assert 0.4 < beta < 1.2
    quarter = [c.trades for c in candles["BTCUSDT"] if c.open_ms // MINUTE_MS % 15 == 0]
    others = [c.trades for c in candles["BTCUSDT"] if c.open_ms // MINUTE_MS % 15 > 1]
    assert np.mean(quarter) > 1.3 * np.mean(others)
    sizes = np.array([float(p.quantity) for p in prints(market, START - 3 * HOUR_MS, START)])
    assert 0.95 < len(sizes) / (3 * 3600) < 1.05  # one a second
    assert sizes.mean() > 1.4 * np.median(sizes)


def test_ordinary_books_are_balanced() -> None:
    market = SimulatedMarket(11, START)
    values = []
    for i in range(300):
        ladder = market.ladder(Market.SPOT, "ETHUSDT", levels=5, now_ms=START - i * 7000)
        assert ladder is not None
        bid, ask = (sum(float(p) * float(q) for p, q in side) for side in (ladder.bids, ladder.asks))
        values.append(abs(bid - ask) / (bid + ask))
    assert np.mean(np.array(values) < 0.5) > 0.97


def test_the_plan_of_the_first_ten_minutes() -> None:
    at = {p.kind: (p.start_ms - START) / MINUTE_MS for p in reversed(demo_plan(START))}
    assert 2 <= at["trade_spike"] < 3
    assert at["volume_spike"] == 3
    assert at["order_book_imbalance"] == 4
    assert 5 <= at["window_anomaly"] < 6
    assert at["sector_initiator"] == 6
    assert all(p.start_ms % 20_000 == 0 for p in demo_plan(START + 7) if p.kind == "window_anomaly")


def test_what_was_planted_is_really_there(market: SimulatedMarket) -> None:
    truth = market.truth()
    assert len(truth) == len(market.plan)
    for found in truth:
        numbers = found.numbers
        if found.kind == "trade_spike":
            assert isinstance(numbers["ratio"], float)
            assert numbers["ratio"] >= 30
        elif found.kind == "volume_spike":
            assert isinstance(numbers["ratio"], float)
            assert numbers["ratio"] >= 4
        elif found.kind == "order_book_imbalance":
            assert isinstance(numbers["obi_by_minute"], list)
            assert len(numbers["obi_by_minute"]) == 5
            sign = 1 if found.direction == "UP" else -1
            assert all(sign * obi > 0.85 for obi in numbers["obi_by_minute"])
        elif found.kind == "window_anomaly":
            assert isinstance(numbers["trades"], int)
            assert numbers["trades"] >= 300
        elif found.kind == "sector_initiator":
            share, moved = numbers["taker_buy_share"], numbers["return_15m"]
            assert isinstance(share, float)
            assert isinstance(moved, float)
            assert (share >= 0.7 and moved > 0.02) if found.direction == "UP" else (share <= 0.3 and moved < -0.02)


@pytest.mark.parametrize("late", range(0, 40_000, 5_003))
def test_whenever_a_demo_starts_its_huge_trade_is_a_record(late: int) -> None:
    """Chance trades come out otherwise in every demo; the planted one must outgrow those of the hours learned from."""
    start = START + late * MINUTE_MS
    plan = [planted for planted in demo_plan(start)[:1] if planted.kind == "trade_spike"]
    market = SimulatedMarket(7, start, plan=plan)
    [spike] = market.truth()
    sizes = [float(one.quantity) for one in prints(market, start - 6 * HOUR_MS, spike.start_ms, spike.symbol)]
    sums = np.cumsum([0.0, *sizes])
    largest = float(np.max(np.array(sizes[200:]) * 200 / (sums[200:-1] - sums[:-201])))
    assert largest > 10  # chance finds there are
    assert float(str(spike.numbers["ratio"])) > 1.3 * largest


@pytest.mark.parametrize("late", range(0, 40_000, 9_001))
def test_whenever_a_demo_starts_its_volume_spike_is_news(late: int) -> None:
    start = START + late * MINUTE_MS
    [planted] = [one for one in demo_plan(start)[:4] if one.kind == "volume_spike"]
    market = SimulatedMarket(7, start, plan=[planted])
    detector = VolumeSpikeDetector(Settings().volume_spike, Market.SPOT, planted.symbol)
    reading, begin = None, planted.start_ms - 27 * HOUR_MS
    for at in range(begin, planted.end_ms, 500 * MINUTE_MS):
        until = min(at + 500 * MINUTE_MS, planted.end_ms)
        for one in market.candles(
            Market.SPOT, planted.symbol, start_ms=at, end_ms=until - 1, limit=500, now_ms=planted.end_ms + MINUTE_MS
        ):
            prices = [float(price) for price in (one.open, one.high, one.low, one.close)]
            close_ms, volume = one.open_ms + MINUTE_MS - 1, float(one.volume)
            reading = detector.step(Bar(Market.SPOT, planted.symbol, one.open_ms, close_ms, *prices, volume, None))
    assert reading is not None
    signal = detector.signal(reading)
    assert signal is not None
    assert gate(signal, Settings()) is None, signal.snapshot


def test_the_sector_shot_meets_the_rule(market: SimulatedMarket) -> None:
    """Excess return and volume of the planted bars against their own 720 minutes, by the plain definition."""
    shot = next(p for p in market.plan if p.kind == "sector_initiator")
    rows = {
        "ZECUSDT": shot.start_ms,
        "DASHUSDT": shot.start_ms + 2 * MINUTE_MS,
        "XMRUSDT": shot.start_ms + 3 * MINUTE_MS,
    }
    for symbol, at in rows.items():
        closes, volumes = {}, []
        for name in (symbol, "BTCUSDT"):
            candles = market.candles(
                Market.USDM, name, start_ms=at - 735 * MINUTE_MS, end_ms=at, limit=736, now_ms=at + MINUTE_MS
            )
            closes[name] = np.log([float(c.close) for c in candles])
            volumes.append(np.array([float(c.volume) for c in candles]))
        excess = {name: c[15:] - c[:-15] for name, c in closes.items()}
        er = excess[symbol] - 0.8 * excess["BTCUSDT"]
        assert robust(er) > 3
        assert robust(volumes[0]) > 3


def robust(values: np.ndarray) -> float:
    history, last = values[:-1], values[-1]
    median = np.median(history)
    return float((last - median) / (1.4826 * np.median(np.abs(history - median))))


def test_confirmations_are_there(market: SimulatedMarket) -> None:
    shot = next(p for p in market.plan if p.kind == "sector_initiator")
    before, after = (float(market.open_interest("ZECUSDT", shot.start_ms + d) or 0) for d in (-HOUR_MS, 0))
    assert after > 1.04 * before
    mark = market.mark("ZECUSDT", shot.start_ms)
    assert mark is not None
    assert float(mark.rate) == 0.0015
    forced = market.liquidations(after_ms=shot.start_ms, upto_ms=shot.start_ms + 3 * MINUTE_MS)
    assert sum(f.symbol == "ZECUSDT" and f.side == "BUY" for f in forced) >= 40
