"""The local exchange as third-party clients see it: REST, streams, commands, limits, restarts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from local.exchange.market import SimulatedMarket
from local.exchange.playback import PlaybackClock
from local.exchange.recorded import RecordedMarket
from local.exchange.scenarios import demo_plan
from local.exchange.server import LocalExchange
from local.recordings import discover
from shared.clock import HOUR_MS, ManualClock, ScaledClock
from shared.market.model import Market

START = 1_790_000_040_000 // 60_000 * 60_000
SPEED = 60.0


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        asyncio.run(main())

    return run


@pytest.fixture(scope="module")
def exchange() -> Iterator[LocalExchange]:
    market = SimulatedMarket(7, START, plan=demo_plan(START))
    with LocalExchange(market, ScaledClock(START, SPEED)) as running:
        yield running


def get(exchange: LocalExchange, path: str, **params: Any) -> requests.Response:
    return requests.get(exchange.rest_url + path, params=params, timeout=10)


def body(exchange: LocalExchange, path: str, **params: Any) -> Any:
    response = get(exchange, path, **params)
    assert response.status_code == 200, response.text
    return response.json()


async def messages(socket: ClientConnection, count: int) -> list[Any]:
    return [json.loads(await asyncio.wait_for(socket.recv(), 5)) for _ in range(count)]


async def command(socket: ClientConnection, text: str) -> Any:
    """Send a command and return its reply, whatever the streams say meanwhile."""
    await socket.send(text)
    async for message in limited(socket):
        if "stream" not in message and "e" not in message:
            return message
    raise AssertionError("no reply")


async def limited(socket: ClientConnection) -> AsyncIterator[Any]:
    for _ in range(2000):
        yield json.loads(await asyncio.wait_for(socket.recv(), 5))


# ---- REST ------------------------------------------------------------------------------------------------------------


def test_klines_end_with_the_running_candle(exchange: LocalExchange) -> None:
    rows = body(exchange, "/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=3)
    now = body(exchange, "/api/v3/time")["serverTime"]
    assert len(rows) == 3
    assert all(len(row) == 12 for row in rows)
    assert [row[0] - rows[0][0] for row in rows] == [0, 60_000, 120_000]
    assert rows[-1][0] <= now
    assert rows[-1][6] >= now - 60_000
    assert all(isinstance(row[5], str) and row[6] == row[0] + 59_999 for row in rows)


def test_kline_times_and_limits(exchange: LocalExchange) -> None:
    base = START - HOUR_MS - START % HOUR_MS
    ask = {"symbol": "ETHUSDT", "interval": "1m"}
    from_start = body(exchange, "/api/v3/klines", **ask, startTime=base, limit=2)
    assert [row[0] for row in from_start] == [base, base + 60_000]
    to_end = body(exchange, "/api/v3/klines", **ask, endTime=base, limit=2)
    assert [row[0] for row in to_end] == [base - 60_000, base]
    both = body(exchange, "/api/v3/klines", **ask, startTime=base, endTime=base + 120_000)
    assert [row[0] for row in both] == [base, base + 60_000, base + 120_000]
    assert len(body(exchange, "/api/v3/klines", **ask)) == 500
    assert len(body(exchange, "/fapi/v1/klines", symbol="ZECUSDT", interval="1m", limit=9999)) == 1500
    five = body(exchange, "/api/v3/klines", symbol="ETHUSDT", interval="5m", startTime=base, limit=1)[0]
    one = body(exchange, "/api/v3/klines", **ask, startTime=base, limit=5)
    assert float(five[5]) == pytest.approx(sum(float(row[5]) for row in one))
    assert five[4] == one[-1][4]


@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("/api/v3/klines", {"symbol": "NOPEUSDT", "interval": "1m"}, 400, -1121),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "7m"}, 400, -1120),
        ("/api/v3/klines", {"symbol": "BTCUSDT"}, 400, -1102),
        ("/api/v3/klines", {"interval": "1m"}, 400, -1102),
        ("/api/v3/depth", {"symbol": "币安USDT"}, 400, -1121),
        ("/api/v3/depth", {"symbol": "BTCUSDT", "limit": "x"}, 400, -1100),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": "7"}, 400, -4021),
        ("/fapi/v1/historicalTrades", {"symbol": "BTCUSDT"}, 401, -2014),
        ("/futures/data/openInterestHist", {"symbol": "BTCUSDT", "period": "1m"}, 400, -1130),
    ],
)
def test_errors_have_the_exchanges_words(
    exchange: LocalExchange, path: str, params: dict[str, str], status: int, code: int
) -> None:
    response = get(exchange, path, **params)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["msg"]


def test_unknown_endpoints_are_404(exchange: LocalExchange) -> None:
    assert get(exchange, "/api/v3/nothing").status_code == 404
    assert get(exchange, "/api/v1/klines").status_code == 404
    assert get(exchange, "/fapi/v1/allForceOrders").status_code == 404


def test_listing_names_sectors_and_limits(exchange: LocalExchange) -> None:
    spot = body(exchange, "/api/v3/exchangeInfo", symbols='["BTCUSDT","ETHUSDT"]')
    assert [s["symbol"] for s in spot["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    assert spot["rateLimits"][0]["limit"] == 6000
    futures = body(exchange, "/fapi/v1/exchangeInfo")
    tags = {s["symbol"]: s["underlyingSubType"] for s in futures["symbols"]}
    assert tags["ZECUSDT"] == ["Privacy"]
    assert sum(t == ["Meme"] for t in tags.values()) == 4
    assert {s["contractType"] for s in futures["symbols"]} == {"PERPETUAL"}


def test_depth(exchange: LocalExchange) -> None:
    spot = body(exchange, "/api/v3/depth", symbol="BTCUSDT", limit=7)
    assert set(spot) == {"lastUpdateId", "bids", "asks"}
    assert len(spot["bids"]) == len(spot["asks"]) == 7
    bids, asks = ([float(p) for p, _ in spot[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    futures = body(exchange, "/fapi/v1/depth", symbol="ZECUSDT", limit=1000)
    assert len(futures["asks"]) == 1000
    assert {"E", "T"} <= set(futures)


def test_trades_by_id_and_time(exchange: LocalExchange) -> None:
    newest = body(exchange, "/api/v3/trades", symbol="BTCUSDT", limit=5)
    assert [t["id"] - newest[0]["id"] for t in newest] == list(range(5))
    again = body(exchange, "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=newest[0]["id"], limit=5)
    assert again == newest
    aggregates = body(exchange, "/api/v3/aggTrades", symbol="BTCUSDT", startTime=newest[0]["time"], limit=3)
    assert aggregates[0]["T"] >= newest[0]["time"]
    same = body(exchange, "/api/v3/aggTrades", symbol="BTCUSDT", fromId=aggregates[0]["a"], limit=3)
    assert same == aggregates


def test_futures_figures(exchange: LocalExchange) -> None:
    interest = body(exchange, "/fapi/v1/openInterest", symbol="ZECUSDT")
    assert float(interest["openInterest"]) > 0
    history = body(exchange, "/futures/data/openInterestHist", symbol="ZECUSDT", period="5m", limit=500)
    assert len(history) == 500
    assert {b["timestamp"] - a["timestamp"] for a, b in pairwise(history)} == {300_000}
    premium = body(exchange, "/fapi/v1/premiumIndex")
    assert {row["symbol"] for row in premium} >= {"BTCUSDT", "ZECUSDT", "DOGEUSDT"}
    zec = body(exchange, "/fapi/v1/premiumIndex", symbol="ZECUSDT")
    assert zec["lastFundingRate"] == "0.00150000"
    rates = body(exchange, "/fapi/v1/fundingRate", symbol="BTCUSDT", limit=3)
    assert len(rates) == 3
    assert body(exchange, "/api/v3/ticker/24hr", symbol="BTCUSDT")["count"] > 50_000


def test_microseconds_on_request(exchange: LocalExchange) -> None:
    url = exchange.rest_url + "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1"
    row = requests.get(url, headers={"X-MBX-TIME-UNIT": "MICROSECOND"}, timeout=10).json()[0]
    assert row[6] - row[0] == 59_999_999
    assert row[0] > 10**15


def test_weights_are_counted_and_the_limit_is_kept() -> None:
    clock = ManualClock(START)
    with LocalExchange(SimulatedMarket(1, START), clock) as running:
        first = get(running, "/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1)
        assert first.headers["X-MBX-USED-WEIGHT-1M"] == "2"
        assert get(running, "/fapi/v1/klines", symbol="BTCUSDT", interval="1m").headers["x-mbx-used-weight-1m"] == "5"
        for _ in range(9):
            get(running, "/fapi/v1/historicalTrades", symbol="BTCUSDT")
        clock.advance(30_000)
        answers = [get(running, "/fapi/v1/historicalTrades", symbol="BTCUSDT") for _ in range(24)]
        assert [a.status_code for a in answers] == [401] * 2 + [429] * 20 + [418] * 2
        assert answers[2].json()["code"] == -1003
        assert int(answers[2].headers["Retry-After"]) == 30
        assert f"banned until {START + 30_000 + 120_000}" in answers[-1].json()["msg"]
        assert get(running, "/api/v3/ping").status_code == 200
        clock.advance(121_000)
        assert get(running, "/fapi/v1/ping").status_code == 200


# ---- streams ---------------------------------------------------------------------------------------------------------


@in_loop
async def test_combined_trades_are_those_of_rest(exchange: LocalExchange) -> None:
    async with connect(exchange.ws_url + "/stream?streams=btcusdt@trade/ethusdt@aggTrade") as socket:
        got = await messages(socket, 60)
    trades = [m["data"] for m in got if m["stream"] == "btcusdt@trade"]
    ids = [t["t"] for t in trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    rest = body(exchange, "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=ids[0], limit=len(ids))
    assert [(t["p"], t["q"], t["T"], t["m"]) for t in trades] == [
        (r["price"], r["qty"], r["time"], r["isBuyerMaker"]) for r in rest
    ]
    times = [m["data"]["T"] for m in got]
    assert times == sorted(times)


@in_loop
async def test_raw_streams_klines_and_books(exchange: LocalExchange) -> None:
    async with connect(exchange.ws_url + "/ws/ethusdt@kline_1m/ethusdt@depth5@100ms") as socket:
        got = await messages(socket, 150)
    books = [m for m in got if "lastUpdateId" in m]
    assert books
    assert all(len(b["bids"]) == 5 and "s" not in b for b in books)
    klines = [m["k"] for m in got if m.get("e") == "kline"]
    closed = [k for k in klines if k["x"]]
    assert closed
    assert not all(k["x"] for k in klines)
    row = body(exchange, "/api/v3/klines", symbol="ETHUSDT", interval="1m", startTime=closed[0]["t"], limit=1)[0]
    assert [closed[0][key] for key in "ohlcv"] == row[1:6]
    assert closed[0]["n"] == row[8] == closed[0]["L"] - closed[0]["f"] + 1


@in_loop
async def test_depth_updates_follow_on(exchange: LocalExchange) -> None:
    async with connect(exchange.ws_url + "/public/stream?streams=zecusdt@depth") as socket:
        got = [m["data"] for m in await messages(socket, 8)]
    assert all(b["pu"] == a["u"] for a, b in pairwise(got))
    assert all(m["U"] == m["pu"] + 1 and m["st"] == 1 for m in got)


@in_loop
async def test_a_wrong_futures_path_is_silence(exchange: LocalExchange) -> None:
    async with connect(exchange.ws_url + "/public/ws") as socket:
        reply = await command(socket, '{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"],"id":1}')
        assert reply == {"result": None, "id": 1}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.4)
    async with connect(exchange.ws_url + "/market/stream?streams=btcusdt@aggTrade/!markPrice@arr@1s") as socket:
        got = await messages(socket, 20)
    assert {m["stream"] for m in got} == {"btcusdt@aggTrade", "!markPrice@arr@1s"}
    marks = next(m["data"] for m in got if m["stream"] == "!markPrice@arr@1s")
    assert all(mark["st"] == 1 and "r" in mark for mark in marks)


@in_loop
async def test_commands_and_their_errors(exchange: LocalExchange) -> None:
    async with connect(exchange.ws_url + "/stream") as socket:
        first = '{"method":"SUBSCRIBE","params":["btcusdt@trade","nope@nothing"],"id":1}'
        assert await command(socket, first) == {"result": None, "id": 1}
        listed = await command(socket, '{"method":"LIST_SUBSCRIPTIONS","id":2}')
        assert listed == {"result": ["btcusdt@trade", "nope@nothing"], "id": 2}
        assert (await command(socket, '{"method":"DANCE","id":3}'))["code"] == 2
        assert (await command(socket, "{nonsense"))["code"] == 3
        await asyncio.sleep(1.1)
        gone = '{"method":"UNSUBSCRIBE","params":["btcusdt@trade","nope@nothing"],"id":4}'
        assert await command(socket, gone) == {"result": None, "id": 4}
        assert await command(socket, '{"method":"GET_PROPERTY","params":["combined"],"id":5}') == {
            "result": True,
            "id": 5,
        }
        assert (await command(socket, '{"method":"SUBSCRIBE","params":["a@trade"],"id":-1}'))["code"] == 2


@in_loop
async def test_too_many_commands_close_the_connection(exchange: LocalExchange) -> None:
    async with connect(exchange.ws_url + "/ws") as socket:
        for number in range(8):
            await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        await asyncio.wait_for(socket.wait_closed(), 5)
        assert socket.close_code == 1008


@in_loop
async def test_no_compression_is_agreed_and_microseconds_are_served(exchange: LocalExchange) -> None:
    async with connect(exchange.ws_url + "/ws/btcusdt@trade?timeUnit=MICROSECOND") as socket:
        assert socket.protocol.extensions == []
        assert (await messages(socket, 1))[0]["T"] > 10**15


@in_loop
async def test_liquidations_come_around_the_initiator() -> None:
    market = SimulatedMarket(7, START, plan=demo_plan(START))
    clock = ManualClock(START + 6 * 60_000)
    with LocalExchange(market, clock) as running:
        async with connect(running.ws_url + "/market/ws/!forceOrder@arr", max_queue=None) as socket:
            await asyncio.sleep(0.1)
            clock.advance(180_000)
            orders = [m["o"] for m in await messages(socket, 35)]
    assert sum(o["s"] == "ZECUSDT" and o["S"] == "BUY" for o in orders) >= 30


@in_loop
async def test_stops_quickly_and_starts_again_on_the_same_port() -> None:
    running = LocalExchange(SimulatedMarket(1, START), ScaledClock(START, SPEED))
    running.start()
    port = running.port
    async with connect(running.ws_url + "/ws/btcusdt@trade") as socket:
        await messages(socket, 1)
        begun = time.monotonic()
        await asyncio.to_thread(running.stop)
        assert time.monotonic() - begun < 2.0
        with pytest.raises(ConnectionClosed):
            await messages(socket, 10_000)
    running.start()
    try:
        assert running.port == port
        assert get(running, "/api/v3/ping").json() == {}
    finally:
        running.stop()


# ---- somebody else's client ------------------------------------------------------------------------------------------


@in_loop
async def test_python_binance_works_unchanged(exchange: LocalExchange) -> None:
    from binance import AsyncClient, BinanceSocketManager

    client = AsyncClient()
    client.API_URL = exchange.rest_url + "/api"
    client.FUTURES_URL = exchange.rest_url + "/fapi"
    try:
        assert await client.ping() == {}
        rows = await client.get_klines(symbol="BTCUSDT", interval="1m", limit=20)
        assert len(rows) == 20
        futures = await client.futures_klines(symbol="ZECUSDT", interval="1m", limit=20)
        assert len(futures) == 20
        manager = BinanceSocketManager(client)
        manager.STREAM_URL = exchange.ws_url + "/"
        async with manager.trade_socket("BTCUSDT") as stream:
            trades = [await asyncio.wait_for(stream.recv(), 5) for _ in range(5)]
        assert [t["e"] for t in trades] == ["trade"] * 5
        assert {t["s"] for t in trades} == {"BTCUSDT"}
    finally:
        await client.close_connection()


# ---- recordings ------------------------------------------------------------------------------------------------------


def write_frames(folder: Path) -> list[str]:
    lines, frames = [], []
    depth = '{"lastUpdateId":9,"bids":[["9.5","1"],["9.4","2"]],"asks":[["9.6","3"]]}'
    lines.append(f'{{"recv_ns":{START * 10**6},"frame":{depth}}}')
    for i in range(200):
        at = START + i * 1000
        frame = (
            f'{{"stream":"qusdt@trade","data":{{"e":"trade","E":{at},"s":"QUSDT","t":{100 + i},"p":"9.50",'
            f'"q":"{i + 1}.0","T":{at},"m":{"true" if i % 2 else "false"},"M":true}} }}'
        )
        frames.append(frame)
        lines.append(f'{{"recv_ns":{(at + 3) * 10**6},"frame":{frame}}}')
    (folder / "spot_QUSDT_20260101T0000Z.frames.jsonl").write_text("\n".join(lines) + "\n")
    return frames


@in_loop
async def test_recorded_frames_come_byte_for_byte_and_hold_until_subscribed(tmp_path: Path) -> None:
    frames = write_frames(tmp_path)
    source = RecordedMarket(discover([tmp_path]))
    with LocalExchange(source, PlaybackClock(source.first_ms(), None)) as running:
        assert body(running, "/api/v3/time")["serverTime"] == START + 3
        depth = body(running, "/api/v3/depth", symbol="QUSDT")
        assert depth == {"lastUpdateId": 9, "bids": [["9.5", "1"], ["9.4", "2"]], "asks": [["9.6", "3"]]}
        async with connect(running.ws_url + "/stream?streams=qusdt@trade") as socket:
            assert [await asyncio.wait_for(socket.recv(), 5) for _ in frames] == frames
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.2)
        rows = body(running, "/api/v3/klines", symbol="QUSDT", interval="1m")
        trades = body(running, "/api/v3/historicalTrades", symbol="QUSDT", fromId=150, limit=2)
    assert [t["id"] for t in trades] == [150, 151]
    assert rows[0][8] == 60
    assert float(rows[0][5]) == sum(range(1, 61))


@in_loop
async def test_recorded_klines_are_history_and_streams_have_a_pace(tmp_path: Path) -> None:
    path = tmp_path / "usdm_AUSDT_1m_x.csv"
    first = START - 3_600_000
    path.write_text("".join(f"{first + i * 60_000},1,2,1,2,5,{first + i * 60_000 + 59_999},,,,,\n" for i in range(60)))
    recordings = discover([path])
    source = RecordedMarket(recordings)
    with LocalExchange(source, PlaybackClock(source.last_ms(), 1.0)) as running:
        rows = body(running, "/fapi/v1/klines", symbol="AUSDT", interval="1m", limit=1500)
    assert len(rows) == 60
    assert float(rows[0][9]) == 2.5
    with LocalExchange(source, PlaybackClock(source.first_ms(), 600.0)) as running:
        async with connect(running.ws_url + "/market/ws/ausdt@kline_1m") as socket:
            begun = time.monotonic()
            got = await messages(socket, 6)
    assert all(m["k"]["x"] for m in got)
    assert time.monotonic() - begun > 0.4
    assert source.instruments(Market.USDM)[0].symbol == "AUSDT"
