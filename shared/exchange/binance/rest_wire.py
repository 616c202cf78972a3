"""REST bodies in, model values out. Every body that is not what the exchange documents raises BadResponse.

Source: binance-spot-api-docs rest-api.md (2026-07) and the USD-M connector's market_data_api.py (2026-08).
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from shared.errors import BadResponse
from shared.exchange.binance import messages, wire
from shared.exchange.market_data import Funding, Listing, OpenInterest
from shared.market.model import Bar, Market, OrderBook, Side, Trade, TradeKind

_MINUTE_MS = 60_000
_MAX_BODY = 64 << 20


def api_error(body: bytes) -> tuple[int | None, str]:
    """Return the exchange's own code and words from an error body; (None, "") when it holds none."""
    try:
        answer = msgspec.json.decode(body[:65536])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None, ""
    if not isinstance(answer, dict):
        return None, ""
    code, text = answer.get("code"), answer.get("msg")
    return code if code.__class__ is int else None, text[:300] if isinstance(text, str) else ""


def server_time(body: bytes) -> int:
    now_ms = wire.time_ms(_object(body, "time").get("serverTime"))
    return now_ms if now_ms is not None else _refuse("time", "serverTime")


def weight_limit(body: bytes) -> int | None:
    """Return the request weight allowed per minute as `exchangeInfo` states it, None when it does not."""
    for row in _list(_object(body, "exchangeInfo").get("rateLimits"), "exchangeInfo"):
        if not isinstance(row, dict) or row.get("rateLimitType") != "REQUEST_WEIGHT":
            continue
        count, limit = wire.whole(row.get("intervalNum")), wire.whole(row.get("limit"))
        if row.get("interval") == "MINUTE" and count and limit:
            return limit // count
    return None


def listings(market: Market, body: bytes) -> list[Listing]:
    """Translate `exchangeInfo`; an instrument that cannot be read is left out, none at all is an error."""
    rows = _list(_object(body, "exchangeInfo").get("symbols"), "exchangeInfo")
    found = [listing for row in rows if (listing := _listing(market, row)) is not None]
    return found if found or not rows else _refuse("exchangeInfo", "symbols")


def _listing(market: Market, row: object) -> Listing | None:
    if not isinstance(row, dict) or not wire.is_symbol(row.get("symbol")):
        return None
    base, quote, status = row.get("baseAsset"), row.get("quoteAsset"), row.get("status")
    if not (isinstance(base, str) and isinstance(quote, str) and isinstance(status, str)):
        return None
    tags, contract = row.get("underlyingSubType"), row.get("contractType")
    return Listing(
        market,
        row["symbol"],
        base,
        quote,
        status,
        contract if isinstance(contract, str) else None,
        tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        wire.time_ms(row.get("onboardDate")),
    )


def klines(market: Market, symbol: str, body: bytes, *, interval_ms: int = _MINUTE_MS) -> list[Bar]:
    """Translate kline rows, ascending and each open time once (the last one sent wins).

    One unreadable row refuses the whole body: nothing of a broken answer may be stored.
    """
    bars: dict[int, Bar] = {}
    for row in _list(_decoded(body, "klines"), "klines"):
        if not isinstance(row, list) or len(row) < 11:
            _refuse("klines", "a row is not a kline")
        open_ms, close_ms = wire.time_ms(row[0]), wire.time_ms(row[6])
        if open_ms is None or close_ms is None or open_ms % interval_ms or close_ms != open_ms + interval_ms - 1:
            _refuse("klines", "time of a row")
        bar = messages.bar_of(
            market, symbol, open_ms, close_ms, row[1], row[2], row[3], row[4], row[5], row[7], row[8], row[9]
        )
        if isinstance(bar, str):
            _refuse("klines", f"{bar} of the bar {open_ms}")
        bars[open_ms] = bar
    return [bars[open_ms] for open_ms in sorted(bars)]


def depth(market: Market, symbol: str, body: bytes, recv_ms: int) -> OrderBook:
    """Translate a depth body; a side may be empty, levels that cannot be read are counted in the book."""
    book = messages.order_book(market, symbol, _object(body, "depth"), recv_ms)
    return book if not isinstance(book, str) else _refuse("depth", book)


def agg_trades(market: Market, symbol: str, body: bytes, recv_ms: int) -> list[Trade]:
    return _trades(market, symbol, body, recv_ms, TradeKind.AGG_TRADE, ("a", "p", "q", "T", "m"))


