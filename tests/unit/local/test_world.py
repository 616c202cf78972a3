"""What `run` finds out before it starts, and what it does with a refusal."""

from __future__ import annotations

import pytest

from local.world import World, own_state, probe
from shared.clock import HOUR_MS, ManualClock, parse_utc_ms
from shared.errors import ExchangeUnavailable, RestrictedLocation, StorageBusy
from shared.exchange.market_data import Listing
from shared.market.model import Market
from shared.settings import Settings
from shared.settings_loader import parse_settings
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
