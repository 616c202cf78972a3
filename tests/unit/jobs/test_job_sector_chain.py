"""Bars -> features -> sector: repeats, outages, disorder and cold starts decide as one clean run does (F401-F406)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from fakes import START_MS, FakeWorld

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.reading import Detector
from shared.errors import ExchangeUnavailable
from shared.exchange.market_data import Funding, OpenInterest
from shared.jobs import features, kline_bars, sector
from shared.jobs.common import readings_of
from shared.jobs.confirmations import LIQUIDATIONS, MAX_DELAY_S
from shared.jobs.deps import BARS_STORED, FEATURES_STORED, Dependencies
from shared.market.model import Market
from shared.settings import SectorSettings, SectorWindows, Settings
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.features import FeatureRepository
from shared.storage.signals import SignalRepository

SYMBOLS = ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT")
SMALL = SectorWindows(
    zscore_lookback_bars=60, beta_lookback_bars=60, min_zscore_bars=30, return_bars=15, diffusion_minutes=30
)
SETTINGS = msgspec.structs.replace(Settings(), sector=SectorSettings(windows=SMALL))
BEGIN = START_MS + 4 * HOUR_MS
MINUTES = 40
SHOT = BEGIN + 10 * MINUTE_MS
ECHO = BEGIN + 16 * MINUTE_MS


def plant(world: FakeWorld, symbol: str, at_ms: int, jump: float) -> None:
    """Move a coin by `jump` from `at_ms` on, on fifty times the volume, all of it bought."""
    for open_ms in [at for at in world.market.bars[Market.USDM, symbol] if at >= at_ms]:
        bar = world.market.bars[Market.USDM, symbol][open_ms]
        world.market.put(replace(bar, close=bar.close * (1 + jump)))
    for number in range(15):
        open_ms = at_ms - number * MINUTE_MS
        volume = 500.0 if number == 0 else world.market.bars[Market.USDM, symbol][open_ms].volume
        world.market.change(Market.USDM, symbol, open_ms, volume=volume, taker_buy_volume=0.9 * volume)


def make_world(settings: Settings = SETTINGS) -> FakeWorld:
    world = FakeWorld(settings=settings)
    for symbol in SYMBOLS:
        world.market.fill(Market.USDM, symbol, START_MS, BEGIN + 2 * HOUR_MS)
    plant(world, "XMRUSDT", SHOT, 0.03)
    plant(world, "ZECUSDT", ECHO, 0.02)
    plant(world, "DASHUSDT", ECHO + MINUTE_MS, 0.02)
    return world


def chained(world: FakeWorld, deps: Dependencies) -> Dependencies:
    """Return dependencies whose events call the next job at once, as the event bus does."""

    def emit(detail_type: str, detail: Any) -> None:
        if detail_type == BARS_STORED:
            features.run(linked, minute_ms=detail["minute_ms"], changed_from_ms=detail["changed_from_ms"])
        elif detail_type == FEATURES_STORED:
            sector.run(linked, minute_ms=detail["minute_ms"], changed_from_ms=detail["changed_from_ms"])

    linked = replace(deps, emit=emit)
    return linked


def bars_at(world: FakeWorld, deps: Dependencies, minute: int) -> None:
    kline_bars.run(deps, minute_ms=world.at(BEGIN + (minute + 1) * MINUTE_MS + 1_500))


def every_minute(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    for minute in range(MINUTES):
        bars_at(world, deps, minute)


def decisions(world: FakeWorld) -> list[tuple[Any, ...]]:
    stored, _ = SignalRepository(world.table).range(limit=500)
    return sorted(
        (
            one.signal.event_ms,
            one.signal.detector.value,
            one.signal.symbol,
            one.alert_id,
            msgspec.json.encode(one.signal.values),
        )
        for one in stored
    )


def tracker(world: FakeWorld) -> dict[str, Any]:
    return sector.load_tracker(world.table, SETTINGS).snapshot()


def alerts(world: FakeWorld) -> list[tuple[int, str, str]]:
    return sorted((alert.event_ms, alert.detector.value, alert.symbol) for alert in world.channel.sent)


@pytest.fixture(scope="module")
def clean() -> FakeWorld:
    world = make_world()
    every_minute(world)
    return world


def test_finds_the_planted_initiator_its_followers_and_nothing_else(clean: FakeWorld) -> None:
    found = [(event_ms, name, symbol) for event_ms, name, symbol, _, _ in decisions(clean)]
    assert (SHOT, "sector_initiator", "XMRUSDT") in found
    diffusions = [one for one in found if one[1] == "sector_diffusion"]
    assert diffusions[0] == (ECHO + MINUTE_MS, "sector_diffusion", "XMRUSDT")
    assert min(found)[0] == SHOT
    stored = SignalRepository(clean.table).latest(Detector.SECTOR_DIFFUSION, "XMRUSDT")
    assert stored is not None
    assert [one["symbol"] for one in stored.signal.values["followers"]] == ["ZECUSDT", "DASHUSDT"]
    assert (SHOT, "sector_initiator", "XMRUSDT") in alerts(clean)


def repeated(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    for minute in range(MINUTES):
        for again in (deps, deps, chained(world, world.another())):
            bars_at(world, again, minute)


def cold_each_time(world: FakeWorld) -> None:
    for minute in range(MINUTES):
        bars_at(world, chained(world, world.another()), minute)


def outage(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    for minute in range(5):
        bars_at(world, deps, minute)
    bars_at(world, deps, MINUTES - 1)  # the clock says all of it has passed


def two_processes(world: FakeWorld) -> None:
    both = [chained(world, world.another()), chained(world, world.another())]
    for minute in range(MINUTES):
        bars_at(world, both[minute % 2], minute)


def pairs_swapped(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    for minute in range(0, MINUTES, 2):
        bars_at(world, deps, minute + 1)
        bars_at(world, deps, minute)


@pytest.mark.parametrize("way", [repeated, cold_each_time, outage, two_processes, pairs_swapped])
def test_every_way_through_decides_alike(clean: FakeWorld, way: Callable[[FakeWorld], None]) -> None:
    world = make_world()
    way(world)
    assert decisions(world) == decisions(clean)
    assert tracker(world) == tracker(clean)
    if way is not outage:  # what is older than ten minutes goes to the feed only
        assert alerts(world) == alerts(clean)
    features_of_both = [FeatureRepository(one.table).range(BEGIN, BEGIN + HOUR_MS) for one in (world, clean)]
    assert features_of_both[0] == features_of_both[1]


def test_a_late_bar_restates_the_features_from_its_minute_on(clean: FakeWorld) -> None:
    world = make_world()
    deps = chained(world, world.deps)
    late = world.market.bars[Market.USDM, "DASHUSDT"].pop(BEGIN + 3 * MINUTE_MS)
    for minute in range(6):
        bars_at(world, deps, minute)
    wrong = FeatureRepository(world.table).get(BEGIN + 4 * MINUTE_MS)
    world.market.put(late)
    bars_at(world, deps, 6)
    assert wrong != FeatureRepository(clean.table).get(BEGIN + 4 * MINUTE_MS)
    for minute in range(7):
        at_ms = BEGIN + minute * MINUTE_MS
        assert FeatureRepository(world.table).get(at_ms) == FeatureRepository(clean.table).get(at_ms)


@pytest.mark.parametrize(
    ("symbol", "by", "again"),
    [("BTCUSDT", 1, False), ("XMRUSDT", 1, True), ("XMRUSDT", 4, False), ("ZECUSDT", 4, True)],
)
def test_a_late_bar_is_decided_as_if_it_had_come_in_time(clean: FakeWorld, symbol: str, by: int, again: bool) -> None:
    """Of the benchmark, without whose bar nobody is scored, of the initiator, and of a follower."""
    world = make_world()
    at = ECHO if symbol == "ZECUSDT" else SHOT
    late = world.market.bars[Market.USDM, symbol].pop(at)
    deps = chained(world, world.deps)
    for minute in range(MINUTES):
        if BEGIN + minute * MINUTE_MS == at + by * MINUTE_MS:
            world.market.put(late)
        for _ in range(1 + again):
            bars_at(world, deps, minute)
    missed = [one for one in decisions(clean) if one not in decisions(world)]
    assert missed == []
    assert tracker(world) == tracker(clean)
    initiators = [one for one in decisions(world) if one[1] == "sector_initiator" and one not in decisions(clean)]
    assert initiators == []
    diffusions = [one[4] for one in decisions(world) if one[1] == "sector_diffusion"]
    assert len(diffusions) == len(set(diffusions)) == sum(one[1] == "sector_diffusion" for one in decisions(clean))


def test_a_warm_process_reads_only_the_new_minute() -> None:
    world = make_world()
    for minute in range(3):
        bars_at(world, world.deps, minute)
    cold = features.run(world.deps, minute_ms=BEGIN + MINUTE_MS)
    warm = features.run(world.deps, minute_ms=BEGIN + 2 * MINUTE_MS)
    assert (cold.cold, warm.cold, warm.minutes_read, warm.minutes) == (True, False, 1, 1)
    assert (cold.scored, cold.unscorable) == (3, 1)  # the benchmark's own excess return is always 0: no scale
    assert features.run(world.deps, minute_ms=BEGIN + 2 * MINUTE_MS).repeated


def test_features_without_bars_tell_nobody() -> None:
    world = make_world()
    report = features.run(world.deps, minute_ms=BEGIN)
    assert (report.minutes, world.emitted) == (0, [])
    assert sector.run(world.deps, minute_ms=BEGIN).skipped == "no features of this minute are stored"


def test_two_runs_at_once_decide_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    deps = replace(world.deps, emit=lambda kind, detail: None)
    for minute in range(12):
        bars_at(world, deps, minute)
        features.run(deps, minute_ms=BEGIN + minute * MINUTE_MS)
    put, entered = CheckpointRepository.put, []

    def interleaved(self: CheckpointRepository, name: str, state: Any, *, expected_version: int | None = None) -> bool:
        if not entered:
            entered.append(name)
            assert sector.run(world.another(), minute_ms=SHOT).initiators == 1
        return put(self, name, state, expected_version=expected_version)

    monkeypatch.setattr(CheckpointRepository, "put", interleaved)
    beaten = sector.run(deps, minute_ms=SHOT)
    assert beaten.alerts == 0
    assert alerts(world) == [(SHOT, "sector_initiator", "XMRUSDT")]


def shot(world: FakeWorld) -> tuple[sector.SectorReport, dict[str, Any]]:
    """Run up to the planted shot and return the sector's report and the signal's values."""
    deps = replace(world.deps, emit=lambda kind, detail: None)
    bars_at(world, deps, 10)
    features.run(deps, minute_ms=SHOT)
    report = sector.run(deps, minute_ms=SHOT)
    stored = SignalRepository(world.table).latest(Detector.SECTOR_INITIATOR, "XMRUSDT")
    assert stored is not None
    return report, dict(stored.signal.values)


def with_confirmations(world: FakeWorld) -> FakeWorld:
    close_ms = SHOT + MINUTE_MS
    end_ms = close_ms - close_ms % (5 * MINUTE_MS)
    world.market.interest["XMRUSDT"] = [
        OpenInterest("XMRUSDT", 1000.0 + (n * 37 % 11) + (200.0 if n == 99 else 0.0), end_ms - (99 - n) * 5 * MINUTE_MS)
        for n in range(100)
    ]
    world.market.funding["XMRUSDT"] = Funding("XMRUSDT", 0.0012, close_ms)
    return world


def test_open_interest_and_funding_confirm_and_what_nobody_heard_is_unknown() -> None:
    report, values = shot(with_confirmations(make_world()))
    states = {name: one["state"] for name, one in values["confirmations"].items()}
    assert states == {"open_interest": "confirmed", "liquidations": "unknown", "funding": "confirmed"}
    assert (values["status"], values["funding_rate"]) == ("CONFIRMED", 0.0012)
    assert report.unknown == {"liquidations": 1}


def test_liquidations_count_where_every_minute_was_listened_to() -> None:
    world = with_confirmations(make_world())
    store = readings_of(world.deps)
    for number in range(24 * 60):
        notional = 90_000.0 if number == 2 else 100.0 + number % 17
        store.put(LIQUIDATIONS, SHOT - number * MINUTE_MS, {"XMRUSDT": {"notional": notional}})
    _, values = shot(world)
    assert values["confirmations"]["liquidations"]["state"] == "confirmed"


def test_each_failing_source_is_unknown_and_the_alert_still_goes() -> None:
    world = with_confirmations(make_world())
    world.market.errors["open_interest_history"] = ExchangeUnavailable("no answer")
    world.market.errors["funding_all"] = ExchangeUnavailable("no answer")
    report, values = shot(world)
    assert values["status"] == "UNCONFIRMED"
    assert report.unknown == {"open_interest": 1, "liquidations": 1, "funding": 1}
    assert report.alerts == 1


def test_a_hanging_source_is_not_waited_for() -> None:
    world = with_confirmations(make_world())
    answered = threading.Event()
    world.market.errors["open_interest_history"] = lambda: held_until(answered)
    try:
        _, values = shot(world)  # would take a minute, and know the answer, if it waited for the source
    finally:
        answered.set()
    assert MAX_DELAY_S == 2.0
    states = {name: one["state"] for name, one in values["confirmations"].items()}
    assert (states["open_interest"], states["funding"]) == ("unknown", "confirmed")
    assert "open_interest" in values["sources_failed"]


def held_until(event: threading.Event) -> None:
    event.wait(60.0)


def test_a_present_funding_rate_says_nothing_of_a_minute_long_past() -> None:
    world = with_confirmations(make_world())
    world.market.funding["XMRUSDT"] = Funding("XMRUSDT", 0.0012, SHOT + HOUR_MS)
    _, values = shot(world)
    assert values["confirmations"]["funding"]["state"] == "unknown"
