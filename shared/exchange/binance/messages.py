"""Translate single messages that need no memory: klines, mark prices, liquidations, books.

Each function takes the decoded fields and returns the event, or the word for what was wrong with them.
"""

from __future__ import annotations

from typing import Any

from shared.exchange.binance import wire
from shared.exchange.binance.events import BarUpdate, DepthDiff, Liquidation, MarkPrice
from shared.market.model import Bar, Market, OrderBook, Side

_MINUTE_MS = 60_000


def bar_update(market: Market, payload: dict[str, Any]) -> BarUpdate | str:
    """Translate a `kline` event of the 1-minute interval."""
    k = payload.get("k")
    if not isinstance(k, dict):
        return "field missing"
    if not {"t", "T", "o", "h", "l", "c", "v", "x"} <= k.keys():
        return "field missing"
    open_ms, close_ms = wire.time_ms(k["t"]), wire.time_ms(k["T"])
    if open_ms is None or close_ms is None or open_ms % _MINUTE_MS or close_ms != open_ms + _MINUTE_MS - 1:
        return "time"
    bar = bar_of(market, payload["s"], open_ms, close_ms, k["o"], k["h"], k["l"], k["c"], k["v"], k.get("q"),
                 k.get("n"), k.get("V"))  # fmt: skip
    if isinstance(bar, str):
        return bar
    if not isinstance(k["x"], bool):
        return "closed flag"
    return BarUpdate(bar, k["x"])


def bar_of(
    market: Market,
    symbol: str,
    open_ms: int,
    close_ms: int,
    open_: object,
    high: object,
    low: object,
    close: object,
    volume: object,
    quote_volume: object,
    trades: object,
    taker_buy_volume: object,
) -> Bar | str:
    """Judge the values of one bar; an optional one that is absent stays None, a wrong one refuses the bar."""
    prices = [wire.positive(value) for value in (open_, high, low, close)]
    first, top, bottom, last = prices
    if first is None or top is None or bottom is None or last is None:
        return "price"
    if not bottom <= min(first, last) <= max(first, last) <= top:
        return "price"
    base = wire.amount(volume)
    quote = wire.amount(quote_volume)
    taker = wire.amount(taker_buy_volume)
    count = wire.whole(trades)
    if base is None:
        return "volume"
    for given, read in ((quote_volume, quote), (taker_buy_volume, taker), (trades, count)):
        if given is not None and read is None:
            return "volume"
    return Bar(market, symbol, open_ms, close_ms, first, top, bottom, last, base, quote, count, taker)


def mark_price(payload: dict[str, Any]) -> MarkPrice | str:
    """Translate a `markPriceUpdate`; contracts without funding carry an empty rate or a next time of 0."""
    price, event_ms = wire.positive(payload.get("p")), wire.time_ms(payload.get("E"))
    if price is None:
        return "price"
    if event_ms is None:
        return "time"
    rate = wire.number(payload.get("r"))
    return MarkPrice(payload["s"], price, rate, wire.time_ms(payload.get("T")), event_ms)


def liquidation(order: dict[str, Any], event_ms: object) -> Liquidation | str:
    """Translate the order inside a `forceOrder`: what was filled, at its average price."""
    price, quantity = wire.positive(order.get("ap")), wire.positive(order.get("z"))
    when = wire.time_ms(order.get("T")) or wire.time_ms(event_ms)
    side = order.get("S")
    if price is None:
        return "price"
    if quantity is None:
        return "quantity"
    if when is None:
        return "time"
    if side not in ("BUY", "SELL"):
        return "side"
    return Liquidation(order["s"], Side(side), price, quantity, price * quantity, when)


def depth_diff(payload: dict[str, Any]) -> DepthDiff | str:
    """Translate a `depthUpdate`; one unreadable level refuses it, for the book would silently be wrong."""
    first, last, event_ms = wire.whole(payload.get("U")), wire.whole(payload.get("u")), wire.time_ms(payload.get("E"))
    if first is None or last is None or last < first:
        return "id"
    if event_ms is None:
        return "time"
    previous = payload.get("pu")
    if previous is not None and wire.whole(previous) is None:
        return "id"
    bids, bad_bids = wire.levels(payload.get("b"), zero=True)
    asks, bad_asks = wire.levels(payload.get("a"), zero=True)
    if bad_bids or bad_asks:
        return "level"
    return DepthDiff(payload["s"], first, last, previous, bids, asks, event_ms)


def order_book(market: Market, symbol: str, payload: dict[str, Any], recv_ms: int) -> OrderBook | str:
    """Translate a whole book, of a partial-depth stream or a REST body; unreadable levels are counted, not kept."""
    bid_rows = payload.get("bids", payload.get("b"))
    ask_rows = payload.get("asks", payload.get("a"))
    update_id = wire.whole(payload.get("lastUpdateId", payload.get("u")))
    if update_id is None:
        return "id"
    if not isinstance(bid_rows, list) or not isinstance(ask_rows, list):
        return "level"
    bids, bad_bids = wire.levels(bid_rows, zero=False)
    asks, bad_asks = wire.levels(ask_rows, zero=False)
    event_ms = wire.time_ms(payload.get("E"))
    return OrderBook(market, symbol, update_id, bids, asks, event_ms, recv_ms, bad_bids + bad_asks)
