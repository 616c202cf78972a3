"""What every rule says about a market without events, held to bands; docs/alerts.md states these rates.

Deterministic: the market is its seed. A change of a rule, a default or the generator that moves a rate out of its band
has to change the catalogue too. Every band has two ends where the rate is not about zero: a rule that fell silent is
as wrong as one that floods.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from local.evaluation.engine import override
from local.evaluation.null_books import make_sides, write_books
from local.evaluation.null_market import (
    FUTURES,
    SPOT,
    START_MS,
    THIN,
    futures_of,
    make_minutes,
    opens,
    write_bars,
    write_market,
    write_trades,
)
from local.evaluation.units import Alarm, evaluate_unit, make_units
from local.recordings import discover
from shared.detection.reading import Detector
from shared.market.model import Market
from shared.settings import Settings
from shared.times import DAY_MS

SECTORS = {"Privacy": ["ZECUSDT", "DASHUSDT", "XMRUSDT"], "Majors": ["ETHUSDT", "SOLUSDT", "XRPUSDT"]}
TWO_SECTORS = override(Settings(), {"sector.market_wide_share": "0.6", "universe.sectors": json.dumps(SECTORS)})
BOOKS = override(Settings(), {"order_book.alert_enabled": "true"})


def alarms_of(
    folder: Path, *detectors: Detector, settings: Settings | None = None, told_from_ms: int | None = None
) -> list[Alarm]:
    units = make_units(discover([folder]), [], told_from_ms)
    results = [evaluate_unit(unit, settings or Settings(), frozenset(detectors), paths=False) for unit in units]
    return [alarm for result in results for alarm in result.alarms]


def per_day(alarms: list[Alarm], detector: Detector, days: float) -> tuple[float, float]:
    """Return signals and alerts of a detector over so many (symbol) days."""
    mine = [alarm for alarm in alarms if alarm.detector is detector]
    return len(mine) / days, sum(alarm.sent for alarm in mine) / days


def day_of(alarm: Alarm) -> int:
    return (alarm.event_ms - START_MS) // DAY_MS


def test_spot_rules_on_bars_and_trades(tmp_path: Path) -> None:
    """Without a past, so the first day, on which nothing is rare yet, is not asked for its alerts."""
    days, seed = 4, 5
    for minutes in make_minutes(SPOT, days, seed):
        write_trades(minutes, tmp_path, seed)
        write_bars(minutes, tmp_path, "spot", seed)
    told = alarms_of(tmp_path, Detector.VOLUME_SPIKE, Detector.TRADE_SPIKE)
    later = [alarm for alarm in told if day_of(alarm) >= 1]
    volume, trades = (per_day(later, rule, 2 * (days - 1)) for rule in (Detector.VOLUME_SPIKE, Detector.TRADE_SPIKE))
    assert 130 < volume[0] < 190  # 9-13 % of all minutes, as on real bars
    assert volume[1] < 0.4
    assert 90 < trades[0] < 150
    assert 0.3 < trades[1] < 1.7


def test_the_order_book_rule_takes_chance_for_a_lean(tmp_path: Path) -> None:
    """A sample a minute knows nothing of the one before, so three in a row are common; it is off by default."""
    days = 4
    for minutes in make_minutes(SPOT, days, 1):
        write_books(minutes.symbol.symbol, opens(minutes), START_MS, tmp_path, 1)
    rule = Detector.ORDER_BOOK_IMBALANCE
    assert not alarms_of(tmp_path, rule)
    signals, alerts = per_day(alarms_of(tmp_path, rule, settings=BOOKS), rule, 2 * days)
    assert 26 < signals < 42
    assert 16 < alerts < 26
    longer = override(BOOKS, {"order_book.alert_samples": "6"})
    signals, alerts = per_day(alarms_of(tmp_path, rule, settings=longer), rule, 2 * days)
    assert 0.1 < alerts <= signals < 1.5


def test_null_books_lean_as_recorded_ones_and_forget_it_within_a_minute() -> None:
    bids, asks = (side.sum(axis=1) for side in make_sides(np.random.default_rng(2), 20_000))
    obi = (bids - asks) / (bids + asks)
    assert 0.43 < (abs(obi) >= 0.6).mean() < 0.56  # ETHUSDT futures, BTCUSDT spot
    assert -0.7 < np.corrcoef(np.log(bids), np.log(asks))[0, 1] < -0.5
    assert 0.0 < np.corrcoef(obi[:-1], obi[1:])[0, 1] < 0.1


def test_sector_rules(tmp_path: Path) -> None:
    days, seed, learnt_ms = 12, 6, START_MS + DAY_MS
    for minutes in make_minutes(FUTURES, days + 1, seed):
        write_bars(minutes, tmp_path, "usdm", seed)
    rules = (Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION)
    told = alarms_of(tmp_path, *rules, told_from_ms=learnt_ms)
    initiator, diffusion = (per_day(told, rule, len(FUTURES) * days) for rule in rules)
    assert 0.03 < initiator[0] < 0.25
    assert 0.02 < initiator[1] < 0.15
    assert diffusion[1] <= diffusion[0] < 0.06


def test_moves_of_the_whole_market(tmp_path: Path) -> None:
    """Off by default, and there is no such rule for one sector; where it is on, the clock's bursts alone set it off."""
    days, seed, learnt_ms = 3, 3, START_MS + DAY_MS
    symbols = ("BTCUSDT", *(symbol for members in SECTORS.values() for symbol in members))
    for minutes in make_minutes(futures_of(symbols), days + 1, seed):
        write_bars(minutes, tmp_path, "usdm", seed)
    rule, on = Detector.MARKET_WIDE, override(Settings(), {"sector.market_wide_share": "0.6"})
    for silent in (on, override(TWO_SECTORS, {"sector.market_wide_share": "null"})):
        assert not alarms_of(tmp_path, rule, settings=silent, told_from_ms=learnt_ms)
    signals, alerts = per_day(alarms_of(tmp_path, rule, settings=TWO_SECTORS, told_from_ms=learnt_ms), rule, days)
    assert 2.5 < alerts <= signals < 7.0


