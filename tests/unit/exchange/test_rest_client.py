from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any

import pytest
from rest_fakes import MINUTE, START, MemoryBanStore, answer, client, kline

from shared.clock import ManualClock
from shared.errors import (
    BadRequest,
    BadResponse,
    Banned,
    Blocked,
    ConfigurationError,
    ExchangeError,
    ExchangeUnavailable,
    RateLimited,
    RestrictedLocation,
    StorageUnavailable,
    UnknownSymbol,
)
from shared.exchange.market_data import Funding, MarketData
from shared.market.model import Market, Side, TradeKind
from shared.settings import ExchangeSettings

SPOT, USDM = Market.SPOT, Market.USDM
TIME = answer({"serverTime": START})
DOWN = answer({"code": -1008, "msg": "overloaded"}, 503)


# --- what is asked ---------------------------------------------------------------------------------------------
def test_it_is_market_data() -> None:
    market_data: MarketData = client(TIME)[0]
    assert market_data.server_time_ms(SPOT) == START


def test_klines_are_asked_for_and_ascend() -> None:
    rows = [kline(START + MINUTE), kline(START, "0"), kline(START + MINUTE, "7")]
    market_data, transport, _ = client(answer(rows))
    bars = market_data.klines(SPOT, " btcusdt ", limit=5000, start_ms=START, end_ms=START + MINUTE)
    assert [(bar.open_ms, bar.volume, bar.symbol) for bar in bars] == [
        (START, 0, "BTCUSDT"), (START + MINUTE, 7, "BTCUSDT"),
    ]  # fmt: skip
    assert transport.asked[0].url == "https://data-api.binance.vision/api/v3/klines"
    assert transport.asked[0].params == {
        "symbol": "BTCUSDT", "interval": "1m", "limit": "1000", "startTime": str(START), "endTime": str(START + MINUTE),
    }  # fmt: skip


@pytest.mark.parametrize(("market", "levels", "limit"), [(SPOT, 7, "7"), (USDM, 7, "10"), (USDM, 501, "1000")])
def test_depth_is_asked_with_the_smallest_limit(market: Market, levels: int, limit: str) -> None:
    market_data, transport, _ = client(answer({"lastUpdateId": 1, "bids": [["1", "2"]], "asks": []}))
    book = market_data.depth(market, "币安USDT", levels=levels)
    assert transport.asked[0].params == {"symbol": "币安USDT", "limit": limit}
    assert (book.symbol, len(book.bids), book.asks, book.recv_ms) == ("币安USDT", 1, (), START)


def test_trades_of_both_kinds() -> None:
    market_data, transport, _ = client(
        answer(
            [{"a": 8, "p": "2", "q": "3", "T": START, "m": True}, {"a": 7, "p": "NaN", "q": "3", "T": START, "m": True}]
        )
    )
    (trade,) = market_data.agg_trades(SPOT, "A", from_id=7)
    assert (trade.kind, trade.trade_id, trade.side) == (TradeKind.AGG_TRADE, 8, Side.SELL)
    assert transport.asked[0].params == {"symbol": "A", "fromId": "7", "limit": "1000"}


def test_past_trades_of_futures_are_refused_without_a_key() -> None:
    row = {"id": 5, "price": "2", "qty": "3", "time": START, "isBuyerMaker": False}
    market_data, transport, _ = client(answer([row]))
    with pytest.raises(BadRequest, match="needs an API key"):
        market_data.historical_trades(USDM, "A", from_id=1)
    assert transport.asked == []
    for market in Market:
        assert market_data.historical_trades(market, "A", from_id=None)[0].trade_id == 5
    assert [asked.url.rpartition("/")[2] for asked in transport.asked] == ["trades", "trades"]


def test_past_trades_with_a_key_and_on_the_full_host() -> None:
    settings = ExchangeSettings(spot_rest_url="https://api.binance.com")
    market_data, transport, _ = client(answer([]), settings=settings, api_key="k")
    market_data.historical_trades(USDM, "A", from_id=1)
    assert transport.asked[0].headers == {"X-MBX-APIKEY": "k"}
    without_key, transport, _ = client(answer([]), settings=settings)
    assert without_key.historical_trades(SPOT, "A", from_id=1) == []
    assert transport.asked[0].url == "https://api.binance.com/api/v3/historicalTrades"
    assert transport.asked[0].headers == {}


