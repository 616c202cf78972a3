from __future__ import annotations

import json

import pytest

from shared.errors import ConfigurationError
from shared.exchange.binance.endpoints import (
    Endpoint,
    category_of,
    depth_limit,
    host_of,
    path_of,
    plan_connections,
    stream_name,
    stream_url,
)
from shared.market.model import Market


@pytest.mark.parametrize(
    ("stream", "category"),
    [
        ("btcusdt@bookTicker", "public"),
        ("!bookTicker", "public"),
        ("btcusdt@depth", "public"),
        ("btcusdt@depth5", "public"),
        ("btcusdt@depth20@500ms", "public"),
        ("btcusdt@depth@100ms", "public"),
        ("btcusdt@rpiDepth@500ms", "public"),
        ("btcusdt@aggTrade", "market"),
        ("btcusdt@kline_1m", "market"),
        ("btcusdt_perpetual@continuousKline_1m", "market"),
        ("btcusdt@markPrice", "market"),
        ("btcusdt@markPrice@1s", "market"),
        ("!markPrice@arr", "market"),
        ("!markPrice@arr@1s", "market"),
        ("btcusdt@miniTicker", "market"),
        ("btcusdt@ticker", "market"),
        ("btcusdt@forceOrder", "market"),
        ("!forceOrder@arr", "market"),
        ("btcusdt@compositeIndex", "market"),
        ("!contractInfo", "market"),
        ("!assetIndex@arr", "market"),
        ("tradingSession", "market"),
        ("币安usdt@aggTrade", "market"),
    ],
)
def test_every_futures_stream_belongs_to_one_path(stream: str, category: str) -> None:
    assert category_of(Market.USDM, stream) == category
    url = stream_url("wss://fstream.example", Market.USDM, [stream])
    assert url.startswith(f"wss://fstream.example/{category}/stream?streams=")


@pytest.mark.parametrize(
    "stream",
    ["btcusdt@trade", "BTCUSDT@aggTrade", "btcusdt", "@aggTrade", "btcusdt@kline_7m", "btcusdt@depth7", "", " x@ticker",
     "a@aggTrade/b@aggTrade", "btcusdt@userData"],
)  # fmt: skip
def test_a_stream_that_would_be_silent_is_refused(stream: str) -> None:
    with pytest.raises(ConfigurationError):
        stream_url("wss://h", Market.USDM, [stream])


def test_spot_streams_have_no_path_and_keep_their_names() -> None:
    names = ["btcusdt@trade", "ethusdt@depth5@100ms", "ethusdt@kline_1m", "!miniTicker@arr"]
    assert stream_url("wss://h:9443/", Market.SPOT, names) == (
        "wss://h:9443/stream?streams=btcusdt@trade/ethusdt@depth5@100ms/ethusdt@kline_1m/!miniTicker@arr"
    )
    assert stream_url("wss://h", Market.SPOT, [stream_name("币安USDT", "trade")]).endswith(
        "%E5%B8%81%E5%AE%89usdt@trade"
    )
    for retired in ("!ticker@arr", "btcusdt@markPrice", "!forceOrder@arr"):
        with pytest.raises(ConfigurationError):
            category_of(Market.SPOT, retired)


def test_one_connection_carries_one_category_and_at_most_1024_streams() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        stream_url("wss://h", Market.USDM, ["a@aggTrade", "a@depth5"])
    with pytest.raises(ConfigurationError):
        stream_url("wss://h", Market.SPOT, [f"s{i}@trade" for i in range(1025)])
    with pytest.raises(ConfigurationError):
        stream_url("wss://h", Market.SPOT, [])


def test_few_streams_need_one_connection() -> None:
    names = [f"sym{i}usdt@trade" for i in range(50)]
    (plan,) = plan_connections("wss://h", Market.SPOT, [*names, names[0]])
    assert plan.streams == tuple(names)
    assert plan.commands == ()


def test_many_streams_are_planned_once_each_and_what_does_not_fit_is_subscribed() -> None:
    names = [f"symbol{i}usdt@trade" for i in range(2500)]
    plans = plan_connections("wss://h", Market.SPOT, names)
    assert [len(plan.streams) for plan in plans] == [1024, 1024, 452]
    for plan in plans:
        by_url = plan.url.partition("streams=")[2].split("/")
        by_command = [name for text in plan.commands for name in json.loads(text)["params"]]
        assert by_url + by_command == list(plan.streams)
        assert len(plan.url) <= 8000
        assert all(len(text) < 4096 for text in plan.commands)


def test_categories_are_split() -> None:
    plans = plan_connections("wss://h", Market.USDM, ["a@aggTrade", "a@depth5", "b@aggTrade"])
    assert [(plan.category, plan.streams) for plan in plans] == [
        ("market", ("a@aggTrade", "b@aggTrade")),
        ("public", ("a@depth5",)),
    ]


def test_depth_is_asked_with_the_smallest_limit() -> None:
    assert [depth_limit(Market.SPOT, n) for n in (1, 7, 5000)] == [1, 7, 5000]
    assert [depth_limit(Market.USDM, n) for n in (1, 5, 6, 21, 51, 101, 501)] == [5, 5, 10, 50, 100, 500, 1000]
    for market, levels in ((Market.SPOT, 0), (Market.SPOT, 5001), (Market.USDM, 1001)):
        with pytest.raises(ConfigurationError):
            depth_limit(market, levels)


def test_paths_and_hosts() -> None:
    assert path_of(Market.SPOT, Endpoint.KLINES) == "/api/v3/klines"
    assert path_of(Market.USDM, Endpoint.PREMIUM_INDEX) == "/fapi/v1/premiumIndex"
    assert path_of(Market.USDM, Endpoint.OPEN_INTEREST_HISTORY) == "/futures/data/openInterestHist"
    with pytest.raises(ConfigurationError):
        path_of(Market.SPOT, Endpoint.OPEN_INTEREST)
    assert host_of("https://Data-API.binance.vision/") == "data-api.binance.vision"
    assert host_of("http://127.0.0.1:8081") == "127.0.0.1:8081"
