"""What is beyond the plain rules: seasonal volume, market-wide moves, the chance of a diffusion, the rarest few."""

from __future__ import annotations

import math
import random
import statistics
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts.gates import gate
from shared.alerts.render import render
from shared.detection.features import FeatureEngine, SymbolFeatures, history_minutes
from shared.detection.follower_rates import FollowerRates, tail
from shared.detection.market_wide import MarketWide, market_signal
from shared.detection.rarest import DAY_MS, RarestBudget
from shared.detection.reading import Detector, Direction, Signal, Status
from shared.detection.sector import DiffusionTracker, bars_learnt, is_learning
from shared.detection.sector_signals import diffusion_signal
from shared.market.model import Bar, Market
from shared.market.universe import Universe
from shared.settings import SectorSettings, SectorThresholds, SectorWindows, Settings

MINUTE = 60_000
T0 = 1_767_225_600_000
COINS = tuple(f"{letter}USDT" for letter in "ABCDEF")
UNIVERSE = Universe("BTCUSDT", {"One": COINS[:4], "Two": COINS[4:]})


def reading(
    symbol: str,
    minute: int,
    z_er: float = 0.0,
    z_volume: float = 0.0,
    share: float = 0.5,
    r_15m: float = 0.0,
    bars: int = 720,
) -> SymbolFeatures:
    return SymbolFeatures(
        symbol,
        T0 + minute * MINUTE,
        0.0,
        r_15m,
        1.0,
        math.copysign(0.01, z_er),
        z_er,
        z_volume,
        share,
        Status.NORMAL,
        bars,
    )


def quiet(minute: int) -> dict[str, SymbolFeatures]:
    return {symbol: reading(symbol, minute) for symbol in COINS}


# --- volume without what is usual at this minute of the hour ---------------------------------------------------
def minute_bars(symbol: str, minute: int, volume: float) -> Bar:
    at = minute * MINUTE
    return Bar(Market.USDM, symbol, at, at + MINUTE - 1, 1.0, 1.0, 1.0, 1.0, volume, taker_buy_volume=0.0)


