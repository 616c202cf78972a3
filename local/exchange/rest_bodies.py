"""Answers of the REST endpoints, field by field as the exchange writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from local.exchange.source import Candle, Instrument, Ladder, MarketSource, Print
from shared.clock import MINUTE_MS
from shared.market.model import Market

INTERVAL_MINUTES = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480,
    "12h": 720, "1d": 1440,
}  # fmt: skip


def error(code: int, message: str) -> bytes:
    return msgspec.json.encode({"code": code, "msg": message})


def kline(c: Candle, scale: int) -> list[object]:
    close = (c.close_ms + 1) * scale - 1
    return [
        c.open_ms * scale, c.open, c.high, c.low, c.close, c.volume, close, c.quote_volume, c.trades,
        c.taker_volume, c.taker_quote_volume, "0",
    ]  # fmt: skip


def fetch_candles(
    source: MarketSource,
    market: Market,
    symbol: str,
    minutes: int,
    start_ms: int | None,
    end_ms: int | None,
    limit: int,
    now_ms: int,
) -> list[Candle]:
    """Return candles of any number of minutes, put together from 1-minute ones."""
    if minutes == 1:
        return source.candles(market, symbol, start_ms=start_ms, end_ms=end_ms, limit=limit, now_ms=now_ms)
    span = minutes * MINUTE_MS
    end = now_ms if end_ms is None else min(end_ms, now_ms)
    first = -(-start_ms // span) * span if start_ms is not None else (end // span - limit + 1) * span
    last = min(end // span * span, first + (limit - 1) * span)
    parts = source.candles(
        market, symbol, start_ms=max(0, first), end_ms=last + span - 1, limit=limit * minutes, now_ms=now_ms
    )
    groups: dict[int, list[Candle]] = {}
    for candle in parts:
        groups.setdefault(candle.open_ms // span * span, []).append(candle)
    return [_merged(open_ms, open_ms + span - 1, group) for open_ms, group in groups.items()]


def _merged(open_ms: int, close_ms: int, group: Sequence[Candle]) -> Candle:
    ids = [(c.first_id, c.last_id) for c in group if c.first_id >= 0]
    return Candle(
        open_ms,
        close_ms,
        group[0].open,
        max((c.high for c in group), key=Decimal),
        min((c.low for c in group), key=Decimal),
        group[-1].close,
        _sum(c.volume for c in group),
        _sum(c.quote_volume for c in group),
        sum(c.trades for c in group),
        _sum(c.taker_volume for c in group),
        _sum(c.taker_quote_volume for c in group),
        ids[0][0] if ids else -1,
        ids[-1][1] if ids else -1,
    )


def _sum(values: Iterable[str]) -> str:
    return format(sum(map(Decimal, values), Decimal(0)), "f")


def depth(market: Market, ladder: Ladder | None, limit: int, now_ms: int) -> dict[str, object]:
    """Spot depth carries no time; an unknown book is an empty one."""
    bids = ladder.bids[:limit] if ladder else ()
    asks = ladder.asks[:limit] if ladder else ()
    body: dict[str, object] = {"lastUpdateId": ladder.update_id if ladder else 0}
    if market is Market.USDM:
        at = ladder.event_ms if ladder else now_ms
        body |= {"E": at, "T": at}
    return body | {"bids": bids, "asks": asks}


def trade(market: Market, p: Print, scale: int) -> dict[str, object]:
    row: dict[str, object] = {
        "id": p.id,
        "price": p.price,
        "qty": p.quantity,
        "quoteQty": p.quote,
        "time": p.time_ms * scale,
        "isBuyerMaker": p.buyer_is_maker,
    }
    row |= {"isBestMatch": True} if market is Market.SPOT else {"isRPITrade": False}
    return row


def agg_trade(market: Market, p: Print, scale: int) -> dict[str, object]:
    row: dict[str, object] = {
        "a": p.id,
        "p": p.price,
        "q": p.quantity,
        "f": p.first_id,
        "l": p.last_id,
        "T": p.time_ms * scale,
        "m": p.buyer_is_maker,
    }
    row |= {"M": True} if market is Market.SPOT else {"nq": p.quantity}
    return row


def ticker_day(symbol: str, candles: Sequence[Candle], now: int) -> dict[str, object]:
    day = _merged(candles[0].open_ms, candles[-1].close_ms, candles)
    change = Decimal(day.close) - Decimal(day.open)
    volume = Decimal(day.volume)
    return {
        "symbol": symbol,
        "priceChange": format(change, "f"),
        "priceChangePercent": f"{float(change / Decimal(day.open)) * 100:.3f}",
        "weightedAvgPrice": f"{float(Decimal(day.quote_volume) / volume) if volume else 0:.8f}",
        "openPrice": day.open,
        "highPrice": day.high,
        "lowPrice": day.low,
        "lastPrice": day.close,
        "volume": day.volume,
        "quoteVolume": day.quote_volume,
        "openTime": day.open_ms,
        "closeTime": now,
        "firstId": day.first_id,
        "lastId": day.last_id,
        "count": day.trades,
    }


def exchange_info(market: Market, instruments: Iterable[Instrument], now: int) -> dict[str, object]:
    if market is Market.SPOT:
        limits = [_limit("REQUEST_WEIGHT", "MINUTE", 1, 6000), _limit("RAW_REQUESTS", "MINUTE", 5, 300_000)]
        symbols = [_spot_symbol(i) for i in instruments]
    else:
        limits = [_limit("REQUEST_WEIGHT", "MINUTE", 1, 2400)]
        symbols = [_futures_symbol(i) for i in instruments]
    return {"timezone": "UTC", "serverTime": now, "rateLimits": limits, "exchangeFilters": [], "symbols": symbols}


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _filters(i: Instrument) -> list[dict[str, object]]:
    tick, step = (format(Decimal(1).scaleb(-d), "f") for d in (i.tick_decimals, i.step_decimals))
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "900000000", "stepSize": step},
    ]


def _spot_symbol(i: Instrument) -> dict[str, object]:
    return {
        "symbol": i.symbol,
        "status": "TRADING",
        "baseAsset": i.base,
        "baseAssetPrecision": 8,
        "quoteAsset": i.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "filters": _filters(i),
    }


def _futures_symbol(i: Instrument) -> dict[str, object]:
    return {
        "symbol": i.symbol,
        "pair": i.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": i.onboard_ms,
        "status": "TRADING",
        "baseAsset": i.base,
        "quoteAsset": i.quote,
        "marginAsset": i.quote,
        "pricePrecision": i.tick_decimals,
        "quantityPrecision": i.step_decimals,
        "underlyingType": "COIN",
        "underlyingSubType": list(i.tags),
        "filters": _filters(i),
    }
