"""`benchmarks.pump_plain`: chunks and scores against slow, obvious ones."""

from __future__ import annotations

import random
from math import log, sqrt
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import pytest

from benchmarks.pump_evaluation import Event
from benchmarks.pump_plain import FEWEST_BUYERS, PAST_MS, best, chunks_of, load, plain_scores, trailing_z
from shared.market.model import Market, Side, Trade, TradeKind

START_MS = 1_600_000_000_000
CHUNK_MS = 5_000


def some_trades(count: int = 300) -> list[Trade]:
    rng, at, made = random.Random(1), START_MS, []
    for _ in range(count):
        at += rng.choice((0, 300, 900, 2_000, 12_000))
        side = Side.BUY if rng.random() < 0.7 else Side.SELL
        price, quantity = 100 + rng.random(), rng.random()
        made.append(Trade(Market.SPOT, "X", TradeKind.AGG_TRADE, None, price, quantity, side, at, at))
    return made


def test_chunks_hold_what_was_traded_in_them() -> None:
    trades = some_trades()
    chunks = chunks_of(trades, CHUNK_MS)
    for n, end in enumerate(chunks.ends_ms.tolist()):
        inside = [trade for trade in trades if end - CHUNK_MS <= trade.event_ms < end]
        bought = [trade for trade in inside if trade.side is Side.BUY]
        assert chunks.buyers[n] == len({trade.event_ms for trade in bought})
        assert chunks.bought[n] == pytest.approx(sum(trade.price * trade.quantity for trade in bought))
        rise = log(max(trade.price for trade in inside) / inside[0].price) if inside else 0.0
        assert chunks.rises[n] == pytest.approx(rise)
    assert chunks.ends_ms[-1] - CHUNK_MS <= trades[-1].event_ms < chunks.ends_ms[-1]
    with pytest.raises(ValueError, match="no trades"):
        chunks_of([], CHUNK_MS)


def test_z_is_against_the_values_before_and_nothing_where_they_do_not_vary() -> None:
    values = np.random.default_rng(2).lognormal(0, 2, 100)
    values[40:60] = 3.0
    scores = trailing_z(values, 10)
    for n in range(100):
        past = values[max(0, n - 10) : n].tolist()
        spread = pstdev(past) if len(past) > 1 else 0.0
        expected = (values[n] - fmean(past)) / spread if spread > 1e-6 else 0.0
        assert scores[n] == pytest.approx(expected, rel=1e-5)
    assert trailing_z(np.ones(5), 3).tolist() == [0.0] * 5


def test_the_score_is_the_geometric_mean_times_the_rise() -> None:
    chunks = chunks_of(some_trades(), CHUNK_MS)
    scores = plain_scores(chunks, CHUNK_MS)
    buyers, bought = (trailing_z(part, PAST_MS // CHUNK_MS) for part in (chunks.buyers, chunks.bought))
    for n, score in enumerate(scores.tolist()):
        both = buyers[n] > 0 and bought[n] > 0 and chunks.buyers[n] >= FEWEST_BUYERS
        assert score == pytest.approx(sqrt(buyers[n] * bought[n]) * chunks.rises[n] if both else 0.0)
    assert (scores > 0).any()


def test_the_best_threshold_separates_a_pump_from_a_lesser_rush() -> None:
    onset = START_MS + 24 * 3_600_000
    ends = np.array([onset - 10 * 3_600_000, onset + 5_000])
    event = Event("X", "X", {5: onset}, START_MS, onset + 3_600_000, ends, np.empty((0, 0)))
    threshold, figures = best([event], [np.array([1.0, 4.0])], 5)
    assert 1.0 < threshold <= 4.0
    assert (figures.hits, figures.false_alarms, figures.f1) == (1, 0, 1.0)


@pytest.mark.slow
@pytest.mark.recorded
def test_on_the_labelled_pumps_it_is_worth_less_than_the_model(recorded_dir: Path) -> None:
    for seconds, (events, scores) in load(recorded_dir / "pump", lambda *_: None).items():
        _, figures = best(events, scores, seconds)
        assert figures.events == 104
        assert 0.7 < figures.f1 < 0.85
