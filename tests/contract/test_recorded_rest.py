"""Recorded REST bodies give the values that stand in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import Banned, RestrictedLocation, UnknownSymbol
from shared.exchange.binance import answers, rest_wire
from shared.exchange.market_data import Funding, OpenInterest
from shared.http import HttpResponse
from shared.market.model import Bar, Market, Side, TradeKind

pytestmark = pytest.mark.recorded


@pytest.fixture
def body(recorded_dir: Path):
    return lambda name: (recorded_dir / "rest" / name).read_bytes()


def test_klines(body) -> None:
    bars = rest_wire.klines(
        Market.SPOT,
        "BTCUSDT",
        body("api_v3_klines__endTime=1588743688000_interval=1m_startTime=1588740088000_symbol=BTCUSDT.json"),
    )
    assert len(bars) == 60
    assert bars[0] == Bar(
        Market.SPOT, "BTCUSDT", 1588740120000, 1588740179999, 9033.34, 9039.99, 9032.75, 9033.15, 31.192968,
        281893.08800082, 282, 6.3581030,
    )  # fmt: skip
    assert [bar.open_ms for bar in bars] == list(range(1588740120000, 1588740120000 + 60 * 60_000, 60_000))


@pytest.mark.parametrize(
    ("name", "market"),
    [
        ("api_v3_klines__interval=5m_limit=24_symbol=BTCUSDT.json", Market.SPOT),
        ("fapi_v1_klines__endTime=1602819889_interval=5m_startTime=1602816289_symbol=LTCUSDT.json", Market.USDM),
    ],
)
def test_every_row_of_other_intervals(body, name: str, market: Market) -> None:
    rows = json.loads(body(name))
    bars = rest_wire.klines(market, "X", body(name), interval_ms=300_000)
    assert [(bar.open_ms, bar.volume, bar.taker_buy_volume) for bar in bars] == [
        (row[0], float(row[5]), float(row[9])) for row in rows
    ]


@pytest.mark.parametrize(
    "name",
    [
        "api_v3_depth__limit=1000_symbol=BTCUSDT.json",
        "depth_snapshot_spot_BTCUSDT_20240808_0.json",
        "depth_snapshot_usdm_BTCUSDT_20220811_0.json",
        "depth_snapshot_usdm_ETHUSDT_20240808_0.json",
        "fapi_v1_depth__limit=100_symbol=BTCUSDT.json",
        "fapi.binance.com_fapi_v1_depth_symbol=AKROUSDT_limit=1000.json",
        "fapi.binance.com_fapi_v1_depth_symbol=SUSHIUSDT_limit=1000.json",
    ],
)
def test_depth(body, name: str) -> None:
    wanted = json.loads(body(name))
    book = rest_wire.depth(Market.USDM, "X", body(name), recv_ms=7)
    assert book.last_update_id == wanted["lastUpdateId"]
    assert book.event_ms == wanted.get("E")
    assert [(level.price, level.quantity) for level in book.bids] == [(float(p), float(q)) for p, q in wanted["bids"]]
    assert [(level.price, level.quantity) for level in book.asks] == [(float(p), float(q)) for p, q in wanted["asks"]]
    assert book.skipped_levels == 0


def test_trades(body) -> None:
    aggregates = rest_wire.agg_trades(
        Market.SPOT, "BTCUSDT", body("api_v3_aggTrades__fromId=202790190_limit=1000_symbol=BTCUSDT.json"), 5
    )
    assert [trade.trade_id for trade in aggregates] == list(range(202790190, 202790190 + len(aggregates)))
    first = aggregates[0]
    assert (first.price, first.quantity, first.side, first.event_ms, first.kind) == (
        7139.89, 0.067023, Side.BUY, 1577977823305, TradeKind.AGG_TRADE,
    )  # fmt: skip
    single = rest_wire.trades(Market.SPOT, "BTCUSDT", body("api_v3_historicalTrades__limit=5_symbol=BTCUSDT.json"), 5)
    assert [trade.trade_id for trade in single] == list(range(870281750, 870281755))
    assert single[0].side is Side.SELL
    assert len(rest_wire.trades(Market.USDM, "BTCUSDT", body("fapi_v1_trades__limit=5_symbol=BTCUSDT.json"), 5)) == 5


def test_exchange_info(body) -> None:
    spot, futures = body("api_v3_exchangeInfo.json"), body("fapi.binance.com_fapi_v1_exchangeInfo.json")
    assert rest_wire.weight_limit(spot) == 6000
    assert rest_wire.weight_limit(futures) == 2400
    assert len(rest_wire.listings(Market.SPOT, spot)) == len(json.loads(spot)["symbols"])
    by_name = {listing.symbol: listing for listing in rest_wire.listings(Market.USDM, futures)}
    assert len(by_name) == len(json.loads(futures)["symbols"])
    assert (by_name["BTCUSDT"].base, by_name["BTCUSDT"].quote) == ("BTC", "USDT")
    assert by_name["BTCUSDT"].contract_type == "PERPETUAL"


def test_interest_and_funding(body) -> None:
    assert rest_wire.open_interest(body("fapi_v1_openInterest__symbol=BTCUSDT.json")) == OpenInterest(
        "BTCUSDT", 83782.317, 1702244985273
    )
    history = rest_wire.open_interest_history(
        body(
            "futures_data_openInterestHist__endTime=1602820343_limit=10_period=1d_startTime=1602802343_symbol=LTCUSDT.json"
        )
    )
    assert history[0] == OpenInterest("LTCUSDT", 286060.674, 1602028800000)
    assert [row.event_ms for row in history] == sorted(row.event_ms for row in history)
    assert rest_wire.funding(body("fapi_v1_premiumIndex__symbol=BTCUSDT.json")) == {
        "BTCUSDT": Funding("BTCUSDT", 0.00001226, 1687244112000, 1687248000000, 26780.82240476)
    }
    assert rest_wire.server_time(body("fapi_v1_time.json")) == 1620099477465


def test_recorded_errors(body) -> None:
    def error(status: int, name: str, now_ms: int = 1746327200000):
        response = HttpResponse(status, {}, body(f"errors/{name}"))
        return answers.error_of(response, Market.SPOT, "api.binance.com", now_ms)

    unknown = error(400, "http400_-1121_invalid_symbol.json")
    assert isinstance(unknown, UnknownSymbol)
    assert unknown.api_code == -1121
    banned = error(418, "http418_-1003_ip_banned.json")
    assert isinstance(banned, Banned)
    assert banned.until_ms == 1746327239762
    restricted = error(451, "http451_0_restricted_location.json")
    assert isinstance(restricted, RestrictedLocation)
    assert "data-api.binance.vision" in str(restricted)
