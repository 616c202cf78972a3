"""The volume-spike job: the minute named by the schedule, one bad symbol, repeats, rarity from stored readings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fakes import START_MS, FakeWorld

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.reading import Detector
from shared.errors import ExchangeUnavailable, RestrictedLocation
from shared.exchange.market_data import Listing
from shared.jobs import backfill, volume_spike
from shared.jobs.deps import BACKFILL_WANTED
from shared.market.model import Market
from shared.settings import SectorSettings, Settings, UniverseSettings
from shared.storage.bars import BarRepository
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.ratios import RatioRepository
from shared.storage.readings import ReadingRepository
from shared.storage.signals import SignalRepository
from shared.storage.table import Item

NOW = START_MS + 10 * HOUR_MS + 1_500
MINUTE = START_MS + 10 * HOUR_MS - MINUTE_MS


@pytest.fixture
def spiky(world: FakeWorld) -> FakeWorld:
    """Two quiet spot symbols; ETHUSDT's newest closed bar holds fifty times the usual volume."""
    world.clock.set(NOW)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        world.market.fill(Market.SPOT, symbol, START_MS, NOW)
    world.market.change(Market.SPOT, "ETHUSDT", MINUTE, volume=500.0)
    return world


def test_finds_the_spike_of_the_minute_and_alerts_once(spiky: FakeWorld) -> None:
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    assert (report.symbols, report.readings, report.spikes, report.alerts) == (2, 2, 1, 1)
    assert report.failed == {}
    [alert] = spiky.channel.sent
    assert (alert.detector, alert.symbol, alert.event_ms) == (Detector.VOLUME_SPIKE, "ETHUSDT", MINUTE)
    again = volume_spike.run(spiky.another(), minute_ms=MINUTE)
    assert (again.spikes, again.alerts, len(spiky.channel.sent)) == (1, 0, 1)


def test_a_late_run_computes_the_minute_of_the_schedule(spiky: FakeWorld) -> None:
    on_time = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    spiky.clock.advance(6 * HOUR_MS)
    late = FakeWorld(clock=spiky.clock)
    late.market.bars = spiky.market.bars
    report = volume_spike.run(late.deps, minute_ms=MINUTE)
    rows = ReadingRepository(late.table).get(volume_spike.KIND, MINUTE)
    assert rows == ReadingRepository(spiky.table).get(volume_spike.KIND, MINUTE)
    assert report.spikes == on_time.spikes
    assert report.held == {"too_late": 1}


def test_the_running_bar_is_never_read(spiky: FakeWorld) -> None:
    spiky.market.change(Market.SPOT, "BTCUSDT", MINUTE + MINUTE_MS, volume=9_999.0)
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    assert report.spikes == 1
    assert [open_ms for open_ms, _ in BarRepository(spiky.table).minutes(Market.SPOT, 0, NOW)] == [MINUTE]


def test_waits_for_the_exchange_to_close_the_minute(spiky: FakeWorld) -> None:
    spiky.market.offset_ms = -3_000
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    assert report.readings == 2


def test_one_bad_symbol_is_named_and_the_others_go_on(spiky: FakeWorld) -> None:
    spiky.market.errors["BTCUSDT"] = ExchangeUnavailable("no answer")
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    assert report.failed == {"BTCUSDT": "exchange_unavailable: no answer"}
    assert (report.readings, report.spikes) == (1, 1)


def test_too_little_history_says_how_many_bars_came(spiky: FakeWorld) -> None:
    rows = spiky.market.bars[Market.SPOT, "BTCUSDT"]
    for open_ms in [at for at in rows if at < MINUTE - 5 * MINUTE_MS]:
        del rows[open_ms]
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    assert "21 closed bars" in report.failed["BTCUSDT"]
    assert "6 came" in report.failed["BTCUSDT"]


def test_a_minute_that_the_exchange_skipped_is_not_replaced_by_an_older_one(spiky: FakeWorld) -> None:
    del spiky.market.bars[Market.SPOT, "ETHUSDT"][MINUTE]
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    assert report.failed["ETHUSDT"].startswith("not_enough_data: the exchange has no closed bar of ETHUSDT")


