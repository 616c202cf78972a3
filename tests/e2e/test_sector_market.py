"""Planted sector events are found for what they are; markets without any stay quiet; the recorded ones too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import msgspec
import numpy as np
import pytest
from moto import mock_aws

from local.exchange.market import SimulatedMarket
from local.exchange.scenarios import sector_shot
from local.exchange.universe import BENCHMARK, SECTORS
from local.recordings import discover
from local.replay import Replay
from shared.alerts.service import AlertService
from shared.clock import HOUR_MS, MINUTE_MS, parse_utc_ms
from shared.detection.features_bulk import bulk_features
from shared.detection.reading import Detector
from shared.detection.sector import DiffusionTracker
from shared.exchange.market_data import Funding, OpenInterest
from shared.jobs import backfill, features, kline_bars, sector
from shared.jobs.deps import BARS_STORED, FEATURES_STORED, Dependencies
from shared.market.model import Bar, Market
from shared.market.universe import Universe
from shared.settings import SectorSettings, Settings, UniverseSettings
from shared.storage.dynamodb import DynamoTable
from shared.storage.signals import SignalRepository
from tests.fakes import FakeWorld

DAY = parse_utc_ms("2026-03-03T00:00:00Z")
SYMBOLS = (BENCHMARK, *(symbol for members in SECTORS.values() for symbol in members))
SETTINGS = msgspec.structs.replace(Settings(), universe=UniverseSettings(sectors=SECTORS))


def bars_of(market: SimulatedMarket, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
    rows = market.candles(
        Market.USDM, symbol, start_ms=start_ms, end_ms=end_ms - 1, limit=100_000, now_ms=end_ms + MINUTE_MS
    )
    return [
        Bar(
            Market.USDM, symbol, one.open_ms, one.close_ms, float(one.open), float(one.high), float(one.low),
            float(one.close), float(one.volume), float(one.quote_volume), one.trades, float(one.taker_volume),
        )
        for one in rows
    ]  # fmt: skip


def chained(world: FakeWorld, deps: Dependencies) -> Dependencies:
    def emit(detail_type: str, detail: Any) -> None:
        if detail_type == BARS_STORED:
            features.run(linked, minute_ms=detail["minute_ms"], changed_from_ms=detail["changed_from_ms"])
        elif detail_type == FEATURES_STORED:
            sector.run(linked, minute_ms=detail["minute_ms"], changed_from_ms=detail["changed_from_ms"])

    linked = replace(deps, emit=emit)
    return linked


def simulated(seed: int, shot_ms: int, direction: str, *, confirmed: bool) -> FakeWorld:
    """A world whose exchange answers from the simulated market around one planted sector shot."""
    plan = sector_shot("Privacy", "ZECUSDT", shot_ms, direction, confirmed=confirmed)
    market = SimulatedMarket(seed=seed, start_ms=shot_ms, plan=plan)
    world = FakeWorld(settings=SETTINGS)
    for symbol in SYMBOLS:
        for bar in bars_of(market, symbol, shot_ms - 17 * HOUR_MS, shot_ms + 20 * MINUTE_MS):
            world.market.put(bar)
    close_ms = shot_ms + MINUTE_MS
    grid = range(close_ms - close_ms % 300_000 - 499 * 300_000, close_ms + 1, 300_000)
    world.market.interest["ZECUSDT"] = [
        OpenInterest("ZECUSDT", float(market.open_interest("ZECUSDT", at_ms) or 0), at_ms) for at_ms in grid
    ]
    mark = market.mark("ZECUSDT", close_ms)
    assert mark is not None
    world.market.funding["ZECUSDT"] = Funding("ZECUSDT", float(mark.rate), close_ms)
    return world


def walk(world: FakeWorld, deps: Dependencies, shot_ms: int) -> None:
    for minute in range(-2, 12):
        at_ms = shot_ms + minute * MINUTE_MS
        world.clock.set(at_ms + MINUTE_MS + 1_500)
        kline_bars.run(deps, minute_ms=at_ms)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "direction", "confirmed"), [(3, "UP", True), (4, "DOWN", True), (5, "UP", False)])
def test_a_planted_shot_is_found_with_initiator_followers_direction_status_and_cooldown(
    seed: int, direction: str, confirmed: bool
) -> None:
    shot_ms = DAY + 18 * HOUR_MS + 7 * MINUTE_MS
    world = simulated(seed, shot_ms, direction, confirmed=confirmed)
    world.clock.set(shot_ms - 2 * MINUTE_MS)
    backfill.run(world.deps, end_ms=shot_ms - 2 * MINUTE_MS, hours=16.9, markets=(Market.USDM,))
    walk(world, chained(world, world.deps), shot_ms)
    found = [one.signal for one in SignalRepository(world.table).range(limit=100)[0]]
    hits = [one for one in found if one.detector is Detector.SECTOR_INITIATOR and one.symbol == "ZECUSDT"]
    first = min(hits, key=lambda one: one.event_ms)
    assert (first.event_ms, str(first.direction), first.sector) == (shot_ms, direction, "Privacy")
    assert first.values["status"] == ("CONFIRMED" if confirmed else "PARTIAL")
    (event,) = [
        one
        for one in found
        if one.detector is Detector.SECTOR_DIFFUSION and one.values["initiator_time"] == first_time(first.event_ms)
    ]
    assert {one["symbol"] for one in event.values["followers"]} == {"DASHUSDT", "XMRUSDT"}
    assert (event.event_ms, str(event.direction)) == (shot_ms + 3 * MINUTE_MS, direction)
    told = [one for one in world.channel.sent if one.detector is Detector.SECTOR_INITIATOR and one.symbol == "ZECUSDT"]
    assert len(told) == 1  # further minutes of the same move fall into the cooldown


def first_time(event_ms: int) -> str:
    from shared.clock import iso_utc

    return iso_utc(event_ms)


@pytest.mark.slow
def test_seeds_without_planted_events_stay_below_the_stated_false_alarm_rate() -> None:
    """At most 0.1 initiators a symbol and day, and no diffusion, on 2 seeds x 7 coins x 24 hours."""
    initiators = diffusions = 0
    settings, universe = SectorSettings(), Universe(BENCHMARK, SECTORS)
    start_ms, minutes = DAY, (17 + 24) * 60
    for seed in (101, 102):
        market = SimulatedMarket(seed=seed, start_ms=start_ms)
        values = np.full((3, minutes, len(SYMBOLS)), np.nan)
        for column, symbol in enumerate(universe.symbols()):
            rows = bars_of(market, symbol, start_ms, start_ms + minutes * MINUTE_MS)
            values[:, :, column] = np.array([[bar.close, bar.volume, bar.taker_buy_volume] for bar in rows]).T
        whole = bulk_features(settings, BENCHMARK, universe.symbols(), start_ms, *values)
        tracker = DiffusionTracker(settings, universe)
        for row in whole.loud(2.0, 2.0):
            decision = tracker.decide(start_ms + row * MINUTE_MS, whole.at(row))
            initiators, diffusions = initiators + len(decision.hits), diffusions + len(decision.events)
    assert initiators <= 0.1 * 2 * 7
    assert diffusions == 0


# --- recorded minutes ---------------------------------------------------------------------------------------------
RECORDED = {
    "Privacy": ("ZECUSDT", "DASHUSDT", "XMRUSDT"),
    "Payments": ("XRPUSDT", "XLMUSDT", "LTCUSDT"),
    "Others": ("DOGEUSDT", "EOSUSDT", "ETHUSDT"),
}
DROP = parse_utc_ms("2023-07-24T09:50:00Z")


class FilledIn(Replay):
    """The source lacks taker volume: 80 % on the bar's own side stands for it, which lets every rule be asked."""

    def _sector(self, columns: Any) -> Any:
        filled = {
            recording: [
                (index, replace(bar, taker_buy_volume=bar.volume * (0.8 if bar.close >= bar.open else 0.2)))
                for index, bar in rows
            ]
            for recording, rows in columns.items()
        }
        return super()._sector(filled)