def trades(market: Market, symbol: str, body: bytes, recv_ms: int) -> list[Trade]:
    return _trades(market, symbol, body, recv_ms, TradeKind.TRADE, ("id", "price", "qty", "time", "isBuyerMaker"))


def _trades(
    market: Market, symbol: str, body: bytes, recv_ms: int, kind: TradeKind, names: tuple[str, str, str, str, str]
) -> list[Trade]:
    """Translate trades, ascending by id. A row with an id and a poisoned value is left out: refusing the whole
    page would leave a hole around it open for ever."""
    id_name, price_name, quantity_name, time_name, maker_name = names
    found: dict[int, Trade] = {}
    for row in _list(_decoded(body, kind), kind):
        id_ = wire.whole(row.get(id_name)) if isinstance(row, dict) else None
        if id_ is None or not row.keys() >= set(names):
            _refuse(kind, "a row is not a trade")
        price, quantity = wire.positive(row[price_name]), wire.positive(row[quantity_name])
        event_ms, maker = wire.time_ms(row[time_name]), row[maker_name]
        if price is None or quantity is None or event_ms is None or not isinstance(maker, bool):
            continue
        side = Side.SELL if maker else Side.BUY
        found[id_] = Trade(market, symbol, kind, id_, price, quantity, side, event_ms, recv_ms)
    return [found[id_] for id_ in sorted(found)]


def open_interest(body: bytes) -> OpenInterest:
    row = _object(body, "openInterest")
    contracts, event_ms = wire.amount(row.get("openInterest")), wire.time_ms(row.get("time"))
    if contracts is None or event_ms is None or not wire.is_symbol(row.get("symbol")):
        _refuse("openInterest", "a value")
    return OpenInterest(row["symbol"], contracts, event_ms)


def open_interest_history(body: bytes) -> list[OpenInterest]:
    found: dict[int, OpenInterest] = {}
    for row in _list(_decoded(body, "openInterestHist"), "openInterestHist"):
        contracts = wire.amount(row.get("sumOpenInterest")) if isinstance(row, dict) else None
        event_ms = wire.time_ms(row.get("timestamp")) if isinstance(row, dict) else None
        if contracts is None or event_ms is None or not wire.is_symbol(row.get("symbol")):
            _refuse("openInterestHist", "a value")
        found[event_ms] = OpenInterest(row["symbol"], contracts, event_ms)
    return [found[event_ms] for event_ms in sorted(found)]


def funding(body: bytes) -> dict[str, Funding]:
    """Translate `premiumIndex`, one object or a list; contracts without funding (an empty rate) are left out."""
    answer = _decoded(body, "premiumIndex")
    rows = [answer] if isinstance(answer, dict) else _list(answer, "premiumIndex")
    found: dict[str, Funding] = {}
    for row in rows:
        if not isinstance(row, dict) or not wire.is_symbol(row.get("symbol")) or "lastFundingRate" not in row:
            _refuse("premiumIndex", "a row is not a premium index")
        rate, event_ms = wire.number(row["lastFundingRate"]), wire.time_ms(row.get("time"))
        if rate is None or event_ms is None or wire.is_coin_margined(row["symbol"]):
            continue
        found[row["symbol"]] = Funding(
            row["symbol"], rate, event_ms, wire.time_ms(row.get("nextFundingTime")), wire.positive(row.get("markPrice"))
        )
    return found


def funding_hours(body: bytes) -> dict[str, float]:
    """Translate `fundingInfo`: the interval of each symbol with settings of its own; a row without one is left out."""
    found: dict[str, float] = {}
    for row in _list(_decoded(body, "fundingInfo"), "fundingInfo"):
        if not isinstance(row, dict) or not wire.is_symbol(row.get("symbol")):
            _refuse("fundingInfo", "a row names no symbol")
        hours = wire.positive(row.get("fundingIntervalHours"))
        if hours is not None and hours <= 24:
            found[row["symbol"]] = hours
    return found


# --- shape ----------------------------------------------------------------------------------------------------


def _decoded(body: bytes, what: str) -> Any:
    if len(body) > _MAX_BODY:
        _refuse(what, "too large")
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _refuse(what, "not JSON, or cut short")


def _object(body: bytes, what: str) -> dict[str, Any]:
    answer = _decoded(body, what)
    return answer if isinstance(answer, dict) else _refuse(what, "not an object")


def _list(answer: object, what: str) -> list[Any]:
    return answer if isinstance(answer, list) else _refuse(what, "not a list")


def _refuse(what: str, why: str) -> NoReturn:
    raise BadResponse(f"the exchange's answer to {what} is not usable: {why}", status=200)
