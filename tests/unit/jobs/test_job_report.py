"""The report: every number from what is stored, busy detectors cut but counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import START_MS, FakeWorld, make_bar

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.reading import Detector, Direction, Signal
from shared.errors import UsageError
from shared.jobs import redelivery, report
from shared.jobs.when import parse_when
from shared.market.model import Market
from shared.storage.bars import BarRepository


def signal(detector: Detector, symbol: str, minute: int, **values: Any) -> Signal:
    spot = detector in (Detector.TRADE_SPIKE, Detector.VOLUME_SPIKE)
    return Signal(
        detector=detector,
        market=Market.SPOT if spot else Market.USDM,
        symbol=symbol,
        event_ms=START_MS + minute * MINUTE_MS,
        known_ms=START_MS + (minute + 1) * MINUTE_MS,
        values=values,
        thresholds={},
        direction=None if spot else Direction.UP,
        sector=None if spot else "Privacy",
    )


def told(world: FakeWorld) -> FakeWorld:
    signals = [
        signal(Detector.SECTOR_INITIATOR, "XMRUSDT", 1, status="CONFIRMED"),
        signal(Detector.SECTOR_INITIATOR, "XMRUSDT", 11, status="PARTIAL"),
        signal(Detector.SECTOR_DIFFUSION, "XMRUSDT", 15, initiator="XMRUSDT", followers=[]),
        *(signal(Detector.VOLUME_SPIKE, "BTCUSDT", n, ratio=2.1, rarity=0.5) for n in range(20)),
    ]
    for one in signals:
        world.clock.set(one.known_ms)
        world.deps.alerts.handle(one)
    return world


def test_counts_names_and_lists_what_happened(world: FakeWorld) -> None:
    told(world)
    BarRepository(world.table).put_minute(Market.USDM, START_MS, {"BTCUSDT": make_bar("BTCUSDT", START_MS)})
    open_ms = START_MS + 3 * MINUTE_MS
    BarRepository(world.table).put_minute(Market.USDM, open_ms, {"BTCUSDT": make_bar("BTCUSDT", open_ms)})
    answer = report.run(world.deps, since_ms=START_MS, until_ms=START_MS + HOUR_MS).to_json()
    assert answer["counts"]["sector_initiator"] == {"signals": 2, "alerts": 1, "held": {"cooldown": 1}}
    assert answer["counts"]["volume_spike"] == {"signals": 20, "alerts": 0, "held": {"gate": 20}}
    assert answer["counts"]["window_anomaly"] == {"signals": 0, "alerts": 0, "held": {}}
    assert answer["initiators_by_status"] == {"CONFIRMED": 1, "PARTIAL": 1}
    assert [one["symbol"] for one in answer["diffusions"]] == ["XMRUSDT"]
    assert answer["top_symbols"][0] == {"symbol": "XMRUSDT", "signals": 3, "alerts": 2}
    assert len(answer["events"]) == 23
    assert answer["time_range"]["first_event"] == "2026-01-01T00:00:00Z"
    assert answer["time_range"]["last_event"] == "2026-01-01T00:19:00Z"
    assert (answer["since"], answer["until"]) == ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z")
    assert answer["feed_health"]["minutes"]["usdm"]["missing"] == 2
    assert json.loads(json.dumps(answer)) == answer


def test_only_what_lies_in_the_range_counts(world: FakeWorld) -> None:
    told(world)
    answer = report.run(world.deps, since_ms=START_MS + 10 * MINUTE_MS, until_ms=START_MS + 12 * MINUTE_MS).to_json()
    assert answer["counts"]["sector_initiator"]["signals"] == 1
    assert answer["counts"]["volume_spike"]["signals"] == 2


def test_what_is_not_listed_is_counted_as_left_out(world: FakeWorld) -> None:
    told(world)
    answer = report.run(world.deps, since_ms=START_MS, until_ms=START_MS + HOUR_MS, max_events=5).to_json()
    listed = [one["detector"] for one in answer["events"]]
    assert listed.count("sector_initiator") == 2
    assert listed.count("volume_spike") + answer["events_left_out"]["volume_spike"] == 20


def test_an_empty_time_is_an_answer(world: FakeWorld) -> None:
    answer = report.run(world.deps, since_ms=START_MS, until_ms=START_MS + HOUR_MS).to_json()
    assert (answer["events"], answer["time_range"]["first_event"]) == ([], None)


@pytest.mark.parametrize(
    ("text", "ago_ms"),
    [("24h", 24 * HOUR_MS), ("30m", 30 * MINUTE_MS), ("7d", 168 * HOUR_MS), (" 1.5h ", 90 * MINUTE_MS)],
)
def test_times_may_be_said_as_how_long_ago(text: str, ago_ms: int) -> None:
    assert parse_when(text, START_MS) == START_MS - ago_ms


def test_times_may_be_iso_or_milliseconds() -> None:
    assert parse_when("2026-01-01T01:00:00Z", START_MS) == START_MS + HOUR_MS
    assert parse_when(str(START_MS), 0) == START_MS


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "99999999999999999999", "2026-13-01", "1y", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_when(text, START_MS)


def test_redelivery_reports_what_the_service_did(world: FakeWorld) -> None:
    assert redelivery.run(world.deps, scheduled_ms=START_MS) == redelivery.RedeliveryReport(START_MS)