def test_interest_and_funding() -> None:
    row = {"symbol": "A", "lastFundingRate": "0.0001", "time": START, "nextFundingTime": 0, "markPrice": "3"}
    market_data, _, _ = client(answer([row, {**row, "symbol": "B", "lastFundingRate": ""}]))
    assert market_data.funding_all() == {"A": Funding("A", 0.0001, START, None, 3.0)}
    history = [{"symbol": "A", "sumOpenInterest": str(n), "timestamp": START - n} for n in (1, 2)]
    market_data, transport, _ = client(answer(history))
    assert [row.contracts for row in market_data.open_interest_history("A")] == [2, 1]
    assert transport.asked[0].url == "https://fapi.binance.com/futures/data/openInterestHist"
    assert transport.asked[0].params == {"symbol": "A", "period": "5m", "limit": "30"}


@pytest.mark.parametrize("symbol", ["", "  ", "A B", "x" * 41, "a\nb"])
def test_what_is_no_symbol_is_not_asked_for(symbol: str) -> None:
    market_data, transport, _ = client(TIME)
    with pytest.raises(UnknownSymbol):
        market_data.open_interest(symbol)
    assert transport.asked == []


def test_too_many_levels_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        client(TIME)[0].depth(USDM, "A", levels=1001)


# --- F201, F202: limits and bans -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [({"retry_after": "30"}, 30), ({"retry_after": "120"}, 120), ({}, 60), ({"retry_after": "soon"}, 60),
     ({"retry_after": "-5"}, 60), ({"retry_after": "²"}, 60)],
)  # fmt: skip
def test_no_call_before_the_time_that_a_429_names(headers: dict[str, str], wait_s: int) -> None:
    market_data, transport, clock = client(answer({"code": -1003, "msg": "x"}, 429, **headers), TIME)
    with pytest.raises(RateLimited) as caught:
        market_data.server_time_ms(SPOT)
    assert caught.value.retry_after_s == wait_s
    clock.advance(wait_s * 1000 - 5_001)
    with pytest.raises(RateLimited):
        market_data.server_time_ms(SPOT)
    assert len(transport.asked) == 1
    clock.advance(1)  # close enough to be waited out
    market_data.server_time_ms(SPOT)
    assert transport.asked[1].at_ms >= START + wait_s * 1000


def test_a_short_pause_is_waited_out() -> None:
    market_data, transport, _ = client(answer(b"", 429, retry_after="1"), TIME)
    assert market_data.server_time_ms(SPOT) == START
    assert [asked.at_ms - START for asked in transport.asked] == [0, 1000]


def test_a_stopped_host_does_not_stop_the_other() -> None:
    market_data, _, _ = client(answer(b"", 429, retry_after="90"), TIME)
    with pytest.raises(RateLimited):
        market_data.server_time_ms(USDM)
    assert market_data.server_time_ms(SPOT) == START


@pytest.mark.parametrize(
    ("headers", "text", "ban_s"),
    [({"retry_after": "2"}, "", 2), ({"retry_after": "259200"}, "", 259200), ({}, "", 120),
     ({}, f"IP(203.0.113.97) banned until {START + 40_000}. Please", 40),
     ({"retry_after": "10"}, f"banned until {START + 40_000}", 40), ({}, "banned until 1000000000000", 120)],
)  # fmt: skip
def test_no_call_during_a_ban_by_anyone(headers: dict[str, str], text: str, ban_s: int) -> None:
    store = MemoryBanStore()
    banned = answer({"code": -1003, "msg": text}, 418, **headers)
    market_data, transport, clock = client(banned, TIME, store=store)
    with pytest.raises(Banned) as caught:
        market_data.server_time_ms(SPOT)
    assert caught.value.until_ms == START + ban_s * 1000 == store.until["data-api.binance.vision"]
    other, others, _ = client(TIME, store=store, clock=clock)
    clock.set(START + ban_s * 1000 - 1)
    with pytest.raises(Banned):
        market_data.server_time_ms(SPOT)
    if ban_s > 10:
        clock.set(START + 1000)
        with pytest.raises(RateLimited):
            other.server_time_ms(SPOT)
    assert (len(transport.asked), others.asked) == (1, [])
    clock.set(START + ban_s * 1000)
    assert market_data.server_time_ms(SPOT) == other.server_time_ms(SPOT) == START


def test_a_ban_set_elsewhere_is_heard_while_running() -> None:
    store = MemoryBanStore()
    market_data, transport, clock = client(TIME, store=store)
    market_data.server_time_ms(SPOT)
    store.set("data-api.binance.vision", START + 600_000)
    clock.advance(2_000)
    with pytest.raises(RateLimited):
        market_data.server_time_ms(SPOT)
    assert len(transport.asked) == 1


def test_a_store_without_an_answer_does_not_stop_the_calls() -> None:
    class Broken(MemoryBanStore):
        def get(self, host: str) -> int | None:
            raise StorageUnavailable("down")

        def set(self, host: str, until_ms: int) -> None:
            raise StorageUnavailable("down")

    market_data, transport, _ = client(TIME, answer(b"", 418, retry_after="99"), store=Broken())
    market_data.server_time_ms(SPOT)
    for _ in range(2):
        with pytest.raises(Banned):
            market_data.server_time_ms(SPOT)
    assert len(transport.asked) == 2