def test_a_refusing_host_is_asked_no_further_and_the_reason_is_one_text() -> None:
    symbols = tuple(f"S{i}USDT" for i in range(50))
    settings = msgspec.convert({"exchange": {"max_connections": 1}}, Settings)
    world = FakeWorld(settings=msgspec.structs.replace(settings, universe=UniverseSettings(spot_symbols=symbols)))
    world.clock.set(NOW)
    world.market.errors["klines"] = RestrictedLocation("not here", status=451)
    report = volume_spike.run(world.deps, minute_ms=MINUTE)
    assert world.market.calls["klines"] == 1
    assert len(report.failed) == 50
    assert report.refused is not None
    assert "451" in report.refused
    assert "exchange.spot_rest_url" in report.refused


def test_a_refusal_of_the_very_first_question_is_the_same_text(spiky: FakeWorld) -> None:
    spiky.market.errors["server_time_ms"] = RestrictedLocation("not here", status=451)
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE)
    assert report.failed == dict.fromkeys(("BTCUSDT", "ETHUSDT"), "restricted_location")
    assert report.refused is not None
    assert HeartbeatRepository(spiky.table).all() == {}  # silence: the watchdog tells it


def test_rarity_is_judged_against_the_same_minute_of_earlier_hours(spiky: FakeWorld) -> None:
    readings, ratios = ReadingRepository(spiky.table), RatioRepository(spiky.table)
    for hour in range(1, 41):
        ratios.put(MINUTE - hour * HOUR_MS, {"ETHUSDT": 100.0 if hour == 7 else 1.0})
        ratios.put(MINUTE - hour * HOUR_MS - MINUTE_MS, {"ETHUSDT": 1e6})
    volume_spike.run(spiky.deps, minute_ms=MINUTE)
    rows = readings.get(volume_spike.KIND, MINUTE)
    assert rows is not None
    assert rows["ETHUSDT"]["rarity"] == pytest.approx(1 / 40)
    assert rows["BTCUSDT"]["rarity"] is None
    stored = SignalRepository(spiky.table).latest(Detector.VOLUME_SPIKE)
    assert stored is not None
    assert stored.held_reason == "gate"  # 1 in 40 is not rare enough


def test_a_warm_process_reads_little_and_says_what_a_cold_one_says(spiky: FakeWorld) -> None:
    readings, ratios, asked = ReadingRepository(spiky.table), RatioRepository(spiky.table), list[int]()
    for hour in range(2, volume_spike.RARITY_HOURS + 2):
        for number in (60, 63):  # the phases of minutes 0 and 3 too
            ratio = 1.0 + (7 * hour + number) % 11
            ratios.put(MINUTE + number * MINUTE_MS - hour * HOUR_MS, {"ETHUSDT": ratio})
    for name in ("ETHUSDT", "BTCUSDT"):
        spiky.market.fill(Market.SPOT, name, START_MS, NOW + 2 * HOUR_MS)
    query = spiky.table.query

    def counted(pk: str, **bounds: Any) -> list[Item]:
        found = query(pk, **bounds)
        if pk.startswith("RATIOS#"):
            asked.append(len(found))
        return found

    spiky.table.query = counted  # type: ignore[method-assign]
    for number in range(64):
        at_ms = MINUTE + number * MINUTE_MS
        spiky.clock.set(at_ms + MINUTE_MS + 1_500)
        asked.clear()
        volume_spike.run(spiky.deps, minute_ms=at_ms)
        if number in (60, 63):  # an hour ago the week was read, and only the newest hour is new
            assert asked == [1]
        if number in (0, 3, 60, 63):
            warm = readings.get(volume_spike.KIND, at_ms)
            volume_spike.run(spiky.another(), minute_ms=at_ms)
            assert readings.get(volume_spike.KIND, at_ms) == warm
            assert warm is not None
            assert warm["ETHUSDT"]["rarity"] is not None
            assert asked[-1] == volume_spike.RARITY_HOURS