@pytest.mark.parametrize("bulk", [False, True])
def test_seasonal_volume_equals_a_slow_oracle(bulk: bool) -> None:
    settings = SectorSettings(
        volume_scale="log_seasonal", windows=SectorWindows(zscore_lookback_bars=40, min_zscore_bars=20)
    )
    rng = random.Random(7)
    volumes = {
        minute: rng.lognormvariate(0, 1) * (8.0 if minute % 60 == 0 else 1.0)
        for minute in range(900)
        if rng.random() > 0.02
    }
    volumes[700] = 0.0
    engine = FeatureEngine(settings, "BTCUSDT", ["AUSDT"])
    assert engine.history_bars == history_minutes(settings) == 40 + 720 + 1
    rows = [
        (at * MINUTE, {"AUSDT": minute_bars("AUSDT", at, volumes[at])} if at in volumes else {}) for at in range(900)
    ]
    if bulk:
        engine.load(rows[:850])
    found = {}
    for open_ms, bars in rows[850:] if bulk else rows:
        found[open_ms // MINUTE] = engine.push(open_ms, bars)["AUSDT"].z_volume

    def scale(minute: int) -> float | None:
        own = volumes.get(minute, 0.0)
        before = [math.log(volumes[minute - 60 * k]) for k in range(1, 13) if volumes.get(minute - 60 * k, 0.0) > 0]
        return None if own <= 0 or len(before) < 3 else math.log(own) - statistics.median(before)

    for minute in range(850, 900):
        x = scale(minute)
        past = [value for at in range(minute - 40, minute) if (value := scale(at)) is not None]
        centre = statistics.median(past)
        wanted = (
            None if x is None else (x - centre) / (1.4826 * statistics.median(abs(value - centre) for value in past))
        )
        if x is None or len(past) < 38:
            continue
        assert found[minute] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


# --- the market as a whole --------------------------------------------------------------------------------------
def wide(minute: int, moved: int, r_15m: float = -0.01) -> dict[str, SymbolFeatures]:
    return {
        symbol: reading(symbol, minute, -4.0, 5.0, 0.1, r_15m) if number < moved else reading(symbol, minute)
        for number, symbol in enumerate(COINS)
    }


def test_a_move_of_the_market_is_one_alert_and_no_sector_shot() -> None:
    settings = SectorSettings(market_wide_share=0.6)
    tracker = DiffusionTracker(settings, UNIVERSE)
    decisions = [tracker.decide(T0 + minute * MINUTE, wide(minute, 5)) for minute in range(4)]
    assert [one.move is not None for one in decisions] == [True, False, False, False]
    assert all(not one.hits and not one.events for one in decisions)
    move = decisions[0].move
    assert move is not None
    assert (move.moved, move.symbols, move.direction, move.r_15m) == (5, 6, Direction.DOWN, -0.01)
    signal = market_signal(move, "BTCUSDT", settings)
    assert (signal.detector, signal.symbol, signal.strength) == (
        Detector.MARKET_WIDE,
        "BTCUSDT",
        pytest.approx(5 / 3.6),
    )
    assert "5/6 = 83%" in render(signal).body


def test_the_shadow_of_a_market_move_lasts_as_long_as_its_returns_and_survives_a_restart() -> None:
    settings = SectorSettings(market_wide_share=0.6)
    tracker = DiffusionTracker(settings, UNIVERSE)
    tracker.decide(T0, wide(0, 6))
    again = DiffusionTracker(settings, UNIVERSE)
    again.restore(tracker.snapshot())
    assert again.decide(T0 + 15 * MINUTE, wide(15, 1)).hits == []
    assert [hit.symbol for hit in again.decide(T0 + 16 * MINUTE, wide(16, 1)).hits] == ["AUSDT"]


def test_one_sector_or_no_share_is_no_market() -> None:
    alone = MarketWide(SectorSettings(market_wide_share=0.5), Universe("BTCUSDT", {"One": COINS}))
    off = MarketWide(SectorSettings(), UNIVERSE)
    assert alone.step(T0, wide(0, 6)) == off.step(T0, wide(0, 6)) == (False, None)
    opposite = {**wide(0, 3), **{symbol: reading(symbol, 0, 4.0, 5.0, 0.9, 0.01) for symbol in COINS[3:]}}
    assert MarketWide(SectorSettings(market_wide_share=0.6), UNIVERSE).step(T0, opposite) == (False, None)


# --- the chance of a diffusion ----------------------------------------------------------------------------------
@given(st.lists(st.floats(0, 1), max_size=7), st.integers(0, 8))
def test_the_tail_is_the_sum_over_all_outcomes(chances: list[float], least: int) -> None:
    slow = sum(
        math.prod(p if hit else 1 - p for p, hit in zip(chances, outcome, strict=True))
        for outcome in product((False, True), repeat=len(chances))
        if sum(outcome) >= least
    )
    assert tail(chances, least) == pytest.approx(slow, abs=1e-12)


def test_equal_chances_give_the_binomial_tail() -> None:
    wanted = sum(math.comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(5, 21))
    assert tail([0.1] * 20, 5) == pytest.approx(wanted, rel=1e-12)


def test_a_rate_counts_beginnings_and_knows_when_it_cannot_say() -> None:
    rates = FollowerRates(15)
    for minute in range(400):
        follows = Direction.UP if minute % 100 in (3, 4, 5, 12) else None  # one beginning every 100 minutes
        rates.learn(T0 + minute * MINUTE, {"AUSDT": follows})
        rates.learn(T0 + minute * MINUTE, {"AUSDT": Direction.UP})  # the same minute again changes nothing
        if minute == 358:
            assert rates.chance("AUSDT", Direction.UP, 60) is None
    assert rates.chance("AUSDT", Direction.UP, 1) == pytest.approx(4.5 / 401)
    assert rates.chance("AUSDT", Direction.DOWN, 60) == pytest.approx(1 - (1 - 0.5 / 401) ** 60)
    assert rates.p_value(["AUSDT", "NEWUSDT"], Direction.UP, 60, 1) is None
    again = FollowerRates(15)
    again.restore(rates.snapshot())
    assert again.chance("AUSDT", Direction.UP, 7) == rates.chance("AUSDT", Direction.UP, 7)


@pytest.mark.parametrize(("lively", "told"), [(False, True), (True, False)])
def test_followers_that_always_follow_prove_nothing(lively: bool, told: bool) -> None:
    """The same three coins follow: a surprise where they rarely do, none where they do it every hour."""
    tracker = DiffusionTracker(SectorSettings(diffusion_p_max=0.01), UNIVERSE)
    for minute in range(720):
        features = quiet(minute)
        if lively and minute % 40 == 0:
            features |= {symbol: reading(symbol, minute, 3.0, 2.5) for symbol in COINS[1:4]}
        tracker.decide(T0 + minute * MINUTE, features)
    shot = quiet(720) | {"AUSDT": reading("AUSDT", 720, 5.0, 5.0, 0.9)}
    assert [hit.symbol for hit in tracker.decide(T0 + 720 * MINUTE, shot).hits] == ["AUSDT"]
    events = []
    for minute in range(721, 760):
        features = quiet(minute)
        if minute == 730:
            features |= {symbol: reading(symbol, minute, 3.0, 2.5) for symbol in COINS[1:4]}
        events += tracker.decide(T0 + minute * MINUTE, features).events
    assert bool(events) is told
    if told:
        assert events[0].p_value is not None
        assert events[0].p_value < 1e-4
        signal = diffusion_signal(events[0], SectorSettings(diffusion_p_max=0.01))
        assert signal.values["p_value"] == events[0].p_value
        assert "By chance: p=" in render(signal).body


# --- the rarest of a day ----------------------------------------------------------------------------------------
def test_a_budget_keeps_the_strongest_and_is_never_exceeded() -> None:
    rng, budget = random.Random(3), RarestBudget(3)
    passed: dict[int, list[float]] = {}
    strengths: dict[int, list[float]] = {}
    for number in range(20 * 40):
        event_ms, strength = T0 + number * DAY_MS // 40, 1.0 + rng.paretovariate(1.5)
        strengths.setdefault(event_ms // DAY_MS, []).append(strength)
        if budget.judge(event_ms, strength):
            passed.setdefault(event_ms // DAY_MS, []).append(strength)
    assert max(len(each) for each in passed.values()) <= 3
    later = [one for day, each in passed.items() if day > T0 // DAY_MS + 1 for one in each]
    bar = statistics.quantiles([one for each in strengths.values() for one in each], n=10)[-1]
    assert min(later) > 0.8 * bar  # about the strongest tenth, of forty a day
    assert len(later) >= 20


def test_what_is_not_among_the_rarest_is_held_as_budget() -> None:
    signal = Signal(Detector.SECTOR_INITIATOR, Market.USDM, "AUSDT", T0, T0 + MINUTE, {"among_the_rarest": False}, {})
    assert gate(signal, Settings()) == "budget"
    again = RarestBudget(1)
    assert again.judge(T0, 2.0)
    other = RarestBudget(1)
    other.restore(again.snapshot())
    assert not other.judge(T0 + MINUTE, 9.0)


# --- learning ---------------------------------------------------------------------------------------------------
def test_a_learning_coin_neither_follows_nor_counts_among_those_asked() -> None:
    settings = SectorSettings(thresholds=SectorThresholds(sector_share_min=1.0))
    tracker = DiffusionTracker(settings, UNIVERSE)
    young = reading("DUSDT", 1, 5.0, 5.0, bars=400)
    assert is_learning(young, settings)
    assert bars_learnt(young, settings) == (640, 960)
    tracker.decide(T0, quiet(0) | {"AUSDT": reading("AUSDT", 0, 5.0, 5.0, 0.9)})
    followers = {symbol: reading(symbol, 1, 3.0, 3.0) for symbol in COINS[1:3]}
    (event,) = tracker.decide(T0 + MINUTE, quiet(1) | followers | {"DUSDT": young}).events
    assert (event.others, event.share, [one.symbol for one in event.followers]) == (2, 1.0, ["BUSDT", "CUSDT"])


def test_an_initiator_whose_sector_is_gone_is_forgotten_in_peace() -> None:
    tracker = DiffusionTracker(SectorSettings(), UNIVERSE)
    tracker.decide(T0, quiet(0) | {"AUSDT": reading("AUSDT", 0, 5.0, 5.0, 0.9)})
    tracker.decide(T0 + MINUTE, quiet(1) | {"BUSDT": reading("BUSDT", 1, 3.0, 3.0)})
    moved = tracker.moved_to(Universe("BTCUSDT", {"Two": COINS[4:]}))
    assert moved.decide(T0 + 2 * MINUTE, quiet(2)).events == []