def test_the_exchange_s_own_count_is_honoured() -> None:
    settings = ExchangeSettings(weight_share=0.5)
    market_data, transport, _ = client(
        answer({"serverTime": START}, x_mbx_used_weight_1m="2999"), TIME, settings=settings
    )
    market_data.server_time_ms(SPOT)
    market_data.server_time_ms(SPOT)
    market_data.server_time_ms(SPOT)
    assert [asked.at_ms - START for asked in transport.asked] == [0, 0, MINUTE]


def test_the_limit_is_read_from_exchange_info() -> None:
    listing = {"symbol": "A", "baseAsset": "A", "quoteAsset": "B", "status": "TRADING", "underlyingSubType": ["AI"]}
    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 3}]
    info = answer({"symbols": [listing, {"symbol": 1}], "rateLimits": limits})
    market_data, transport, _ = client(info, TIME, settings=ExchangeSettings(weight_share=1.0))
    assert [(row.symbol, row.tags) for row in market_data.listings(USDM)] == [("A", ("AI",))]
    for _ in range(3):
        market_data.server_time_ms(USDM)
    assert [asked.at_ms - START for asked in transport.asked] == [0, 0, 0, MINUTE]


# --- F203: refusals --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("market", "words"),
    [(SPOT, ("451", "exchange.spot_rest_url", "data-api.binance.vision", "allowed region")),
     (USDM, ("451", "allowed region", "spot detectors go on"))],
)  # fmt: skip
def test_a_restricted_place_is_not_asked_again_and_says_what_to_change(market: Market, words: tuple[str, ...]) -> None:
    body = {"code": 0, "msg": "Service unavailable from a restricted location according to 'b. Eligibility'"}
    market_data, transport, clock = client(answer(body, 451))
    for _ in range(3):
        with pytest.raises(RestrictedLocation) as caught:
            market_data.server_time_ms(market)
        assert all(word in str(caught.value) for word in words)
    assert len(transport.asked) == 1
    clock.advance(15 * MINUTE)
    with pytest.raises(RestrictedLocation):
        market_data.server_time_ms(market)
    assert len(transport.asked) == 2


def test_a_403_stops_the_host_for_minutes_and_then_one_call_tries() -> None:
    market_data, transport, clock = client(answer(b"<html>", 403), answer(b"<html>", 403), TIME)
    for _ in range(3):
        with pytest.raises(Blocked, match=r"exchange\.weight_share"):
            market_data.server_time_ms(SPOT)
    assert len(transport.asked) == 1
    clock.advance(5 * MINUTE)
    for _ in range(2):
        with pytest.raises(Blocked):
            market_data.server_time_ms(SPOT)
    assert len(transport.asked) == 2
    clock.advance(5 * MINUTE)
    assert market_data.server_time_ms(SPOT) == market_data.server_time_ms(SPOT) == START


def test_only_one_call_is_the_probe() -> None:
    market_data, transport, clock = client(answer(b"", 403), TIME)
    with pytest.raises(Blocked):
        market_data.server_time_ms(SPOT)
    clock.advance(5 * MINUTE)
    answered, inner = transport.get, []

    def meanwhile(*args: Any) -> Any:
        transport.get = answered  # type: ignore[method-assign]
        with pytest.raises(Blocked):
            market_data.server_time_ms(SPOT)
        inner.append(True)
        return answered(*args)

    transport.get = meanwhile  # type: ignore[method-assign]
    assert market_data.server_time_ms(SPOT) == START
    assert inner == [True]
    assert len(transport.asked) == 2


# --- F204, F205, F206: trouble ---------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_trouble_on_their_side_is_asked_about_three_times(status: int) -> None:
    market_data, transport, _ = client(answer(b"<html>", status))
    with pytest.raises(ExchangeUnavailable):
        market_data.server_time_ms(SPOT)
    assert [asked.at_ms - START for asked in transport.asked] == [0, 200, 600]
    assert (market_data.counters["retries"], market_data.counters["exchange_unavailable"]) == (2, 3)


def test_a_second_answer_that_is_good_is_enough() -> None:
    assert client(ExchangeUnavailable("reset"), DOWN, TIME)[0].server_time_ms(SPOT) == START


