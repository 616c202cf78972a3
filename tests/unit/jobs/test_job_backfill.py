"""The backfill: pages, progress, going on after a cut at any page, and the history that rarity needs."""

from __future__ import annotations

import msgspec
import pytest
from fakes import START_MS, FakeWorld

from shared.clock import HOUR_MS, MINUTE_MS
from shared.errors import ExchangeUnavailable, RestrictedLocation
from shared.jobs import backfill, volume_spike
from shared.market.model import Market
from shared.settings import Settings, UniverseSettings
from shared.storage.bars import BarRepository
from shared.storage.readings import ReadingRepository

SYMBOLS = ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT")
END = START_MS + 30 * HOUR_MS
HOURS = 9.0
PAGES = 8 + 2  # USD-M: two pages of 499 minutes for each of four symbols; spot: 25 h 20 min in pages of 1000


@pytest.fixture
def market() -> FakeWorld:
    return filled(FakeWorld(settings=one_spot_symbol()))


def one_spot_symbol() -> Settings:
    return msgspec.structs.replace(Settings(), universe=UniverseSettings(spot_symbols=("BTCUSDT",)))


def filled(world: FakeWorld) -> FakeWorld:
    for symbol in SYMBOLS:
        world.market.fill(Market.USDM, symbol, START_MS, END + MINUTE_MS)
    world.market.fill(Market.SPOT, "BTCUSDT", START_MS, END + MINUTE_MS)
    world.clock.set(END + 5_000)
    return world


def stored(world: FakeWorld, kind: Market = Market.USDM) -> list[tuple[int, dict[str, object]]]:
    return BarRepository(world.table).minutes(kind, 0, END + HOUR_MS)  # type: ignore[return-value]


def test_fetches_every_minute_of_the_universe_and_says_how_far_it_is(market: FakeWorld) -> None:
    seen: list[tuple[int, int, str]] = []
    report = backfill.run(market.deps, end_ms=END + 5_000, hours=HOURS, progress=lambda *step: seen.append(step))
    minutes = [open_ms for open_ms, bars in stored(market) if set(bars) == set(SYMBOLS)]
    assert minutes == list(range(END - int(HOURS) * HOUR_MS, END, MINUTE_MS))
    assert (report.pages, report.failed, report.complete) == (PAGES, {}, True)
    assert seen[0][:2] == (0, PAGES)
    assert "about" in seen[0][2]
    assert sorted(done for done, _, _ in seen) == list(range(PAGES + 1))


def test_a_second_run_asks_for_nothing(market: FakeWorld) -> None:
    backfill.run(market.deps, end_ms=END, hours=HOURS)
    calls = market.market.calls["klines"]
    again = backfill.run(market.another(), end_ms=END, hours=HOURS)
    assert (again.pages, again.bars, again.ratios, market.market.calls["klines"]) == (0, 0, 0, calls)


@pytest.mark.parametrize("cut", [0, 4, 9])
def test_a_run_cut_at_any_page_is_gone_on_with(market: FakeWorld, cut: int) -> None:
    """F211: rows equal to one clean run's."""

    def until_cut(done: int, total: int, text: str) -> None:
        if done > cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill.run(market.deps, end_ms=END, hours=HOURS, progress=until_cut)
    backfill.run(market.deps, end_ms=END, hours=HOURS)
    clean = filled(FakeWorld(settings=one_spot_symbol()))
    backfill.run(clean.deps, end_ms=END, hours=HOURS)
    for kind in Market:
        assert stored(market, kind) == stored(clean, kind)


def test_one_bad_symbol_is_named_and_the_others_are_complete(market: FakeWorld) -> None:
    market.market.errors["ZECUSDT"] = ExchangeUnavailable("no answer")
    report = backfill.run(market.deps, end_ms=END, hours=HOURS)
    assert report.failed == {"ZECUSDT": "exchange_unavailable: no answer"}
    assert {symbol for _, bars in stored(market) for symbol in bars} == set(SYMBOLS) - {"ZECUSDT"}


def test_blocked_futures_are_one_message_and_spot_goes_on(market: FakeWorld) -> None:
    market.market.errors["klines:usdm"] = RestrictedLocation("not here", status=451)
    report = backfill.run(market.deps, end_ms=END, hours=HOURS)
    assert report.refused is not None
    assert "HTTP 451" in report.refused
    assert stored(market) == []
    assert len(stored(market, Market.SPOT)) > 25 * 60


def test_rarity_is_known_from_the_first_minute_after_a_backfill(market: FakeWorld) -> None:
    backfill.run(market.deps, end_ms=END, hours=HOURS)
    market.clock.set(END + MINUTE_MS + 1_500)
    report = volume_spike.run(market.deps, minute_ms=END)
    assert report.failed == {}
    rows = ReadingRepository(market.table).get(volume_spike.KIND, END)
    assert rows is not None
    assert rows["BTCUSDT"]["rarity"] is not None


def test_a_run_without_time_says_that_it_is_not_complete(market: FakeWorld) -> None:
    report = backfill.run(market.deps, end_ms=END, hours=HOURS, deadline_s=0.0)
    assert (report.pages, report.complete) == (0, False)
    assert backfill.run(market.deps, end_ms=END, hours=HOURS, deadline_s=60.0).complete