def walked(recorded_dir: Path, **options: Any) -> tuple[Replay, list[tuple[int, str, str]]]:
    sector_settings = msgspec.structs.replace(SectorSettings(), **options)
    settings = msgspec.structs.replace(Settings(), universe=UniverseSettings(sectors=RECORDED), sector=sector_settings)
    wanted = frozenset({Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION, Detector.MARKET_WIDE})
    recordings = discover(sorted((recorded_dir / "klines").glob("usdm_*_20230718T1200_*")))
    replay = FilledIn(settings, detectors=wanted)
    return replay, [
        (one.signal.event_ms, one.signal.detector.value, one.signal.symbol) for one in replay.run(recordings)
    ]


def replayed(recorded_dir: Path, **options: Any) -> list[tuple[int, str, str]]:
    return walked(recorded_dir, **options)[1]


@pytest.mark.slow
@pytest.mark.recorded
def test_the_recorded_drop_of_the_whole_market_is_one_alert_and_no_sector_shot(recorded_dir: Path) -> None:
    def within(found: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
        return [one for one in found if DROP - 10 * MINUTE_MS <= one[0] <= DROP + HOUR_MS]

    plain, wide = within(replayed(recorded_dir)), within(replayed(recorded_dir, market_wide_share=0.8))
    assert any(name == "sector_initiator" for _, name, _ in plain)  # without it the drop looks like sector shots
    assert [one for one in wide if one[1] != "market_wide"] == []  # one alert, no shots
    assert [one[1:] for one in wide] == [("market_wide", BENCHMARK)]
    assert wide[0][0] == DROP - 5 * MINUTE_MS  # five minutes before the drop the volumes say so


@pytest.mark.slow
@pytest.mark.recorded
@pytest.mark.parametrize(
    ("option", "initiators", "diffusions", "moves"),
    [
        ({}, 631, 239, 0),
        ({"takers_agree": True}, 618, 234, 0),
        ({"volume_scale": "log"}, 173, 32, 0),
        ({"volume_scale": "log_seasonal"}, 179, 40, 0),
        ({"market_wide_share": 0.8}, 407, 79, 53),
        ({"diffusion_p_max": 0.05}, 631, 181, 0),
        ({"diffusion_p_max": 0.01}, 631, 109, 0),
    ],
)
def test_each_option_changes_what_is_said_on_recorded_minutes(
    option: dict[str, Any], initiators: int, diffusions: int, moves: int, recorded_dir: Path
) -> None:
    """The figures of docs/sectors.md."""
    names = [name for _, name, _ in replayed(recorded_dir, **option)]
    counts = tuple(names.count(name) for name in ("sector_initiator", "sector_diffusion", "market_wide"))
    assert counts == (initiators, diffusions, moves)


@pytest.mark.slow
@pytest.mark.recorded
def test_a_budget_holds_back_all_but_the_strongest_of_recorded_minutes(recorded_dir: Path) -> None:
    """The figures of docs/sectors.md: 255 alerts without a budget."""
    alerts = {}
    for per_day in (None, 20, 5):
        replay, found = walked(recorded_dir, budget_per_day=per_day)
        assert len(found) == 631 + 239
        alerts[per_day] = sum(replay.summary.alerts.values())
    assert alerts == {None: 255, 20: 51, 5: 9}


# --- the tables of AWS ----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_whole_chain_on_a_dynamodb_table() -> None:
    """kline bars -> features -> sector -> alert, through the table of AWS as moto plays it."""
    shot_ms = DAY + 18 * HOUR_MS
    world = simulated(3, shot_ms, "UP", confirmed=True)
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-central-1")
        client.create_table(
            TableName="tapewatch",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        table = DynamoTable(client, "tapewatch")
        alerts = AlertService.on_table(table, [world.channel], SETTINGS, world.clock)
        deps = chained(world, replace(world.another(), table=table, alerts=alerts))
        from shared.storage.bars import BarRepository

        store = BarRepository(table)
        for at_ms in range(shot_ms - 980 * MINUTE_MS, shot_ms - MINUTE_MS, MINUTE_MS):
            rows = {symbol: world.market.bars[Market.USDM, symbol][at_ms] for symbol in SYMBOLS}
            store.put_minute(Market.USDM, at_ms, rows)
        for minute in (-1, 0):
            at_ms = shot_ms + minute * MINUTE_MS
            world.clock.set(at_ms + MINUTE_MS + 1_500)
            kline_bars.run(deps, minute_ms=at_ms)
        told = [(one.event_ms, one.detector, one.symbol) for one in world.channel.sent]
    assert told == [(shot_ms, Detector.SECTOR_INITIATOR, "ZECUSDT")]