def test_without_the_sector_detector_missing_history_is_asked_for_here() -> None:
    spot_only = msgspec.structs.replace(Settings(), sector=SectorSettings(enabled=False))
    world = FakeWorld(settings=spot_only)
    world.clock.set(NOW)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        world.market.fill(Market.SPOT, symbol, START_MS - 40 * HOUR_MS, NOW)
    assert volume_spike.run(world.deps, minute_ms=MINUTE - MINUTE_MS).backfill_wanted
    assert not volume_spike.run(world.deps, minute_ms=MINUTE - 2 * MINUTE_MS).backfill_wanted  # once an hour
    assert [kind for kind, _ in world.emitted] == [BACKFILL_WANTED]
    assert backfill.run(world.deps, end_ms=MINUTE).ratios > 0
    # The process that saw the gap takes the history as soon as it is there, and a new one does not ask again.
    row = volume_spike.run(world.deps, minute_ms=MINUTE)
    assert not row.backfill_wanted
    assert not volume_spike.run(world.another(), minute_ms=MINUTE).backfill_wanted
    stored = ReadingRepository(world.table).get(volume_spike.KIND, MINUTE)
    assert stored is not None
    assert all(reading["rarity"] is not None for reading in stored.values())
    with_sectors = FakeWorld(clock=world.clock)
    with_sectors.market.bars = world.market.bars
    assert not volume_spike.run(with_sectors.deps, minute_ms=MINUTE).backfill_wanted  # kline-bars asks there


def test_all_pairs_of_a_quote_are_asked_of_the_listing_once_an_hour() -> None:
    world = FakeWorld(settings=msgspec.structs.replace(Settings(), universe=UniverseSettings(all="usdt")))
    for base, quote, status in (("BTC", "USDT", "TRADING"), ("ETH", "BTC", "TRADING"), ("OLD", "USDT", "BREAK")):
        world.market.listed.append(Listing(Market.SPOT, base + quote, base, quote, status))
    world.market.fill(Market.SPOT, "BTCUSDT", START_MS, NOW + HOUR_MS)
    for number in range(3):
        report = volume_spike.run(world.deps, minute_ms=world.at(NOW + number * MINUTE_MS))
        assert (report.symbols, report.readings) == (1, 1)
    assert world.market.calls["listings"] <= 2


def test_a_repeat_that_reaches_fewer_symbols_takes_nothing_back(spiky: FakeWorld) -> None:
    volume_spike.run(spiky.deps, minute_ms=MINUTE)
    spiky.market.errors["BTCUSDT"] = ExchangeUnavailable("no answer")
    volume_spike.run(spiky.deps, minute_ms=MINUTE)
    rows = ReadingRepository(spiky.table).get(volume_spike.KIND, MINUTE)
    assert rows is not None
    assert set(rows) == {"BTCUSDT", "ETHUSDT"}


def test_the_next_run_makes_up_for_the_minutes_that_a_failed_one_left_out(spiky: FakeWorld) -> None:
    """F204: the spike lies in a minute whose run failed; a clean run beside it says what must come out."""
    clean = FakeWorld(clock=spiky.clock)
    clean.market.bars = spiky.market.bars
    before = MINUTE - MINUTE_MS
    for world in (clean, spiky):
        volume_spike.run(world.deps, minute_ms=before)
    spiky.market.errors["klines:ETHUSDT"] = ExchangeUnavailable("no answer")
    assert volume_spike.run(spiky.deps, minute_ms=MINUTE).readings == 1
    del spiky.market.errors["klines:ETHUSDT"]
    volume_spike.run(clean.deps, minute_ms=MINUTE)
    spiky.clock.advance(2 * MINUTE_MS)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        spiky.market.fill(Market.SPOT, symbol, MINUTE + MINUTE_MS, MINUTE + 4 * MINUTE_MS)
    for minute in (MINUTE + MINUTE_MS, MINUTE + 2 * MINUTE_MS):
        volume_spike.run(clean.deps, minute_ms=minute)
    report = volume_spike.run(spiky.deps, minute_ms=MINUTE + 2 * MINUTE_MS)  # one run failed whole
    assert (report.caught_up, report.spikes, report.alerts) == (3, 1, 1)
    [alert] = spiky.channel.sent
    assert (alert.symbol, alert.event_ms) == ("ETHUSDT", MINUTE)
    for minute in range(before, MINUTE + 3 * MINUTE_MS, MINUTE_MS):
        got, want = (ReadingRepository(w.table).get(volume_spike.KIND, minute) for w in (spiky, clean))
        assert got == want
    assert volume_spike.run(spiky.deps, minute_ms=MINUTE + 2 * MINUTE_MS).caught_up == 0


def test_a_first_run_makes_up_for_nothing(spiky: FakeWorld) -> None:
    assert volume_spike.run(spiky.deps, minute_ms=MINUTE).caught_up == 0
