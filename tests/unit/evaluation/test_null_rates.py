"""What every rule says about a market without events, held to bands; docs/alerts.md states these rates.

Deterministic: the market is its seed. A change of a rule, a default or the generator that moves a rate out of its band
has to change the catalogue too.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from local.evaluation.null_market import SPOT, START_MS, make_minutes, write_bars, write_market, write_trades
from local.evaluation.units import Alarm, evaluate_unit, make_units
from local.recordings import discover
from shared.detection.reading import Detector
from shared.market.model import Market
from shared.settings import Settings
from shared.times import DAY_MS

ALL = frozenset(Detector)


def alarms_of(folder: Path, detectors: frozenset[Detector], told_from_ms: int | None = None) -> list[Alarm]:
    units = make_units(discover([folder]), [], told_from_ms)
    return [alarm for unit in units for alarm in evaluate_unit(unit, Settings(), detectors, paths=False).alarms]


def day_of(alarm: Alarm) -> int:
    return (alarm.event_ms - START_MS) // DAY_MS


def test_spot_rules_on_bars_and_trades(tmp_path: Path) -> None:
    days, seed = 3, 5
    for minutes in make_minutes(SPOT, days, seed):
        write_trades(minutes, tmp_path, seed)
        write_bars(minutes, tmp_path, "spot", seed)
    told = alarms_of(tmp_path, frozenset({Detector.VOLUME_SPIKE, Detector.TRADE_SPIKE}))
    signals = Counter(alarm.detector for alarm in told)
    later = Counter(alarm.detector for alarm in told if alarm.sent and day_of(alarm) >= 1)
    symbol_days = 2 * days
    assert 120 < signals[Detector.VOLUME_SPIKE] / symbol_days < 220  # 8-15 % of all minutes, as on real bars
    assert 70 < signals[Detector.TRADE_SPIKE] / symbol_days < 180
    assert later[Detector.VOLUME_SPIKE] <= 2
    assert later[Detector.TRADE_SPIKE] / (2 * (days - 1)) <= 2.0


@pytest.mark.slow
def test_the_default_deployment_is_quiet_on_ordinary_days(tmp_path: Path) -> None:
    """Two spot symbols and one sector, begun with the past that a first run fetches: at most 10 alerts a day.

    On the first day the records of windows are young, and a few more are allowed.
    """
    days = 4
    write_market(tmp_path, days=days, seed=2, past=True)
    told = [
        alarm
        for alarm in alarms_of(tmp_path, ALL, START_MS)
        if not (alarm.detector is Detector.VOLUME_SPIKE and alarm.market is Market.USDM)  # live, spot only
    ]
    assert min(alarm.known_ms for alarm in told) >= START_MS
    sent = Counter(day_of(alarm) for alarm in told if alarm.sent)
    assert sent[0] <= 13
    assert all(sent[day] <= 10 for day in range(1, days)), sent
    signals = Counter(alarm.detector for alarm in told)
    windows = 2 * days * 4320
    assert 0.004 < signals[Detector.WINDOW_ANOMALY] / windows < 0.006
    assert signals[Detector.SECTOR_INITIATOR] / (3 * days) < 2.0
    assert signals[Detector.SECTOR_DIFFUSION] / (3 * days) < 0.2
    assert signals[Detector.PUMP] == 0