def test_the_null_futures_are_those_of_the_settings() -> None:
    assert futures_of(Settings().futures_symbols) == FUTURES
    assert [one.symbol for one in futures_of(TWO_SECTORS.futures_symbols)][4:] == SECTORS["Majors"]


def test_no_pump_is_seen_where_there_is_none(tmp_path: Path) -> None:
    days, seed = 4, 5
    write_trades(make_minutes((THIN,), days, seed)[0], tmp_path, seed)
    on = override(Settings(), {"pump.enabled": "true"})
    assert not alarms_of(tmp_path, Detector.PUMP, settings=on)
    # That it looked: hardly any likeness to a pump is asked for.
    told = alarms_of(tmp_path, Detector.PUMP, settings=override(on, {"pump.threshold": "0.001"}))
    assert 2 < per_day(told, Detector.PUMP, days)[0] < 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_default_deployment_is_quiet_on_ordinary_days(tmp_path: Path, seed: int) -> None:
    """Two spot symbols and one sector, begun with the past that a first run fetches: at most 10 alerts a day."""
    days = 4
    write_market(tmp_path, days=days, seed=seed, books=False, past=True)
    told = [
        alarm
        for alarm in alarms_of(tmp_path, *Detector, told_from_ms=START_MS)
        if not (alarm.detector is Detector.VOLUME_SPIKE and alarm.market is Market.USDM)  # live, spot only
    ]
    assert min(alarm.known_ms for alarm in told) >= START_MS
    sent = Counter(day_of(alarm) for alarm in told if alarm.sent)
    assert all(1 <= sent[day] <= 10 for day in range(days)), sent
    windows = 2 * days * 4320
    signals, alerts = per_day(told, Detector.WINDOW_ANOMALY, 2 * days)
    assert 0.004 < signals * 2 * days / windows < 0.006
    assert 0.3 < alerts < 2.5