def test_nothing_is_asked_after_the_deadline() -> None:
    market_data, transport, clock = client(DOWN)
    with pytest.raises(ExchangeUnavailable):
        market_data.until(START + 250).server_time_ms(SPOT)
    assert [asked.timeout_s for asked in transport.asked] == [0.25, pytest.approx(0.05)]
    clock.advance(1000)
    with pytest.raises(ExchangeUnavailable, match="used up"):
        market_data.until(START + 250).server_time_ms(SPOT)
    assert len(transport.asked) == 2


def test_a_deadline_before_the_budget_turns_is_told_at_once() -> None:
    market_data, transport, _ = client(answer({"serverTime": 1}, x_mbx_used_weight_1m="6000"), TIME)
    with pytest.raises(BadResponse):
        market_data.until(START + 100).server_time_ms(SPOT)
    with pytest.raises(RateLimited, match="budget"):
        market_data.until(START + 30_000).server_time_ms(SPOT)
    assert len(transport.asked) == 1


GARBAGE = [b"", b"{", b"<html>down</html>", b"{}", b"[]x", b"null", b"7", b'{"code":0,"msg":"x"}', b"[" * 100_000,
           b'[["a"]]', b"[{}]", b'{"symbols":1}', b'{"serverTime":"x"}', b"\xff\xfe"]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_a_bad_response_and_nothing_comes_of_it(body: bytes) -> None:
    questions = [
        lambda m: m.server_time_ms(SPOT), lambda m: m.listings(USDM), lambda m: m.klines(SPOT, "A", limit=5),
        lambda m: m.depth(SPOT, "A", levels=5), lambda m: m.agg_trades(SPOT, "A", from_id=1),
        lambda m: m.historical_trades(SPOT, "A", from_id=None), lambda m: m.open_interest("A"),
        lambda m: m.open_interest_history("A"), lambda m: m.funding_all(),
    ]  # fmt: skip
    for question in questions:
        market_data, transport, _ = client(answer(body))
        with pytest.raises(BadResponse):
            question(market_data)
        assert len(transport.asked) == 3


@pytest.mark.parametrize(
    "changed", [{4: "NaN"}, {5: "-1"}, {0: START + 1}, {6: START}, {2: "8"}, {8: "x"}, {1: None}, {0: "x"}, {5: [1]}]
)
def test_one_bad_row_refuses_the_bars(changed: dict[int, object]) -> None:
    row = kline(START)
    for index, value in changed.items():
        row[index] = value
    with pytest.raises(BadResponse):
        client(answer([kline(START + MINUTE), row]))[0].klines(SPOT, "A", limit=2)


@pytest.mark.parametrize(
    ("status", "code", "error", "calls"),
    [
        (400, -1121, UnknownSymbol, 1),
        (200, -1121, UnknownSymbol, 1),
        (400, -1100, BadRequest, 1),
        (400, -1120, BadRequest, 1),
        (401, -2015, BadRequest, 1),
        (404, None, BadRequest, 1),
        (400, -1001, ExchangeUnavailable, 3),
        (400, -1007, ExchangeUnavailable, 3),
        (400, -1003, RateLimited, 1),
        (302, None, BadResponse, 3),
    ],
)
def test_each_answer_has_its_error(status: int, code: int | None, error: type[ExchangeError], calls: int) -> None:
    body = b"gone" if code is None else {"code": code, "msg": "words"}
    market_data, transport, _ = client(answer(body, status))
    with pytest.raises(error) as caught:
        market_data.server_time_ms(SPOT)
    assert (caught.value.status, caught.value.api_code) == (status, code)
    assert len(transport.asked) == calls


def test_statistics_have_their_own_budget() -> None:
    clock = ManualClock(START - START % 300_000)
    begin = clock.now_ms()
    market_data, transport, _ = client(answer([]), clock=clock, settings=ExchangeSettings(weight_share=0.002))
    for _ in range(2):
        market_data.open_interest_history("A")
    with pytest.raises(RateLimited):
        market_data.open_interest_history("A")
    assert [asked.at_ms - begin for asked in transport.asked] == [0, 0]


def test_many_threads_share_one_budget_and_the_connections() -> None:
    settings = ExchangeSettings(weight_share=0.01, max_connections=3)  # 60 a minute, klines weigh 2
    market_data, transport, clock = client(answer([]), settings=settings)
    busy, most = [0], [0]
    fetch = transport.get

    def counted(*args: Any) -> Any:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        sleep(0.002)
        busy[0] -= 1
        return fetch(*args)

    transport.get = counted  # type: ignore[method-assign]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: market_data.klines(SPOT, "A", limit=1), range(60)))
    per_minute = Counter(asked.at_ms // MINUTE for asked in transport.asked)
    assert len(transport.asked) == 60
    assert max(per_minute.values()) <= 30 + 8  # those on their way when this clock leapt arrive in the next minute
    assert most[0] <= 3
    assert clock.now_ms() >= START + MINUTE
