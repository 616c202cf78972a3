"""The kline-bars job: closed bars once, late ones and holes by themselves, refusals in one text."""

from __future__ import annotations

import pytest
from fakes import START_MS, FakeWorld

from shared.clock import HOUR_MS, MINUTE_MS
from shared.errors import ExchangeUnavailable, RestrictedLocation
from shared.jobs import kline_bars
from shared.jobs.deps import BACKFILL_WANTED, BARS_STORED
from shared.market.model import Market
from shared.storage.bars import BarRepository

SYMBOLS = ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT")
BEGIN = START_MS + 20 * HOUR_MS


@pytest.fixture
def futures(world: FakeWorld) -> FakeWorld:
    for symbol in SYMBOLS:
        world.market.fill(Market.USDM, symbol, START_MS, BEGIN + 5 * HOUR_MS)
    world.clock.set(BEGIN)
    return world


def run_at(world: FakeWorld, minutes: int, deps: object = None) -> kline_bars.KlineBarsReport:
    minute = world.at(BEGIN + minutes * MINUTE_MS + 1_500)
    return kline_bars.run(deps or world.deps, minute_ms=minute)  # type: ignore[arg-type]


def minutes_of(world: FakeWorld) -> dict[int, set[str]]:
    return BarRepository(world.table).have(Market.USDM, 0, BEGIN + 9 * HOUR_MS)


def bars_stored(world: FakeWorld) -> list[tuple[int, int | None]]:
    return [(d["minute_ms"], d["changed_from_ms"]) for kind, d in world.emitted if kind == BARS_STORED]


def test_the_first_run_fills_what_one_run_may_and_asks_for_the_rest(futures: FakeWorld) -> None:
    report = run_at(futures, 0)
    assert report.failed == {}
    assert report.backfill_wanted
    assert [kind for kind, _ in futures.emitted] == [BACKFILL_WANTED, BARS_STORED]
    assert all(limit < 500 for method, _, limit in futures.market.asked if method == "klines")
    assert max(minutes_of(futures)) == BEGIN - MINUTE_MS
    assert len(minutes_of(futures)) >= kline_bars.MAX_FILL


def test_each_minute_is_stored_once_and_told(futures: FakeWorld) -> None:
    run_at(futures, 0)
    futures.emitted.clear()
    for number in (1, 2, 3):
        report = run_at(futures, number)
        assert (report.bars, report.late_bars, report.missing) == (4, 0, {})
    assert bars_stored(futures) == [(BEGIN + n * MINUTE_MS, None) for n in range(3)]


def test_a_repeated_minute_stores_nothing_and_tells_again(futures: FakeWorld) -> None:
    run_at(futures, 0)
    run_at(futures, 1)
    before = minutes_of(futures)
    futures.emitted.clear()
    for deps in (futures.deps, futures.another()):
        assert run_at(futures, 1, deps).bars == 0
    assert minutes_of(futures) == before
    assert bars_stored(futures) == [(BEGIN, None)] * 2


def test_the_running_bar_is_never_stored(futures: FakeWorld) -> None:
    """F207: open bars stored as closed: none, whichever way the exchange's clock is off."""
    futures.market.offset_ms = 45_000
    run_at(futures, 1)
    assert max(minutes_of(futures)) == BEGIN
    futures.market.offset_ms = -40_000  # by the exchange's clock the minute has not closed, and will not soon
    report = run_at(futures, 2)
    assert report.bars == 0
    assert max(minutes_of(futures)) == BEGIN


def test_a_late_bar_joins_its_minute_and_is_named(futures: FakeWorld) -> None:
    """F209: a row that lacked is a hole, and filled later."""
    run_at(futures, 0)
    late = futures.market.bars[Market.USDM, "XMRUSDT"].pop(BEGIN)
    assert run_at(futures, 1).missing == {"XMRUSDT": 1}
    futures.market.put(late)
    report = run_at(futures, 2)
    assert (report.bars, report.late_bars, report.changed_from_ms, report.missing) == (5, 1, BEGIN, {})
    assert minutes_of(futures)[BEGIN] == set(SYMBOLS)
    assert bars_stored(futures)[-1] == (BEGIN + MINUTE_MS, BEGIN)


def test_a_bar_that_changed_after_it_was_stored_is_stored_again(futures: FakeWorld) -> None:
    run_at(futures, 0)
    run_at(futures, 1)
    futures.market.change(Market.USDM, "ZECUSDT", BEGIN, volume=77.0)
    report = run_at(futures, 2)
    assert report.changed_from_ms == BEGIN
    [bar] = BarRepository(futures.table).one(Market.USDM, "ZECUSDT", BEGIN, BEGIN + 1)
    assert bar.volume == 77.0


@pytest.mark.parametrize("outage", [1, 30, 89, 90, 200])
def test_an_outage_is_filled_by_the_next_run(futures: FakeWorld, outage: int) -> None:
    run_at(futures, 0)
    report = run_at(futures, outage + 1, futures.another())
    assert report.minutes == outage + 1
    have = minutes_of(futures)
    assert all(have.get(BEGIN + n * MINUTE_MS) == set(SYMBOLS) for n in range(outage + 1))


def test_one_bad_symbol_stops_nothing_and_is_filled_later(futures: FakeWorld) -> None:
    run_at(futures, 0)
    futures.market.errors["DASHUSDT"] = ExchangeUnavailable("no answer")
    report = run_at(futures, 1)
    assert (report.bars, report.failed) == (3, {"DASHUSDT": "exchange_unavailable: no answer"})
    futures.market.errors.clear()
    assert run_at(futures, 2).late_bars == 1


def test_a_delisted_symbol_is_counted_each_minute(futures: FakeWorld) -> None:
    del futures.market.bars[Market.USDM, "XMRUSDT"]
    report = run_at(futures, 0)
    assert report.failed["XMRUSDT"].startswith("unknown_symbol")
    assert bars_stored(futures) == [(BEGIN - MINUTE_MS, None)] or bars_stored(futures)[-1][0] == BEGIN - MINUTE_MS


@pytest.mark.parametrize("where", ["server_time_ms", "klines"])
def test_a_restricted_location_is_one_clear_message(futures: FakeWorld, where: str) -> None:
    futures.market.errors[where] = RestrictedLocation("not here", status=451)
    report = run_at(futures, 0)
    assert report.refused is not None
    for words in ("HTTP 451", "exchange.futures_rest_url", "sector.enabled", "spot detectors go on"):
        assert words in report.refused
    assert set(report.failed) == set(SYMBOLS)
    assert bars_stored(futures) == []


def test_a_warm_process_asks_for_few_rows_within_the_cheapest_weight(futures: FakeWorld) -> None:
    run_at(futures, 0)
    futures.market.asked.clear()
    run_at(futures, 1)
    assert {limit for method, _, limit in futures.market.asked if method == "klines"} == {4}
