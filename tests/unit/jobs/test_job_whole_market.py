"""The whole futures market: who is watched, what that costs, and the chain under faults F401 to F406."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from fakes import START_MS, FakeWorld
from test_job_kill_sweep import on_table
from test_job_sector_chain import BEGIN, ECHO, SHOT, SMALL, alerts, bars_at, chained, decisions, plant

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.reading import Detector
from shared.errors import ExchangeUnavailable
from shared.exchange.market_data import Funding, Listing, OpenInterest
from shared.jobs import backfill, charts, features, kline_bars, open_interest, report_extras, sector, universe
from shared.jobs.common import open_interest_of
from shared.market.catalogue import OTHER, Contract, built_in, choose
from shared.market.model import Market
from shared.settings import SectorSettings, Settings, UniverseSettings
from shared.storage.bars import BarRepository
from shared.storage.charts import ChartRepository
from shared.storage.features import FeatureRepository
from shared.storage.schema import bars_partition, time_key
from shared.storage.signals import SignalRepository
from shared.storage.universe import UniverseRepository

CHINESE = "我踏马来了USDT"
COINS = ("ZECUSDT", "DASHUSDT", "XMRUSDT", "UNIUSDT", "AAVEUSDT", "1000SHIBUSDT", CHINESE)
WHOLE = msgspec.structs.replace(
    Settings(), sector=SectorSettings(windows=SMALL), universe=UniverseSettings(futures_all="USDT")
)


def listing(symbol: str, *, status: str = "TRADING", kind: str = "PERPETUAL", tags: tuple[str, ...] = ()) -> Listing:
    quote = "USDC" if symbol.endswith("USDC") else "USDT"
    return Listing(Market.USDM, symbol, symbol.removesuffix(quote), quote, status, kind, tags)


def make_world(settings: Settings = WHOLE) -> FakeWorld:
    world = FakeWorld(settings=settings)
    for symbol in ("BTCUSDT", *COINS):
        world.market.fill(Market.USDM, symbol, START_MS, BEGIN + 2 * HOUR_MS)
    plant(world, "XMRUSDT", SHOT, 0.03)
    plant(world, "ZECUSDT", ECHO, 0.02)
    plant(world, "DASHUSDT", ECHO + MINUTE_MS, 0.02)
    world.market.listed = [listing("BTCUSDT"), *map(listing, COINS)]
    return world


# --- who is watched ----------------------------------------------------------------------------------------------
def test_the_catalogue_is_data_with_its_source_and_date_and_names_no_coin_twice() -> None:
    catalogue = built_in()
    bases = [base for members in catalogue.sectors.values() for base in members]
    assert len(bases) == len(set(bases)) > 400
    assert len(catalogue.sectors) >= 30
    assert catalogue.source
    assert catalogue.date == "2026-11-21"
    assert {"Privacy", "Layer 1", "Layer 2", "Meme", "AI", "Gaming", "Oracles and data", "Exchange tokens"} <= set(
        catalogue.sectors
    )
    assert set(catalogue.tags.values()) <= set(catalogue.sectors)


def test_each_symbol_stands_in_one_sector_and_what_is_no_usdt_perpetual_is_left_out() -> None:
    listed = [
        ("ZECUSDT", "ZEC", "USDT", "TRADING", "PERPETUAL", ()),
        ("1000SHIBUSDT", "1000SHIB", "USDT", "TRADING", "PERPETUAL", ()),
        ("NEWAIUSDT", "NEWAI", "USDT", "TRADING", "PERPETUAL", ("HOT", "AI")),
        (CHINESE, "我踏马来了", "USDT", "TRADING", "PERPETUAL", ()),
        ("TSLAUSDT", "TSLA", "USDT", "TRADING", "TRADIFI_PERPETUAL", ()),
        ("BTCUSDT_260925", "BTC", "USDT", "TRADING", "CURRENT_QUARTER", ()),
        ("ETHUSDC", "ETH", "USDC", "TRADING", "PERPETUAL", ()),
        ("OLDUSDT", "OLD", "USDT", "SETTLING", "PERPETUAL", ()),
        ("BADUSDT", "BAD", "USDT", "TRADING", "PERPETUAL", ()),
        ("BTCUSDT", "BTC", "USDT", "TRADING", "PERPETUAL", ()),
    ]
    chosen = choose(
        [Contract(*row) for row in listed],
        quote="USDT",
        benchmark="BTCUSDT",
        catalogue=built_in(),
        overrides={"Mine": ("ZECUSDT",)},
        exclude=("BADUSDT",),
    )
    assert chosen == {"AI": ("NEWAIUSDT",), "Meme": ("1000SHIBUSDT",), "Mine": ("ZECUSDT",), OTHER: (CHINESE,)}
    with_stocks = choose(
        [Contract(*row) for row in listed],
        quote="USDT", benchmark="BTCUSDT", catalogue=built_in(), overrides={}, tradfi=True,
    )  # fmt: skip
    assert "TSLAUSDT" in with_stocks[OTHER]


def test_symbols_come_go_and_change_names_without_a_stop() -> None:
    """F606: listings, delistings and renames."""
    world = make_world()
    deps = chained(world, world.deps)
    bars_at(world, deps, 0)
    assert CHINESE in FeatureRepository(world.table).get(BEGIN)  # type: ignore[operator]
    for at_ms in list(world.market.bars.pop((Market.USDM, "UNIUSDT"))):
        assert at_ms
    world.market.listed = [one for one in world.market.listed if one.symbol != "UNIUSDT"] + [listing("NEWUSDT")]
    world.market.fill(Market.USDM, "NEWUSDT", BEGIN, BEGIN + 2 * HOUR_MS)
    bars_at(world, deps, 1)  # UNIUSDT has become unknown: asked for again in the next minute
    bars_at(world, deps, 2)
    first = UniverseRepository(world.table).at(BEGIN + MINUTE_MS)
    later = UniverseRepository(world.table).at(BEGIN + 2 * MINUTE_MS)
    assert first is not None
    assert later is not None
    assert "UNIUSDT" in first[1].symbols()
    assert set(later[1].symbols()) == {"BTCUSDT", *COINS, "NEWUSDT"} - {"UNIUSDT"}
    stored = FeatureRepository(world.table).get(BEGIN + 2 * MINUTE_MS)
    assert stored is not None
    assert stored["NEWUSDT"]["status"] == "warming"
    assert "UNIUSDT" not in stored


def test_no_listing_changes_nothing() -> None:
    world = make_world()
    bars_at(world, chained(world, world.deps), 0)
    world.market.errors["listings"] = ExchangeUnavailable("no answer")
    again = chained(world, world.another())
    bars_at(world, again, 1)
    assert set(universe.universe_at(again, BEGIN + MINUTE_MS).symbols()) == {"BTCUSDT", *COINS}


# --- what it costs -----------------------------------------------------------------------------------------------
def test_the_klines_of_a_minute_weigh_one_each_and_a_long_outage_no_more_than_600() -> None:
    world = make_world()
    bars_at(world, world.deps, 0)  # fills the hours before
    assert kline_bars.run(world.deps, minute_ms=world.at(BEGIN + 2 * MINUTE_MS + 1_500)).weight == len(COINS) + 1
    wanted, cut = kline_bars._within_budget({f"C{number}": 300 for number in range(500)})
    assert (sum(map(kline_bars._weight, wanted.values())), max(wanted.values()), cut) == (500, 99, True)
    few, uncut = kline_bars._within_budget({f"C{number}": 300 for number in range(300)})
    assert (max(few.values()), uncut) == (300, False)


def test_a_backfill_beside_the_jobs_leaves_them_their_weight_and_says_how_long_it_takes() -> None:
    names = tuple(f"C{number:03d}USDT" for number in range(120))
    settings = msgspec.structs.replace(
        WHOLE, exchange=msgspec.structs.replace(WHOLE.exchange, weight_share=0.5, max_connections=4)
    )
    world = FakeWorld(settings=settings)
    world.market.listed = [listing("BTCUSDT"), *map(listing, names)]
    for symbol in ("BTCUSDT", *names):
        world.market.fill(Market.USDM, symbol, BEGIN - 10 * MINUTE_MS, BEGIN)
    world.clock.set(BEGIN + 1_000)
    said: list[str] = []
    report = backfill.run(
        world.deps, end_ms=BEGIN, hours=17, markets=(Market.USDM,), background=True,
        progress=lambda done, total, text: said.append(text),
    )  # fmt: skip
    # 121 symbols weigh 2 + 2 + 1 each; half of 2,400 less the jobs' 1,200 leaves a quarter of the half: 300 a minute.
    assert report.weight == 605
    assert report.expected_s == 120
    assert "about 120 s" in said[0]
    assert world.clock.now_ms() >= BEGIN + 120_000


@pytest.mark.parametrize(("second", "least", "most"), [(1, 60, 75), (30, 31, 46)])
def test_the_time_of_500_symbols_is_the_rest_of_this_minute_and_a_part_of_the_next(
    second: int, least: int, most: int
) -> None:
    """1,500 pages weigh 2,505; one minute allows 1,920."""
    world = FakeWorld(settings=WHOLE)
    world.market.listed = [listing("BTCUSDT"), *(listing(f"C{number:03d}USDT") for number in range(500))]
    world.clock.set(BEGIN + second * 1_000)
    report = backfill.run(world.deps, end_ms=BEGIN, hours=17, markets=(Market.USDM,), deadline_s=0.0)
    assert not report.complete
    assert least <= report.expected_s <= most


def test_charts_hold_finished_hours_and_minutes_the_rest() -> None:
    world = make_world()
    for minute in range(66):
        bars_at(world, replace(world.deps, emit=lambda kind, detail: None), minute)
    end_ms = BEGIN + 66 * MINUTE_MS
    wanted = BarRepository(world.table).one(Market.USDM, CHINESE, BEGIN, end_ms)
    assert len(wanted) == 66
    assert charts.bars(world.table, Market.USDM, CHINESE, BEGIN, end_ms) == wanted
    # The finished hour is read from its chart alone.
    for item in world.table.query(bars_partition(Market.USDM), end=time_key(BEGIN + HOUR_MS - 1)):
        world.table.delete((str(item["pk"]), str(item["sk"])))
    assert charts.bars(world.table, Market.USDM, CHINESE, BEGIN + 5 * MINUTE_MS, end_ms) == wanted[5:]


def test_a_chart_that_lacks_a_minute_gives_way_to_the_minutes() -> None:
    world = make_world()
    bars = {
        at_ms: {CHINESE: world.market.bars[Market.USDM, CHINESE][at_ms]}
        for at_ms in range(BEGIN, BEGIN + HOUR_MS, MINUTE_MS)
    }
    for at_ms, row in bars.items():
        BarRepository(world.table).put_minute(Market.USDM, at_ms, row)
    drawn = {at_ms: row for at_ms, row in bars.items() if at_ms != BEGIN + 7 * MINUTE_MS}
    ChartRepository(world.table).put_hour(Market.USDM, BEGIN, drawn)
    found = charts.bars(world.table, Market.USDM, CHINESE, BEGIN, BEGIN + 3 * HOUR_MS)
    assert found == [row[CHINESE] for row in bars.values()]


def test_the_report_knows_the_sectors_of_the_whole_market() -> None:
    world = make_world()
    bars_at(world, chained(world, world.deps), 0)
    found = report_extras.sectors(world.deps, BEGIN + HOUR_MS)["sectors"]
    listed = universe.universe_at(world.deps, BEGIN).sectors
    assert {name: {row["symbol"] for row in rows} for name, rows in found.items()} == {
        "Benchmark": {"BTCUSDT"},
        **{name: set(symbols) for name, symbols in listed.items()},
    }


# --- confirmations -----------------------------------------------------------------------------------------------
def sampled(world: FakeWorld, *, grown: bool) -> None:
    """Keep a day of our own samples of one coin; the last one has grown by a tenth."""
    store = open_interest_of(world.deps)
    for number in range(24 * 12 + 12):
        at_ms = SHOT - number * 5 * MINUTE_MS
        contracts = 1100.0 if grown and number == 0 else 1000.0 + number * 37 % 11
        store.put(at_ms, {"XMRUSDT": contracts, "ZECUSDT": 5.0})


def confirmations(world: FakeWorld) -> dict[str, Any]:
    deps = replace(world.deps, emit=lambda kind, detail: None)
    bars_at(world, deps, 10)
    features.run(deps, minute_ms=SHOT)
    sector.run(deps, minute_ms=SHOT)
    stored = SignalRepository(world.table).latest(Detector.SECTOR_INITIATOR, "XMRUSDT")
    assert stored is not None
    return dict(stored.signal.values)


@pytest.mark.parametrize(("grown", "state"), [(True, "confirmed"), (False, "not_confirmed")])
def test_our_own_samples_judge_where_the_exchange_has_no_history(grown: bool, state: str) -> None:
    world = make_world()
    sampled(world, grown=grown)
    world.market.errors["open_interest_history"] = ExchangeUnavailable("no answer")
    values = confirmations(world)
    assert values["confirmations"]["open_interest"]["state"] == state


def test_the_newest_sample_is_judged_against_the_exchanges_history() -> None:
    world = make_world()
    end_ms = SHOT - SHOT % (5 * MINUTE_MS)
    world.market.interest["XMRUSDT"] = [
        OpenInterest("XMRUSDT", 1000.0 + number * 37 % 11, end_ms - (99 - number) * 5 * MINUTE_MS)
        for number in range(100)
    ]
    store = open_interest_of(world.deps)
    store.put(SHOT, {"XMRUSDT": 1200.0})
    store.put(SHOT - HOUR_MS, {"XMRUSDT": 1005.0})
    assert confirmations(world)["confirmations"]["open_interest"]["state"] == "confirmed"


@pytest.mark.parametrize(
    ("rate", "hours", "state"),
    [
        (0.0010, 8.0, "confirmed"),
        (0.0005, 4.0, "confirmed"),
        (0.0005, 8.0, "not_confirmed"),
        (-0.0002, 1.0, "confirmed"),
    ],
)
def test_funding_is_compared_per_hour(rate: float, hours: float, state: str) -> None:
    world = make_world()
    world.market.funding["XMRUSDT"] = Funding("XMRUSDT", rate, SHOT + MINUTE_MS)
    world.market.intervals = {} if hours == 8.0 else {"XMRUSDT": hours}
    values = confirmations(world)
    assert values["confirmations"]["funding"] == {"state": state, "hours": hours}
    assert values["funding_rate"] == rate


def test_a_source_that_failed_is_named() -> None:
    world = make_world()
    world.market.errors["funding_hours"] = ExchangeUnavailable("no answer")
    world.market.errors["open_interest_history"] = ExchangeUnavailable("no answer")
    world.market.funding["XMRUSDT"] = Funding("XMRUSDT", 0.01, SHOT + MINUTE_MS)
    values = confirmations(world)
    assert values["sources_failed"] == ["open_interest", "funding"]
    assert values["confirmations"]["funding"]["state"] == "unknown"


def test_open_interest_is_sampled_once_a_minute_where_the_budget_has_room() -> None:
    world = make_world()
    bars_at(world, replace(world.deps, emit=lambda kind, detail: None), 0)
    for symbol in COINS[:3]:
        world.market.interest[symbol] = [OpenInterest(symbol, 123.456, BEGIN + MINUTE_MS + 20_000)]
    world.market.interest["UNIUSDT"] = [OpenInterest("UNIUSDT", 9.0, BEGIN - HOUR_MS)]  # too old to say anything
    report = open_interest.run(world.deps, minute_ms=BEGIN)
    assert (report.samples, report.weight, len(report.failed)) == (3, 8, 4)
    assert open_interest_of(world.deps).get(BEGIN + MINUTE_MS) == dict.fromkeys(sorted(COINS[:3]), 123.456)
    assert open_interest.run(world.deps, minute_ms=BEGIN).skipped == "stored already"
    assert not open_interest.affordable(world.deps, 1_000)
    assert open_interest.affordable(world.deps, 500)


# --- F401 to F406 ------------------------------------------------------------------------------------------------
MINUTES = 32


def clean_run(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    for minute in range(MINUTES):
        bars_at(world, deps, minute)


def five_times(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    for minute in range(MINUTES):
        for _ in range(5):
            bars_at(world, deps, minute)


def late_by(seconds: int) -> Callable[[FakeWorld], None]:
    def way(world: FakeWorld) -> None:
        deps = chained(world, world.deps)
        for minute in range(MINUTES):
            world.clock.set(BEGIN + (minute + 1) * MINUTE_MS + seconds * 1000)
            kline_bars.run(deps, minute_ms=BEGIN + minute * MINUTE_MS)

    return way


def out_of_order(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    for minute in range(0, MINUTES, 4):
        for shuffled in (minute + 2, minute, minute + 3, minute + 1):
            bars_at(world, deps, shuffled)


def half_an_hour_without_any_run(world: FakeWorld) -> None:
    deps = chained(world, world.deps)
    bars_at(world, deps, 0)
    bars_at(world, deps, MINUTES - 1)


@pytest.fixture(scope="module")
def clean() -> FakeWorld:
    world = make_world()
    clean_run(world)
    return world


WAYS = [
    pytest.param(five_times, id="F401-five-times"),
    pytest.param(late_by(1), id="F402-late-1s"),
    pytest.param(late_by(59), id="F402-late-59s"),
    pytest.param(late_by(300), id="F402-late-5min"),
    pytest.param(out_of_order, id="F403-out-of-order"),
    pytest.param(half_an_hour_without_any_run, id="F406-half-an-hour-down"),
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_through_the_whole_market_decides_as_one_clean_run(
    clean: FakeWorld, way: Callable[[FakeWorld], None]
) -> None:
    world = make_world()
    way(world)
    assert decisions(world) == decisions(clean)
    stored = [BarRepository(one.table).minutes(Market.USDM, BEGIN, BEGIN + HOUR_MS) for one in (world, clean)]
    assert [at_ms for at_ms, _ in stored[0]] == [at_ms for at_ms, _ in stored[1]]
    if way is half_an_hour_without_any_run:
        assert len(alerts(world)) <= len(alerts(clean))
    else:
        assert alerts(world) == alerts(clean)


def test_f402_late_by_six_hours_decides_the_minute_that_was_meant(clean: FakeWorld) -> None:
    world = make_world()
    deps = chained(world, world.deps)
    world.clock.set(BEGIN + 6 * HOUR_MS)
    for minute in range(MINUTES):
        kline_bars.run(deps, minute_ms=BEGIN + minute * MINUTE_MS)
    assert decisions(world) == decisions(clean)
    assert alerts(world) == []  # told hours late they would be no news: they are in the feed, held as too late
    held = {one.held_reason for one in SignalRepository(world.table).range(limit=50)[0]}
    assert "too_late" in held


class Interleaved:
    """Runs something else from start to end, once, before the call numbered `at` of the table it stands before."""

    def __init__(self, table: Any, at: int, other: Callable[[], None]) -> None:
        self._table, self._at, self._other = table, at, other
        self.calls = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._table, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self._at:
                self._other()
            return method(*args, **kwargs)

        return call


def test_f404_another_run_of_the_minute_between_any_two_calls_changes_nothing() -> None:
    def before_the_shot() -> FakeWorld:
        world = make_world()
        bars_at(world, chained(world, world.deps), 9)
        return world

    wanted = before_the_shot()
    counting = Interleaved(wanted.table, -1, lambda: None)
    bars_at(wanted, chained(wanted, on_table(wanted, counting)), 10)
    assert alerts(wanted) == [(SHOT, "sector_initiator", "XMRUSDT")]
    for at in range(1, counting.calls + 1, 2):
        world = before_the_shot()
        other = chained(world, world.another())
        both = Interleaved(world.table, at, lambda world=world, other=other: bars_at(world, other, 10))  # type: ignore[misc]
        bars_at(world, chained(world, on_table(world, both)), 10)
        assert decisions(world) == decisions(wanted), at
        assert alerts(world) == alerts(wanted), at
        world.table.close()
