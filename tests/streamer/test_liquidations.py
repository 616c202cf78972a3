"""Minute sums of forced orders, and which minutes count as listened to."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection

from shared.clock import MINUTE_MS
from shared.settings import ExchangeSettings
from shared.storage.readings import ReadingRepository
from shared.storage.sqlite import SqliteTable
from streamer.liquidations import LiquidationSums
from tests.streamer.feed import Feed
from tests.streamer.streams import settings
from tests.streamer.test_service import ServedFeed, make, wait_until

START_MS = 1_760_000_040_000  # a minute's beginning
assert START_MS % MINUTE_MS == 0


def order(at_ms: int, symbol: str = "XMRUSDT", price: str = "200", quantity: str = "3", **more: Any) -> bytes:
    body = {"s": symbol, "S": "SELL", "o": "LIMIT", "f": "IOC", "q": quantity, "p": price, "ap": price, "X": "FILLED"}
    event = {"e": "forceOrder", "E": at_ms, "o": {**body, "l": quantity, "z": quantity, "T": at_ms}, **more}
    return msgspec.json.encode({"stream": "!forceOrder@arr", "data": event})


def pulse(at_ms: int) -> bytes:
    body = {"e": "markPriceUpdate", "E": at_ms, "s": "BTCUSDT", "p": "60000", "i": "60000", "r": "0.0001", "T": 0}
    return msgspec.json.encode({"stream": "btcusdt@markPrice@1s", "data": body})


def beating(start_ms: int, end_ms: int) -> list[bytes]:
    return [pulse(at) for at in range(start_ms, end_ms, 1000)]


def test_orders_are_summed_by_symbol_and_minute_and_quiet_minutes_are_stored_too() -> None:
    stored: dict[int, Any] = {}
    sums = LiquidationSums(lambda minute, rows: stored.__setitem__(minute, rows))
    sums.receive_many(beating(START_MS - 5_000, START_MS + 10_000), 0)
    sums.receive_many([order(START_MS + 10_500), order(START_MS + 11_000), order(START_MS + 12_000, "ZECUSDT")], 0)
    sums.receive_many([order(START_MS + 13_000, "BTCUSD_PERP"), order(START_MS + 13_000, "BTCUSDT", st=2)], 0)
    sums.receive_many(beating(START_MS + 14_000, START_MS + 3 * MINUTE_MS), 0)
    assert stored == {
        START_MS: {"XMRUSDT": {"notional": 1200.0}, "ZECUSDT": {"notional": 600.0}},
        START_MS + MINUTE_MS: {},
    }
    assert (sums.orders, sums.minutes) == (3, 2)


def test_an_order_that_two_connections_bring_counts_once() -> None:
    stored: dict[int, Any] = {}
    sums = LiquidationSums(lambda minute, rows: stored.__setitem__(minute, rows))
    sums.receive_many(beating(START_MS - 5_000, START_MS + 10_000), 0)
    orders = [order(START_MS + 10_500), order(START_MS + 10_500, "ZECUSDT"), order(START_MS + 11_500)]
    sums.receive_many(orders, 0)
    sums.receive_many(beating(START_MS + 12_000, START_MS + 14_000), 0)
    sums.receive_many([*orders, order(START_MS + 10_500, quantity="4"), order(START_MS + 14_500)], 0)
    sums.receive_many(beating(START_MS + 15_000, START_MS + 2 * MINUTE_MS), 0)
    sums.receive_many([order(START_MS + 10_500)], 0)  # its minute is over
    assert stored == {START_MS: {"XMRUSDT": {"notional": 2600.0}, "ZECUSDT": {"notional": 600.0}}}
    assert sums.orders == 5
    assert not sums._seen


def test_f117_an_order_from_the_future_moves_no_minute() -> None:
    """Found by fuzzing: one order of the year 2089 made it go through 33 million minutes."""
    stored: dict[int, Any] = {}
    sums = LiquidationSums(lambda minute, rows: stored.__setitem__(minute, rows))
    sums.receive_many(beating(START_MS - 5_000, START_MS), START_MS)
    far = order(START_MS + 1_000).replace(f'"T":{START_MS + 1_000}'.encode(), b'"T":3760000000000')
    assert b"3760000000000" in far
    sums.receive_many([far, pulse(3_760_000_000_000)], START_MS + 1_050)
    assert (sums.orders, stored) == (0, {})
    assert sums.heard_ms < START_MS
    sums.receive_many(beating(START_MS + 2_000, START_MS + 70_000), START_MS + 70_050)
    assert list(stored) == [START_MS]


def test_f117_an_order_from_years_ago_stores_nothing_of_the_years_between() -> None:
    stored: dict[int, Any] = {}
    sums = LiquidationSums(lambda minute, rows: stored.__setitem__(minute, rows))
    sums.receive_many([order(START_MS - 4 * 365 * 24 * 60 * MINUTE_MS)], START_MS)
    sums.receive_many(beating(START_MS, START_MS + 70_000), START_MS + 70_050)
    assert list(stored) == [START_MS]


def test_a_minute_that_was_not_wholly_listened_to_is_unknown() -> None:
    stored: dict[int, Any] = {}
    sums = LiquidationSums(lambda minute, rows: stored.__setitem__(minute, rows))
    sums.receive_many(beating(START_MS + 1_000, START_MS + 70_000), 0)  # began inside the first minute
    sums.broken()
    sums.receive_many(beating(START_MS + 71_000, START_MS + 150_000), 0)  # broke inside the second
    sums.receive_many(beating(START_MS + 158_000, START_MS + 320_000), 0)  # deaf inside the third
    assert sorted(stored) == [START_MS + 3 * MINUTE_MS, START_MS + 4 * MINUTE_MS]


def test_the_service_listens_on_the_futures_path_and_stores_the_minutes() -> None:
    gone = threading.Event()

    async def script(feed: Feed, client: ServerConnection, number: int) -> None:
        request = client.request
        assert request is not None
        if "forceOrder" in request.path:
            assert request.path.startswith("/market/stream?streams=!forceOrder@arr")
            for message in [*beating(START_MS - 3_000, START_MS + 5_000), order(START_MS + 5_500)]:
                await client.send(message.decode())
            for message in beating(START_MS + 6_000, START_MS + 70_000):
                await client.send(message.decode())
        while not gone.is_set():
            await asyncio.sleep(0.05)

    table = SqliteTable(":memory:")
    with ServedFeed(script) as feed:
        base = settings()
        service = make(feed, table, base=base)
        exchange = ExchangeSettings(spot_ws_url=feed.url, futures_ws_url=feed.url, spot_rest_url="http://127.0.0.1:1")
        service.settings = msgspec.structs.replace(base, exchange=exchange)
        service.run_in_thread()
        wait_until(lambda: service.liquidations.minutes == 1)
        wait_until(lambda: ReadingRepository(table).get("liquidations", START_MS))
        assert ReadingRepository(table).get("liquidations", START_MS) == {"XMRUSDT": {"notional": 600.0}}
        gone.set()
        assert service.stop()
        time.sleep(0)
