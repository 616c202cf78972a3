"""What a stream says between two moments, made from a MarketSource; the messages as the exchange writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from local.exchange.rest_bodies import INTERVAL_MINUTES, fetch_candles
from local.exchange.source import Candle, Forced, Ladder, Mark, MarketSource, Print
from shared.clock import MINUTE_MS
from shared.market.model import Market

Message = tuple[int, bytes]  # when it is due, the inner message

MOST_AT_ONCE = 5000  # prints fetched in one step
_KLINE_MS = 2000
_BOOK_MS = 1000
_DIFF_LEVELS = 20
_MARKET_WORDS = ("aggTrade", "kline", "continuousKline", "markPrice", "miniTicker", "ticker", "forceOrder",
                 "compositeIndex", "contractInfo", "assetIndex", "tradingSession")  # fmt: skip
_PUBLIC_WORDS = ("bookTicker", "depth", "rpiDepth")


def category(stream: str) -> str | None:
    """Return the futures path (`market` or `public`) that a stream belongs to; None for `trade`, which both carry.

    An unknown word belongs to `unknown`, which no path serves.
    """
    word = re.match(r"(?:!|[^@!]*@)([A-Za-z]+)", stream)
    name = word[1] if word else ""
    if name == "trade":
        return None
    if name in _MARKET_WORDS:
        return "market"
    return "public" if name in _PUBLIC_WORDS else "unknown"


def messages(
    source: MarketSource, market: Market, stream: str, scale: int, after_ms: int, now_ms: int
) -> list[Message]:
    """Return what a stream sends in (after_ms, now_ms]; nothing for a stream that does not exist.

    `scale` is 1000 where the client asked for microseconds. Books and running candles are sent in their newest state
    only, however long the step was; trades, closed candles and liquidations are all sent.
    """
    if stream.startswith("!"):
        return list(_all_market(source, market, stream, after_ms, now_ms))
    lower, _, kind = stream.partition("@")
    symbol = lower.upper()
    if kind in ("trade", "aggTrade"):
        prints = source.prints(
            market,
            symbol,
            aggregate=kind == "aggTrade",
            start_ms=after_ms + 1,
            end_ms=now_ms,
            limit=MOST_AT_ONCE,
            now_ms=now_ms,
        )
        return [(p.time_ms, trade_message(market, symbol, kind, p, scale)) for p in prints]
    if kind.startswith("kline_"):
        return list(_klines(source, market, symbol, kind.removeprefix("kline_"), scale, after_ms, now_ms))
    if kind.startswith("depth") or kind == "bookTicker":
        return list(_book(source, market, symbol, kind, after_ms, now_ms))
    if market is Market.USDM and kind in ("markPrice", "markPrice@1s"):
        every = 1000 if kind.endswith("@1s") else 3000
        at = now_ms // every * every
        mark = source.mark(symbol, at) if at > after_ms else None
        return [(at, msgspec.json.encode(_mark(symbol, mark, at)))] if mark is not None else []
    if market is Market.USDM and kind == "forceOrder":
        return list(_forced(source, after_ms, now_ms, symbol))
    return []


def trade_message(market: Market, symbol: str, kind: str, p: Print, scale: int = 1) -> bytes:
    sent = (p.time_ms + 1) * scale
    body: dict[str, object] = {"e": kind, "E": sent, "s": symbol}
    if kind == "trade":
        body |= {"t": p.id, "p": p.price, "q": p.quantity, "T": p.time_ms * scale, "m": p.buyer_is_maker}
    else:
        body |= {"a": p.id, "p": p.price, "q": p.quantity, "f": p.first_id, "l": p.last_id, "T": p.time_ms * scale,
                 "m": p.buyer_is_maker}  # fmt: skip
    if market is Market.SPOT:
        body["M"] = True
    elif kind == "aggTrade":
        body |= {"nq": p.quantity, "st": 1}
    return msgspec.json.encode(body)


def kline_message(symbol: str, interval: str, c: Candle, *, closed: bool, sent_ms: int, scale: int = 1) -> bytes:
    return msgspec.json.encode(
        {
            "e": "kline",
            "E": sent_ms * scale,
            "s": symbol,
            "k": {
                "t": c.open_ms * scale,
                "T": (c.close_ms + 1) * scale - 1,
                "s": symbol,
                "i": interval,
                "f": c.first_id,
                "L": c.last_id,
                "o": c.open,
                "c": c.close,
                "h": c.high,
                "l": c.low,
                "v": c.volume,
                "n": c.trades,
                "x": closed,
                "q": c.quote_volume,
                "V": c.taker_volume,
                "Q": c.taker_quote_volume,
                "B": "0",
            },
        }
    )


def _klines(
    source: MarketSource, market: Market, symbol: str, interval: str, scale: int, after_ms: int, now_ms: int
) -> Iterator[Message]:
    """Every close in the step, then the running candle when a push is due."""
    minutes = INTERVAL_MINUTES.get(interval)
    if minutes is None:
        return
    span = minutes * MINUTE_MS
    first, last = after_ms // span * span, now_ms // span * span
    if last > first:
        for candle in fetch_candles(source, market, symbol, minutes, first, last - 1, (last - first) // span, now_ms):
            due = candle.close_ms + 1
            yield due, kline_message(symbol, interval, candle, closed=True, sent_ms=due, scale=scale)
    at = now_ms // _KLINE_MS * _KLINE_MS
    if at > after_ms and at > last:
        for candle in fetch_candles(source, market, symbol, minutes, None, None, 1, at):
            if candle.open_ms == last:
                yield at, kline_message(symbol, interval, candle, closed=False, sent_ms=at, scale=scale)


def _book(
    source: MarketSource, market: Market, symbol: str, kind: str, after_ms: int, now_ms: int
) -> Iterator[Message]:
    at = now_ms // _BOOK_MS * _BOOK_MS
    if at <= after_ms:
        return
    word = kind.partition("@")[0]
    digits = word.removeprefix("depth")
    levels = int(digits) if digits in ("5", "10", "20") else 1 if word == "bookTicker" else _DIFF_LEVELS
    if word not in ("bookTicker", "depth", "depth5", "depth10", "depth20"):
        return
    ladder = source.ladder(market, symbol, levels=max(levels, 5), now_ms=at)
    if ladder is None or not ladder.bids or not ladder.asks:
        return
    if word == "bookTicker":
        (bid, bid_size), (ask, ask_size) = ladder.bids[0], ladder.asks[0]
        body: dict[str, object] = {"u": ladder.update_id, "s": symbol, "b": bid, "B": bid_size, "a": ask, "A": ask_size}
        if market is Market.USDM:
            body = {"e": "bookTicker", "E": at, "T": at, "st": 1} | body
    elif digits and market is Market.SPOT:
        body = {"lastUpdateId": ladder.update_id, "bids": ladder.bids[:levels], "asks": ladder.asks[:levels]}
    else:
        before = source.ladder(market, symbol, levels=_DIFF_LEVELS, now_ms=after_ms)
        if before is None:
            return
        if digits:
            bids, asks = ladder.bids[:levels], ladder.asks[:levels]
        else:
            bids, asks = _changes(before.bids, ladder.bids), _changes(before.asks, ladder.asks)
        body = _depth_update(market, symbol, before, ladder, bids, asks, at)
    yield at, msgspec.json.encode(body)


Levels = tuple[tuple[str, str], ...]


def _changes(before: Levels, now: Levels) -> Levels:
    """Return the levels that differ; one that is gone has quantity 0. Only the best 20 levels are followed."""
    old, new = dict(before), dict(now)
    gone = tuple((price, "0.00000000") for price in old if price not in new)
    return tuple((p, q) for p, q in now if old.get(p) != q) + gone


def _depth_update(
    market: Market, symbol: str, before: Ladder, ladder: Ladder, bids: Levels, asks: Levels, at: int
) -> dict[str, object]:
    body: dict[str, object] = {"e": "depthUpdate", "E": at}
    if market is Market.USDM:
        body |= {"T": at, "st": 1}
    body |= {"s": symbol, "U": before.update_id + 1, "u": ladder.update_id}
    if market is Market.USDM:
        body["pu"] = before.update_id
    return body | {"b": bids, "a": asks}


def _all_market(source: MarketSource, market: Market, stream: str, after_ms: int, now_ms: int) -> Iterator[Message]:
    if market is not Market.USDM:
        return
    if stream == "!forceOrder@arr":
        yield from _forced(source, after_ms, now_ms, None)
    elif stream in ("!markPrice@arr", "!markPrice@arr@1s"):
        every = 1000 if stream.endswith("@1s") else 3000
        at = now_ms // every * every
        if at > after_ms:
            marks = ((i.symbol, source.mark(i.symbol, at)) for i in source.instruments(market))
            yield at, msgspec.json.encode([_mark(symbol, mark, at) for symbol, mark in marks if mark is not None])


def _mark(symbol: str, mark: Mark, at: int) -> dict[str, object]:
    return {
        "e": "markPriceUpdate",
        "E": at,
        "s": symbol,
        "p": mark.price,
        "ap": mark.price,
        "i": mark.index,
        "P": mark.index,
        "r": mark.rate,
        "T": mark.next_ms,
        "st": 1,
    }


def _forced(source: MarketSource, after_ms: int, now_ms: int, symbol: str | None) -> Iterator[Message]:
    """At most one order per symbol and second: the first of the second stands for it."""
    seen: set[tuple[str, int]] = set()
    for f in source.liquidations(after_ms=after_ms, upto_ms=now_ms):
        second = (f.symbol, f.time_ms // 1000)
        if symbol in (None, f.symbol) and second not in seen:
            seen.add(second)
            yield f.time_ms, _force_message(f)


def _force_message(f: Forced) -> bytes:
    order = {
        "s": f.symbol,
        "S": f.side,
        "o": "LIMIT",
        "f": "IOC",
        "q": f.quantity,
        "p": f.price,
        "ap": f.price,
        "X": "FILLED",
        "l": f.quantity,
        "z": f.quantity,
        "T": f.time_ms,
    }
    return msgspec.json.encode({"e": "forceOrder", "E": f.time_ms + 1, "o": order, "ps": f.symbol, "st": 1})
