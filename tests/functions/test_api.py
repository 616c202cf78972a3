"""The API: what it answers, what it refuses, and that callers never get each other's answers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fakes import START_MS, FakeContext, FakeWorld
from hypothesis import given
from hypothesis import strategies as st

from functions import api
from shared.clock import MINUTE_MS
from shared.detection.reading import Detector, Direction, Signal
from shared.errors import StorageUnavailable
from shared.jobs.common import beat
from shared.market.model import Market
from shared.storage.not_before import NotBeforeRepository


def get(world: FakeWorld, path: str, query: dict[str, str] | None = None, method: str = "GET") -> tuple[int, Any]:
    return ask(api.make_handler(lambda: world.deps), path, query, method)


def ask(handle: Any, path: str, query: dict[str, str] | None = None, method: str = "GET") -> tuple[int, Any]:
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "localhost"},
        "queryStringParameters": query,
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default", "requestId": "1"},
        "body": None,
        "isBase64Encoded": False,
    }
    answer = handle(event, FakeContext())
    return answer["statusCode"], json.loads(answer["body"])


def trade(symbol: str = "BTCUSDT", second: int = 0, ratio: float = 12.5) -> Signal:
    event_ms = START_MS + second * 1000
    return Signal(
        detector=Detector.TRADE_SPIKE,
        market=Market.SPOT,
        symbol=symbol,
        event_ms=event_ms,
        known_ms=event_ms,
        values={
            "signal_type": "VolumeSpike",
            "symbol": symbol,
            "price": 87_654.32,
            "volume": 12.5,
            "timestamp": f"2026-01-01T00:00:{second:02d}Z",
            "ratio": ratio,
            "mean": 1.0,
            "trade_id": 7,
            "side": "BUY",
        },
        thresholds={"multiple": 10.0, "window_trades": 200},
        trade_id=7,
    )


def initiator(minute: int, direction: Direction = Direction.UP, symbol: str = "XMRUSDT") -> Signal:
    return Signal(
        detector=Detector.SECTOR_INITIATOR,
        market=Market.USDM,
        symbol=symbol,
        event_ms=START_MS + minute * MINUTE_MS,
        known_ms=START_MS + minute * MINUTE_MS,
        values={"status": "CONFIRMED"},
        thresholds={},
        direction=direction,
        sector="Privacy",
    )


def tell(world: FakeWorld, *signals: Signal) -> None:
    for signal in signals:
        world.clock.set(signal.known_ms)
        world.deps.alerts.handle(signal)


def test_awaits_the_first_signal(world: FakeWorld) -> None:
    assert get(world, "/api/get_signal") == (200, {"status": "Awaiting first signal..."})


def test_the_latest_trade_spike_of_all_or_of_one_symbol(world: FakeWorld) -> None:
    tell(world, trade("ETHUSDT", 1), trade("BTCUSDT", 2))
    status, body = get(world, "/api/get_signal")
    assert (status, body["symbol"], body["signal_type"]) == (200, "BTCUSDT", "VolumeSpike")
    assert (body["price"], body["volume"], body["timestamp"]) == (87_654.32, 12.5, "2026-01-01T00:00:02Z")
    assert get(world, "/api/get_signal", {"symbol": " eth "})[1]["symbol"] == "ETHUSDT"
    assert get(world, "/api/get_signal", {"symbol": "DOGE"})[1] == {"status": "Awaiting first signal..."}


def test_signals_say_why_they_were_held(world: FakeWorld) -> None:
    tell(world, initiator(0), initiator(1), initiator(20, Direction.DOWN))
    status, body = get(world, "/api/signals")
    assert status == 200
    assert [(one["event_time"], one["held_reason"]) for one in body["signals"]] == [
        ("2026-01-01T00:20:00Z", None),
        ("2026-01-01T00:01:00Z", "cooldown"),
        ("2026-01-01T00:00:00Z", None),
    ]
    assert body["signals"][1]["held_until"] == "2026-01-01T01:00:00Z"
    assert body["cursor"] is None


@pytest.mark.parametrize(
    ("query", "minutes"),
    [
        ({}, [40, 20, 0]),
        ({"symbol": "xmr"}, [20, 0]),
        ({"direction": "down"}, [20]),
        ({"detector": "sector_initiator", "direction": "UP"}, [40, 0]),
        ({"detector": "window_anomaly"}, []),
        ({"since": "2026-01-01T00:20:00Z"}, [40, 20]),
        ({"until": "2026-01-01T00:20:00Z"}, [0]),
        ({"since": "25m"}, [40, 20]),
        ({"limit": "1"}, [40]),
    ],
)
def test_alerts_are_filtered(world: FakeWorld, query: dict[str, str], minutes: list[int]) -> None:
    tell(world, initiator(0), initiator(20, Direction.DOWN), initiator(40, symbol="ZECUSDT"))
    status, body = get(world, "/api/alerts", query)
    assert status == 200
    assert [one["event_time"] for one in body["alerts"]] == [f"2026-01-01T00:{m:02d}:00Z" for m in minutes]
    assert all(one["schema"] == 1 for one in body["alerts"])


def test_pages_neither_repeat_nor_skip(world: FakeWorld) -> None:
    tell(world, *(initiator(n) for n in range(7)))
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        body = get(world, "/api/signals", query)[1]
        seen += [one["event_time"] for one in body["signals"]]
        if body["cursor"] is None:
            break
        assert body["cursor"].replace("-", "").replace("_", "").isalnum()
        query = {"limit": "2", "cursor": body["cursor"]}
    assert seen == [f"2026-01-01T00:{n:02d}:00Z" for n in reversed(range(7))]


def test_one_alert_and_its_deliveries(world: FakeWorld) -> None:
    tell(world, initiator(0))
    alert_id = world.channel.sent[0].alert_id
    status, body = get(world, f"/api/alerts/{alert_id}")
    assert (status, body["alert_id"], body["title"]) == (200, alert_id, world.channel.sent[0].title)
    assert body["deliveries"]["recording"]["state"] == "sent"
    assert get(world, "/api/alerts/" + "0" * 64)[0] == 404


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1e2"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "00000000199999"}, "limit"),
        ({"limit": "000000001" + "9" * 5000}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"detector": "magic"}, "detector"),
        ({"direction": "SIDEWAYS"}, "direction"),
        ({"since": "yesterday"}, "no time"),
        ({"until": "9" * 5000}, "no time"),
        ({"since": "1h", "until": "2h"}, "since"),
        ({"symbol": ""}, "symbol"),
        ({"symbol": "x" * 5000}, "symbol"),
        ({"symbol": "BTC\x00"}, "symbol"),
        ({"cursor": "!!"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": "A" * 5000}, "cursor"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_query_is_400_with_the_reason(world: FakeWorld, query: dict[str, str], word: str) -> None:
    for path in ("/api/signals", "/api/alerts"):
        status, body = get(world, path, query)
        assert (status, body["code"]) == (400, "usage")
        assert word in body["error"]


@given(
    st.dictionaries(st.sampled_from(["symbol", "detector", "since", "until", "limit", "cursor"]), st.text(max_size=30))
)
def test_no_query_makes_it_fall_over(query: dict[str, str]) -> None:
    world = FakeWorld()
    status, body = get(world, "/api/signals", query)
    assert status in (200, 400)
    assert ("signals" in body) == (status == 200)
    world.table.close()


@pytest.mark.parametrize(
    ("path", "method"),
    [("/", "GET"), ("/api/nothing", "GET"), ("/api/nothing", "POST"), ("/api/alerts/../x", "DELETE")],
)
def test_what_is_not_there_is_404(world: FakeWorld, path: str, method: str) -> None:
    assert get(world, path, method=method) == (404, {"error": "there is nothing at this path", "code": "not_found"})


def test_health_shows_every_component_bars_and_bans(world: FakeWorld) -> None:
    world.clock.set(START_MS + 10 * MINUTE_MS)
    beat(world.deps, "volume-spike", {"minute_ms": START_MS})
    world.clock.advance(2 * MINUTE_MS)
    NotBeforeRepository(world.table).set("fapi.binance.com", world.clock.now_ms() + 60_000)
    status, body = get(world, "/api/health")
    assert (status, body["status"]) == (200, "starting")
    assert body["components"]["volume-spike"]["state"] == "ok"
    assert body["components"]["volume-spike"]["age_s"] == 120.0
    assert body["components"]["streamer"] == {"state": "starting", "last_beat": None, "age_s": None, "limit_s": 180.0}
    assert body["exchange"]["usdm"] == {
        "host": "fapi.binance.com", "banned": True, "not_before": "2026-01-01T00:13:00Z",
    }  # fmt: skip
    assert body["exchange"]["spot"]["banned"] is False
    assert body["last_minute"] == {"spot": None, "usdm": None}
    world.clock.advance(20 * MINUTE_MS)
    assert get(world, "/api/health")[1]["status"] == "silent"


class BrokenTable:
    def __getattr__(self, name: str) -> Any:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise StorageUnavailable("secret-host:8000 did not answer")

        return refuse


class Defect:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("a defect with secret words")


@pytest.mark.parametrize(
    ("table", "status", "code"), [(BrokenTable, 503, "storage_unavailable"), (Defect, 500, "internal")]
)
def test_a_failure_tells_strangers_no_more_than_a_code(world: FakeWorld, table: Any, status: int, code: str) -> None:
    handle = api.make_handler(lambda: replace(world.deps, table=table()))
    for path in ("/api/get_signal", "/api/signals", "/api/alerts/x", "/api/health"):
        got, body = ask(handle, path)
        assert (got, body["code"]) == (status, code)
        assert "secret" not in json.dumps(body)
        assert set(body) == {"error", "code"}


def test_parallel_callers_get_their_own_answers(world: FakeWorld) -> None:
    symbols = [f"C{n}USDT" for n in range(20)]
    tell(world, *(trade(symbol, n) for n, symbol in enumerate(symbols)))
    handlers = [api.make_handler(lambda: world.deps), api.make_handler(lambda: world.deps)]
    begin = threading.Barrier(8)

    def caller(number: int) -> int:
        begin.wait()
        wrong = 0
        for n in range(40):
            symbol = symbols[(number * 7 + n) % len(symbols)]
            wrong += ask(handlers[n % 2], "/api/get_signal", {"symbol": symbol})[1]["symbol"] != symbol
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(caller, range(8))) == 0
