"""What `run` finds out before it starts, and what it does with a refusal."""

from __future__ import annotations

import itertools
import threading

import pytest

from local.backfilling import backfill_if_needed
from local.world import World, own_state, probe
from shared.clock import HOUR_MS, ManualClock, parse_utc_ms
from shared.errors import ExchangeUnavailable, RestrictedLocation, StorageBusy
from shared.exchange.market_data import Listing
from shared.jobs.deps import BACKFILL_WANTED
from shared.jobs.detectors import detector_states
from shared.market.model import Market
from shared.settings import Settings
from shared.settings_loader import parse_settings
from shared.storage.bars import BarRepository
from shared.storage.sqlite import SqliteTable
from tests.fakes import FakeMarketData

NOON = parse_utc_ms("2026-01-01T12:00:00Z")


def listing(symbol: str, market: Market = Market.SPOT, *, status: str = "TRADING") -> Listing:
    return Listing(market, symbol, symbol.removesuffix("USDT"), "USDT", status)


def exchange(**errors: Exception) -> FakeMarketData:
    futures = [listing(name, Market.USDM) for name in ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT")]
    spot = [listing("BTCUSDT"), listing("ETHUSDT"), listing("OLDUSDT", status="BREAK")]
    return FakeMarketData(ManualClock(NOON), listed=[*spot, *futures], errors=dict(errors))


def test_everything_is_there() -> None:
    found = probe(Settings(), exchange())
    assert (found.spot_symbols, found.futures, found.notes) == (("BTCUSDT", "ETHUSDT"), True, [])


def test_no_answer_is_one_sentence_that_points_to_the_demo() -> None:
    with pytest.raises(ExchangeUnavailable, match="tapewatch demo"):
        probe(Settings(), exchange(server_time_ms=ExchangeUnavailable("connection refused")))


def test_a_restricted_futures_market_leaves_the_spot_detectors_going() -> None:
    market_data = exchange()
    usdm = RestrictedLocation("451: futures are not served here; run from an allowed region; the spot detectors go on")

    class SpotOnly(FakeMarketData):
        def listings(self, market: Market) -> list[Listing]:
            if market is Market.USDM:
                raise usdm
            return super().listings(market)

    found = probe(Settings(), SpotOnly(market_data.clock, listed=market_data.listed))
    assert found.spot_symbols == ("BTCUSDT", "ETHUSDT")
    assert found.futures is False
    assert found.notes == ["451: futures are not served here; run from an allowed region; the spot detectors go on"]


def test_an_unknown_symbol_is_named_and_left_out() -> None:
    settings = parse_settings({"universe": {"spot_symbols": ["BTCUSDT", "NOPEUSDT"], "sectors": {"P": ["NOPE2USDT"]}}})
    found = probe(settings, exchange())
    assert found.spot_symbols == ("BTCUSDT",)
    assert found.notes == [
        "NOPEUSDT is not listed on the spot market: left out (universe.spot_symbols)",
        "NOPE2USDT is not listed on USD-M: its sector goes on without it",
    ]


def test_symbols_are_taken_as_people_type_them() -> None:
    settings = parse_settings(
        {"universe": {"spot_symbols": [" btc", "ethusdt", "BTCUSDT"], "sectors": {"P": ["zecusdt"]}}}
    )
    assert settings.futures_symbols == ("BTCUSDT", "ZECUSDT")
    assert probe(settings, exchange()).spot_symbols == ("BTCUSDT", "ETHUSDT")


def test_all_takes_every_trading_pair_of_the_quote() -> None:
    found = probe(parse_settings({"universe": {"all": "usdt"}}), exchange())
    assert found.spot_symbols == ("BTCUSDT", "ETHUSDT")


def test_only_one_run_owns_a_state_file(tmp_path: object) -> None:
    settings = parse_settings({"storage": {"sqlite_path": f"{tmp_path}/deep/state.sqlite"}})
    table, lock = own_state(settings)
    with pytest.raises(StorageBusy, match=r"another tapewatch run uses .*state\.sqlite"):
        own_state(settings)
    table.close()
    lock.release()
    again, lock = own_state(settings)
    again.close()
    lock.release()


def test_expired_items_are_tidied_by_the_hour() -> None:
    clock, table = ManualClock(NOON), SqliteTable(":memory:")
    market_data = exchange()
    settings = parse_settings({"api": {"enabled": False}})
    world = World(
        settings, clock=clock, table=table, market_data=market_data, channels=[], available=probe(settings, market_data)
    )
    table.put({"pk": "a", "sk": "old", "expires_at": NOON // 1000 + 10})
    table.put({"pk": "a", "sk": "new", "expires_at": NOON // 1000 + 10_000})
    clock.advance(HOUR_MS)
    tidy = next(job for job in world._jobs() if job.name == "tidy")
    assert tidy.interval_ms == HOUR_MS
    world.scheduler.run_once(tidy, clock.now_ms())
    assert table.get(("a", "old")) is None
    assert table.get(("a", "new")) is not None
    table.close()


class SpotOnly(FakeMarketData):
    """The futures host refuses this place; the spot host does not."""

    def listings(self, market: Market) -> list[Listing]:
        if market is Market.USDM:
            raise RestrictedLocation("futures are not served here", status=451)
        return super().listings(market)


def test_a_world_without_futures_runs_everything_but_the_sector_detector() -> None:
    base, table = exchange(), SqliteTable(":memory:")
    market_data = SpotOnly(base.clock, listed=base.listed)
    settings = parse_settings({"api": {"enabled": False}})
    available = probe(settings, market_data)
    world = World(
        settings, clock=base.clock, table=table, market_data=market_data, channels=[], available=available
    )  # fmt: skip
    names = {job.name for job in world._jobs()}
    assert {"volume-spike", "order-book", "redelivery", "watchdog"} <= names
    assert not names & {"kline-bars", "open-interest"}
    states = detector_states(world.deps, {}, {"state": "off", "reason": "", "last_event": None}, {})
    assert {name for name, row in states.items() if row["state"] == "off"} >= {"sector_initiator", "sector_diffusion"}
    assert states["volume_spike"]["state"] == "starting"
    assert backfill_if_needed(world, lambda text: None, threading.Event()) is not None
    assert BarRepository(table).have(Market.USDM, 0, 2 * NOON) == {}  # nobody asks for what cannot come
    table.close()


def fills() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "backfill"]


def test_missing_history_is_fetched_beside_the_running_jobs_one_fill_at_a_time() -> None:
    market_data, table = exchange(), SqliteTable(":memory:")
    for symbol in ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT"):
        market_data.fill(Market.USDM, symbol, NOON - 18 * HOUR_MS, NOON)
    settings = parse_settings(
        {"api": {"enabled": False}, "universe": {"spot_symbols": []}, "volume_spike": {"enabled": False}}
    )
    assert isinstance(market_data.clock, ManualClock)
    market_data.clock.set(NOON + 1_500)
    world = World(
        settings, clock=market_data.clock, table=table, market_data=market_data, channels=[],
        available=probe(settings, market_data),
    )  # fmt: skip
    asked, go_on = itertools.count(1), threading.Event()
    # The minute's own four questions are answered at once, the fill's when the test says so.
    market_data.errors["klines"] = lambda: None if next(asked) <= 4 else held_until(go_on)
    job = next(job for job in world._jobs() if job.name == "kline-bars")
    world.scheduler.run_once(job, NOON)
    assert world.scheduler.states["kline-bars"].last_error == ""
    (filling,) = fills()
    world._emit(BACKFILL_WANTED, {"end_ms": NOON})
    for other in set(fills()) - {filling}:
        other.join(5.0)
    assert fills() == [filling]  # the second one saw the first and left
    market_data.errors.clear()  # what the fill has asked still waits
    world.scheduler.run_once(job, NOON)  # the minute jobs go on meanwhile
    assert filling.is_alive()
    assert world.scheduler.states["kline-bars"].last_error == ""
    go_on.set()
    filling.join(20.0)
    stored = BarRepository(table).have(Market.USDM, NOON - 17 * HOUR_MS, NOON)
    assert len(stored) == 17 * 60
    assert all(len(symbols) == 4 for symbols in stored.values())
    table.close()


def held_until(event: threading.Event) -> None:
    assert event.wait(20.0)
