"""The published contract is current, every answer has its published shape, and pages, tags and limits hold."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import START_MS, FakeContext, FakeWorld, make_bar

from functions import api, api_openapi
from functions.api_access import COOKIE, OneTimeAccess, TokenAccess
from functions.api_routes import ROUTES
from local.evaluation.keeping import keep_for_page
from shared.clock import MINUTE_MS, iso_utc
from shared.detection.features import SymbolFeatures
from shared.detection.reading import Detector, Direction, Signal, Status
from shared.jobs.common import bars_of, beat, features_of, readings_of
from shared.jobs.overview import QUALITY
from shared.market.model import Market
from shared.settings import ApiSettings, Settings, StorageSettings
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.schema import time_key, windows_partition
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository

ROOT = Path(__file__).resolve().parents[2]
NOW_MS = START_MS + 1000 * MINUTE_MS
MINUTES = 1000


class Caller:
    """Asks one handler, as a browser would."""

    def __init__(self, world: FakeWorld, access: Any = None) -> None:
        self.handle = api.make_handler(lambda: world.deps, access)

    def __call__(
        self, path: str, *, method: str = "GET", query: dict[str, str] | None = None, body: Any = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {name.replace("_", "-"): value for name, value in headers.items()},
            "queryStringParameters": query,
            "requestContext": {"http": {"method": method, "path": path}, "stage": "$default", "requestId": "1"},
            "body": body if body is None or isinstance(body, str) else json.dumps(body),
            "isBase64Encoded": False,
        }
        answer = self.handle(event, FakeContext())
        found = {name.lower(): value for name, value in answer["headers"].items()}
        return answer["statusCode"], json.loads(answer["body"]) if answer["body"] else None, found


@pytest.fixture(scope="module")
def filled() -> Iterator[FakeWorld]:
    """A thousand minutes of two symbols, some windows, books, signals, and one evaluation; for reading only."""
    world = FakeWorld()
    world.clock.set(NOW_MS)
    bars, features, books = bars_of(world.deps), features_of(world.deps), readings_of(world.deps)
    for minute in range(MINUTES):
        at_ms = START_MS + minute * MINUTE_MS
        for market in Market:
            row = {s: make_bar(s, at_ms, market=market, close=minute + 1.0) for s in ("BTCUSDT", "XMRUSDT")}
            bars.put_minute(market, at_ms, row)
        if minute >= 700:
            features.put(at_ms, {s: feature(s, at_ms) for s in ("BTCUSDT", "XMRUSDT")})
            books.put("order_book", at_ms, {"BTCUSDT": book(at_ms)})
    WindowRepository(world.table).put_many(window(n) for n in range(700))
    for n in range(40):
        spike = Signal(Detector.TRADE_SPIKE, Market.SPOT, "BTCUSDT", NOW_MS - n * 1000, NOW_MS - n * 1000,
                       {"ratio": 12.0, "price": 1.0, "volume": 2.0}, {"multiple": 10.0}, trade_id=n)  # fmt: skip
        world.deps.alerts.handle(spike)
    beat(world.deps, "streamer", {"state": "live", "last_event_ms": NOW_MS, "lag_ms": 12, "trades": 5})
    CheckpointRepository(world.table).put(QUALITY, {"time": iso_utc(NOW_MS), "rows": [{"detector": "x", "lift": 2.0}]})
    state = {"anomaly": {"learnt": 740, "fitted_after": 700}}
    CheckpointRepository(world.table).put("streamer/spot/BTCUSDT", state)
    yield world
    world.table.close()


def feature(symbol: str, at_ms: int) -> dict[str, Any]:
    values = SymbolFeatures(symbol, at_ms, 0.1, 0.2, 1.0, 0.1, 3.5, -1.25, 0.5, Status.NORMAL, 720)
    return {**asdict(values), "status": "normal", "open_time": iso_utc(at_ms)}


def book(at_ms: int) -> dict[str, Any]:
    return {"timestamp": iso_utc(at_ms), "symbol": "BTCUSDT", "obi": 0.5, "notional_bid": 3.0, "notional_ask": 1.0,
            "levels": 5, "status": "ok"}  # fmt: skip


def window(n: int) -> dict[str, Any]:
    judged = n >= 600
    start_ms = NOW_MS - (700 - n) * 20_000
    return {
        "market": "spot", "symbol": "BTCUSDT", "start_ms": start_ms, "end_ms": start_ms + 20_000, "trade_count": 3,
        "volume": 1.0, "avg_trade_size": 0.3, "return": 0.001, "volatility": 0.1, "complete": True,
        "score": n / 7000 if n >= 500 else None, "threshold": 0.0 if judged else None,
        "prediction": (-1 if n % 50 == 0 else 1) if judged else None, "status": "normal" if judged else "warming",
    }  # fmt: skip


def test_the_published_contract_is_current() -> None:
    published = (ROOT / "docs" / "api" / "openapi.json").read_text(encoding="utf-8")
    assert published == api_openapi.text(), "run: python -m functions.api_openapi > docs/api/openapi.json"
    contract = json.loads(published)
    assert contract["openapi"].startswith("3.1")
    assert set(contract["paths"]) == {route.path for route in ROUTES} | {"/api/token"}


READS = [
    ("/api/get_signal", {}),
    ("/api/signals", {"limit": "7"}),
    ("/api/alerts", {}),
    ("/api/bars/btc", {"minutes": "90"}),
    ("/api/bars/XMRUSDT", {"market": "usdm", "since": "2h"}),
    ("/api/features", {}),
    ("/api/features", {"symbol": "xmr", "minutes": "30"}),
    ("/api/windows/BTCUSDT", {}),
    ("/api/windows/BTCUSDT/scores", {}),
    ("/api/windows/NOPE/scores", {}),
    ("/api/order-book/BTC", {"minutes": "15"}),
    ("/api/health", {}),
    ("/api/summary", {}),
    ("/api/cooldowns", {}),
    ("/api/reports", {}),
    ("/api/bars", {}),
    ("/api/quality", {}),
    ("/api/universe", {}),
    ("/api/mutes", {}),
]


@pytest.mark.parametrize(("path", "query"), READS)
def test_every_read_answers_in_its_published_shape(filled: FakeWorld, path: str, query: dict[str, str]) -> None:
    call = Caller(filled, OneTimeAccess())
    status, body, headers = call(path, query=query)
    assert status == 200, body
    route = next(one for one in ROUTES if one.method == "GET" and one.pattern().match(path))
    assert route.answer is not None
    msgspec.convert(body, route.answer, strict=True)
    known = {field.encode_name for field in msgspec.structs.fields(route.answer)}
    assert set(body) <= known
    again = call(path, query=query, If_None_Match=f'W/{headers["etag"]}, "other"')
    assert (again[0], again[1]) == (304, None)
    assert again[2]["etag"] == headers["etag"]


def walk(call: Caller, path: str, query: dict[str, str], key: str) -> list[Any]:
    """Follow the cursor to the end; a page is never larger than asked."""
    found: list[Any] = []
    cursor = None
    for _ in range(500):
        status, body, _ = call(path, query={**query, **({"cursor": cursor} if cursor else {})})
        assert status == 200, body
        assert len(body[key]) <= int(query["limit"])
        found += body[key]
        cursor = body["cursor"]
        if cursor is None:
            return found
    raise AssertionError("the pages never end")


@pytest.mark.parametrize(
    ("path", "query", "key", "count"),
    [
        ("/api/bars/BTCUSDT", {"minutes": "900", "limit": "77"}, "open_time", 900),
        ("/api/bars/BTCUSDT", {"minutes": "20160", "limit": "720"}, "open_time", 1000),
        ("/api/features", {"symbol": "XMRUSDT", "minutes": "400", "limit": "13"}, "features", 300),
        ("/api/order-book/BTCUSDT", {"minutes": "250", "limit": "120"}, "readings", 250),
        ("/api/windows/BTCUSDT", {"limit": "33"}, "windows", 700),
        ("/api/windows/BTCUSDT", {"limit": "33", "since": "60m"}, "windows", 180),
        ("/api/signals", {"limit": "9"}, "signals", 40),
    ],
)
def test_pages_neither_repeat_nor_skip(
    filled: FakeWorld, path: str, query: dict[str, str], key: str, count: int
) -> None:
    rows = walk(Caller(filled, OneTimeAccess()), path, query, key)
    assert len(rows) == count
    assert len({json.dumps(row) for row in rows}) == count


def test_bars_come_in_order_with_their_own_numbers(filled: FakeWorld) -> None:
    _, body, _ = Caller(filled)("/api/bars/BTCUSDT", query={"minutes": "3"})
    assert body["open_time"] == [iso_utc(NOW_MS - m * MINUTE_MS) for m in (3, 2, 1)]
    assert body["close"] == [998.0, 999.0, 1000.0]
    assert Caller(filled)("/api/bars/NOPEUSDT")[1]["open"] == []
    since = body["open_time"][-1]
    assert Caller(filled)("/api/bars/BTCUSDT", query={"since": since})[1]["open_time"] == [since]


def test_the_forest_tells_threshold_rate_and_age(filled: FakeWorld) -> None:
    _, body, _ = Caller(filled)("/api/windows/BTCUSDT/scores")
    assert (body["state"], body["windows"], body["scored"], body["judged"], body["anomalies"]) == (
        "judging", 700, 200, 100, 2,
    )  # fmt: skip
    assert sum(body["counts"]) == 200
    assert len(body["edges"]) == len(body["counts"]) + 1
    assert (body["threshold"], body["rate"], body["model_age_windows"]) == (0.0, 0.02, 40)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/bars/BTCUSDT", {"minutes": "0"}),
        ("/api/bars/BTCUSDT", {"minutes": "20161"}),
        ("/api/bars/BTCUSDT", {"limit": "722"}),
        ("/api/bars/BTCUSDT", {"market": "moon"}),
        ("/api/bars/BTCUSDT", {"since": "yesterday"}),
        ("/api/bars/BTCUSDT", {"since": "1h", "until": "2h"}),
        ("/api/bars/BTCUSDT", {"cursor": "####"}),
        ("/api/bars/BTCUSDT", {"cursor": "YWJj"}),
        ("/api/bars/BTCUSDT", {"wat": "1"}),
        ("/api/bars/" + "A" * 41, {}),
        ("/api/features", {"minutes": "5"}),
        ("/api/windows/BTCUSDT", {"limit": "501"}),
        ("/api/windows/BTCUSDT", {"cursor": "YWJj"}),
        ("/api/windows/BTCUSDT", {"since": "1h", "until": "2h"}),
        ("/api/health", {"x": ""}),
        ("/api/token", {"x": ""}),
    ],
)
def test_what_cannot_be_meant_is_400(filled: FakeWorld, path: str, query: dict[str, str]) -> None:
    status, body, _ = Caller(filled, OneTimeAccess())(path, query=query)
    assert (status, body["code"]) == (400, "usage")


def test_another_method_is_405_and_says_which_there_are(world: FakeWorld) -> None:
    call = Caller(world, OneTimeAccess())
    for path, method, allowed in [
        ("/api/mutes", "PATCH", "GET, POST"), ("/api/health", "POST", "GET"), ("/api/bars/BTC", "DELETE", "GET"),
        ("/api/mutes/abc", "GET", "DELETE"), ("/api/token", "PUT", "GET"),
    ]:  # fmt: skip
        status, body, headers = call(path, method=method)
        assert (status, body["code"], headers["allow"]) == (405, "method", allowed)


def test_a_mute_holds_alerts_until_it_is_lifted(world: FakeWorld) -> None:
    world.clock.set(NOW_MS)
    access = OneTimeAccess()
    call = Caller(world, access)

    def token() -> str:
        return call("/api/token")[1]["token"]

    status, made, _ = call("/api/mutes", method="POST", body={"symbol": "btc", "for": "2h"}, X_Change_Token=token())
    assert (status, made["symbol"], made["until"]) == (201, "BTCUSDT", iso_utc(NOW_MS + 121 * MINUTE_MS))
    assert call("/api/mutes")[1]["mutes"] == [made]
    spike = Signal(Detector.SECTOR_INITIATOR, Market.USDM, "BTCUSDT", NOW_MS, NOW_MS, {"status": "CONFIRMED"}, {})
    assert world.deps.alerts.handle(spike).held == "muted"
    assert call("/api/signals")[1]["signals"][0]["held_until"] == made["until"]
    assert call(f"/api/mutes/{made['id']}", method="DELETE", X_Change_Token=token())[0] == 204
    assert call("/api/mutes")[1]["mutes"] == []
    assert call(f"/api/mutes/{made['id']}", method="DELETE", X_Change_Token=token())[0] == 404
    assert call("/api/mutes/..", method="DELETE", X_Change_Token=token())[0] == 404


def test_a_cooldown_holds_until_it_is_lifted(world: FakeWorld) -> None:
    world.clock.set(NOW_MS)
    access = OneTimeAccess()
    call = Caller(world, access)

    def signal(at_ms: int, detector: Detector, market: Market, direction: Direction | None = None) -> Signal:
        return Signal(detector, market, "BTCUSDT", at_ms, at_ms, {"status": "CONFIRMED", "score": -0.5},
                      {"score": -0.1}, direction=direction, strength=4.0)  # fmt: skip

    for detector, market, direction in [
        (Detector.SECTOR_INITIATOR, Market.USDM, Direction.UP), (Detector.MARKET_WIDE, Market.USDM, Direction.DOWN),
        (Detector.WINDOW_ANOMALY, Market.SPOT, None),
    ]:  # fmt: skip
        assert world.deps.alerts.handle(signal(NOW_MS, detector, market, direction)).alert is not None
        again = world.deps.alerts.handle(signal(NOW_MS + 1000, detector, market, direction))
        assert again.held == "cooldown"
        [row] = [one for one in call("/api/cooldowns")[1]["cooldowns"] if one["detector"] == detector.value]
        assert (row["symbol"], row["direction"], row["held"]) == ("BTCUSDT", direction and direction.value, 1)
        path = f"/api/cooldowns/{row['id']}"
        assert call(path, method="DELETE")[0] == 403
        assert call(path, method="DELETE", X_Change_Token=access.issue())[0] == 204
        assert detector.value not in {one["detector"] for one in call("/api/cooldowns")[1]["cooldowns"]}
        assert call(path, method="DELETE", X_Change_Token=access.issue())[0] == 404
        passed = world.deps.alerts.handle(signal(NOW_MS + 2000, detector, market, direction)).alert
        assert passed is not None
        assert passed.suppressed_since_last == 1  # what was held is still told
    for name in ("x", "%%%", "c3lzdGVtfHg", "A" * 300):
        assert call(f"/api/cooldowns/{name}", method="DELETE", X_Change_Token=access.issue())[0] == 404


def test_the_page_is_told_whether_it_can_change_anything(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(access: Any) -> bool:
        return bool(Caller(world, access)("/api/universe", X_Api_Key="t")[1]["changes"])

    assert told(OneTimeAccess()) is True
    assert told(TokenAccess(lambda: "t")) is True
    assert told(TokenAccess(lambda: None)) is False
    monkeypatch.setenv("PAGE_TOKEN", "t")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    world.deps = replace(world.deps, settings=Settings(api=ApiSettings(token_secret="PAGE_TOKEN")))
    assert told(None) is False  # the distribution passes reads only


def test_scores_go_on_where_they_ended(filled: FakeWorld) -> None:
    """Only new windows are read; the answer is that of reading all of them."""
    world = filled
    call = Caller(world)
    before = call("/api/windows/BTCUSDT/scores")[1]
    assert before == call("/api/windows/BTCUSDT/scores")[1]
    fresh = {**window(699), "start_ms": NOW_MS, "end_ms": NOW_MS + 20_000, "score": -0.4, "prediction": -1}
    replaced = {**window(698), "score": -0.3, "prediction": -1}
    try:
        WindowRepository(world.table).put_many([fresh, replaced])
        after = call("/api/windows/BTCUSDT/scores")[1]
        assert after["last"] == iso_utc(NOW_MS)
        assert after["anomalies"] == before["anomalies"] + 2
        assert after == call("/api/windows/BTCUSDT/scores", query={"until": iso_utc(NOW_MS + 60_000)})[1]
    finally:
        WindowRepository(world.table).put_many([window(698)])
        world.table.delete((windows_partition("spot", "BTCUSDT"), time_key(NOW_MS)))
        world.deps.warm.scores.clear()


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '{"symbol": 1}', '{"symbol": ""}', '{"symbol": "A B"}', {"symbol": "BTC", "for": "1y"},
     {"symbol": "BTC", "for": "9999d"}, {"symbol": "BTC", "until": "x"}, {"symbol": "BTC", "reason": "x" * 201},
     {"for": "1h"}, '{"symbol": "\ud800"}'],
)  # fmt: skip
def test_a_mute_that_cannot_be_meant_is_400(world: FakeWorld, body: Any) -> None:
    access = OneTimeAccess()
    call = Caller(world, access)
    status, answer, _ = call("/api/mutes", method="POST", body=body, X_Change_Token=access.issue())
    assert (status, answer["code"]) == (400, "usage")
    assert call("/api/mutes")[1]["mutes"] == []


def test_an_evaluation_is_kept_for_the_page(world: FakeWorld, tmp_path: Path) -> None:
    world.clock.set(NOW_MS)
    call = Caller(world)
    assert call("/api/quality")[1] == {"state": "none"}
    report = {
        "created": iso_utc(NOW_MS), "truth": "labels", "data_sha256": "ab" * 32, "inputs": 1200,
        "results": [{"detector": "pump", "level": "alert", "alarms": 7, "lift": {"lift": 3.5},
                     "labels": {"precision": 0.9, "recall": 0.8}}],
    }  # fmt: skip
    missing = Settings(storage=StorageSettings(sqlite_path=str(tmp_path / "none.sqlite")))
    assert keep_for_page(missing, report) is False
    path = tmp_path / "state.sqlite"
    table = SqliteTable(path)
    assert keep_for_page(Settings(storage=StorageSettings(sqlite_path=str(path))), report)
    world.deps = replace(world.deps, table=table)
    _, body, _ = Caller(world)("/api/quality")
    assert (body["state"], body["note"], body["data"]) == (
        "evaluated",
        "truth: labels",
        "data abababababab, 1,200 inputs",
    )
    assert body["rows"] == [
        {"detector": "pump", "level": "alert", "alarms": 7, "precision": 0.9, "recall": 0.8, "lift": 3.5}
    ]
    table.close()


def test_a_large_request_is_refused_before_it_is_read(world: FakeWorld) -> None:
    call = Caller(world, OneTimeAccess())
    assert call("/api/mutes", method="POST", body="x" * 9000)[0] == 413
    assert call("/api/alerts/" + "x" * 5000)[0] == 414


def test_a_change_costs_a_fresh_token(world: FakeWorld) -> None:
    now = [0.0]
    access = OneTimeAccess(lambda: now[0])
    call = Caller(world, access)
    mute = {"symbol": "BTC", "for": "1h"}

    def send(**headers: str) -> tuple[int, str | None]:
        status, body, _ = call("/api/mutes", method="POST", body=mute, **headers)
        return status, body.get("code")

    assert send() == (403, "change_token")
    assert send(X_Change_Token="guess") == (403, "change_token")
    token = access.issue() or ""
    assert send(X_Change_Token=token, Sec_Fetch_Site="cross-site") == (403, "cross_site")
    assert send(X_Change_Token=token, Sec_Fetch_Site="same-origin")[0] == 201
    assert send(X_Change_Token=token) == (403, "change_token")  # good for one change
    late = access.issue() or ""
    now[0] = 301.0
    assert send(X_Change_Token=late) == (403, "change_token")
    tokens = [access.issue() for _ in range(500)]
    assert send(X_Change_Token=tokens[0] or "") == (403, "change_token")  # no more than 200 are kept
    assert send(X_Change_Token=tokens[-1] or "")[0] == 201


def test_on_aws_a_token_opens_reads_and_changes(world: FakeWorld) -> None:
    secret = "s3cret"
    call = Caller(world, TokenAccess(lambda: secret))
    mute = {"symbol": "BTC"}
    for headers in ({}, {"X_Api_Key": "s3cre"}, {"X_Api_Key": secret + " "}, {"Cookie": f"{COOKIE}=x"}):
        assert call("/api/health", **headers)[0] == 401
        assert call("/api/mutes", method="POST", body=mute, **headers)[0] == 401
    for headers in ({"X_Api_Key": secret}, {"Cookie": f"a=b; {COOKIE}={secret}"}):
        assert call("/api/health", **headers)[0] == 200
        assert call("/api/mutes", method="POST", body=mute, **headers)[0] == 201
    assert call("/api/token", X_Api_Key=secret)[0] == 404
    open_reads = Caller(world, TokenAccess(lambda: secret, open_reads=True))
    assert open_reads("/api/health")[0] == 200
    assert open_reads("/api/mutes", method="POST", body=mute)[0] == 401


def test_without_a_configured_token_nothing_can_be_changed(world: FakeWorld) -> None:
    call = Caller(world, TokenAccess(lambda: None))
    assert call("/api/health")[0] == 200
    status, body, _ = call("/api/mutes", method="POST", body={"symbol": "BTC"}, X_Api_Key="")
    assert (status, body["code"]) == (403, "changes_off")


def test_the_token_is_the_secret_that_the_settings_name(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGE_TOKEN", "opensesame")
    settings = Settings(api=ApiSettings(token_secret="PAGE_TOKEN", open_reads=False))
    world.deps = replace(world.deps, settings=settings)
    call = Caller(world)
    assert call("/api/health")[0] == 401
    assert call("/api/health", X_Api_Key="opensesame")[0] == 200


def test_a_feed_without_data_is_told_and_why(world: FakeWorld) -> None:
    world.clock.set(NOW_MS)
    beat(world.deps, "streamer", {"state": "live", "last_event_ms": NOW_MS, "lag_ms": 12, "trades": 5})
    call = Caller(world, OneTimeAccess())
    assert call("/api/health")[1]["feed"]["good"] is True
    world.clock.advance(11_000)
    feed = call("/api/health")[1]["feed"]
    assert (feed["state"], feed["good"]) == ("silent", False)
    assert "streamer" in feed["reason"]
    own = {"state": "broken", "reason": "refused", "last_event_ms": NOW_MS}
    world.deps = replace(world.deps, live=lambda: own)
    body = Caller(world, OneTimeAccess())("/api/health")[1]
    assert (body["feed"]["state"], body["feed"]["reason"], body["feed"]["good"]) == ("broken", "refused", False)
    assert body["detectors"]["trade_spike"]["state"] == "silent"


def test_a_thousand_parallel_requests_get_their_own_answers(world: FakeWorld) -> None:
    """F712: without one request at a time, 421 of 1,000 got another caller's answer."""
    world.clock.set(NOW_MS)
    for n in range(50):
        bars_of(world.deps).put_minute(
            Market.SPOT,
            NOW_MS - MINUTE_MS,
            {f"C{n}USDT": make_bar(f"C{n}USDT", NOW_MS - MINUTE_MS, market=Market.SPOT)},
        )
    call = Caller(world, OneTimeAccess())
    begin = threading.Barrier(16)

    def ask(number: int) -> int:
        begin.wait()
        crossed = 0
        for n in range(number, 1000, 16):
            symbol = f"C{n % 50}USDT"
            status, body, _ = call(f"/api/bars/{symbol}", query={"minutes": str(n % 60 + 2)})
            crossed += status != 200 or body["symbol"] != symbol or len(body["open"]) != 1
        return crossed

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(16))) == 0
