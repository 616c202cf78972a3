"""Where each question goes: REST paths, and the WebSocket path that every futures stream belongs to.

A futures stream asked for on the wrong path is acknowledged and then silent for ever, so a stream that is not in
the table is refused here, before anything is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, urlsplit

import msgspec

from shared.errors import ConfigurationError
from shared.market.model import Market

MAX_STREAMS = 1024
"""Streams that one connection may carry."""
MAX_URL_LENGTH = 8000
"""Longest address we ask for; servers and proxies refuse longer request lines."""
SUBSCRIBE_CHUNK = 100
"""Streams named in one SUBSCRIBE command, so that a command stays well below 4 KB."""
_STREAM_SAFE = "@!_:"  # part of stream names and allowed in a query as they are
MARKET_DATA_ONLY_HOSTS = frozenset({"data-api.binance.vision"})


class Endpoint(StrEnum):
    TIME = "time"
    EXCHANGE_INFO = "exchangeInfo"
    KLINES = "klines"
    DEPTH = "depth"
    TRADES = "trades"
    HISTORICAL_TRADES = "historicalTrades"
    AGG_TRADES = "aggTrades"
    PREMIUM_INDEX = "premiumIndex"
    OPEN_INTEREST = "openInterest"
    OPEN_INTEREST_HISTORY = "openInterestHist"
    FUNDING_INFO = "fundingInfo"


_PATHS: Mapping[tuple[Market, Endpoint], str] = {
    **{
        (Market.SPOT, endpoint): f"/api/v3/{endpoint}"
        for endpoint in (
            Endpoint.TIME,
            Endpoint.EXCHANGE_INFO,
            Endpoint.KLINES,
            Endpoint.DEPTH,
            Endpoint.TRADES,
            Endpoint.HISTORICAL_TRADES,
            Endpoint.AGG_TRADES,
        )
    },
    **{(Market.USDM, endpoint): f"/fapi/v1/{endpoint}" for endpoint in Endpoint},
    (Market.USDM, Endpoint.OPEN_INTEREST_HISTORY): "/futures/data/openInterestHist",
}

KLINES_PAGE: Mapping[Market, int] = {Market.SPOT: 1000, Market.USDM: 499}
"""Cheapest page of klines per bar: spot weighs 2 whatever the limit, futures 2 below 500."""
KLINES_MAX: Mapping[Market, int] = {Market.SPOT: 1000, Market.USDM: 1500}
TRADES_MAX = 1000
FUTURES_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
SPOT_DEPTH_MAX = 5000


def path_of(market: Market, endpoint: Endpoint) -> str:
    """Return the path of a REST question.

    Raises:
        ConfigurationError: this market does not answer it.
    """
    try:
        return _PATHS[market, endpoint]
    except KeyError:
        raise ConfigurationError(f"the {market} market has no {endpoint}; it exists only on usdm") from None


def depth_limit(market: Market, levels: int) -> int:
    """Return the smallest limit that the exchange accepts and that gives `levels` a side.

    Raises:
        ConfigurationError: more levels than the exchange sends.
    """
    most = SPOT_DEPTH_MAX if market is Market.SPOT else FUTURES_DEPTH_LIMITS[-1]
    if not 1 <= levels <= most:
        raise ConfigurationError(f"an order book of the {market} market has 1..{most} levels, {levels} were asked for")
    if market is Market.SPOT:
        return levels
    return next(limit for limit in FUTURES_DEPTH_LIMITS if limit >= levels)


def host_of(url: str) -> str:
    """Return host[:port] of an address, lower-cased: what limits and bans are counted by."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return f"{host}:{parts.port}" if parts.port else host


# --- streams --------------------------------------------------------------------------------------------------
_INTERVALS = "1s|1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|1M"
_FUTURES_SUFFIXES: Mapping[str, str] = {
    "public": r"bookTicker|depth(5|10|20)?(@(100|250|500)ms)?|rpiDepth(@500ms)?",
    "market": rf"aggTrade|kline_({_INTERVALS})|markPrice(@1s)?|miniTicker|ticker|forceOrder"
    rf"|compositeIndex|continuousKline_({_INTERVALS})",
}
_FUTURES_WHOLE: Mapping[str, str] = {
    "public": r"!bookTicker",
    "market": r"!markPrice@arr(@1s)?|!miniTicker@arr|!ticker@arr|!forceOrder@arr|!contractInfo|!assetIndex@arr"
    r"|tradingSession",
}
_SPOT_SUFFIX = re.compile(
    rf"trade|aggTrade|blockTrade|avgPrice|bookTicker|miniTicker|ticker(_(1h|4h|1d))?"
    rf"|kline_({_INTERVALS})(@\+08:00)?|depth(5|10|20)?(@(100|1000)ms)?"
)
_SPOT_WHOLE = re.compile(r"!miniTicker@arr|!ticker_(1h|4h|1d)@arr")
_FUTURES = [
    (category, re.compile(_FUTURES_SUFFIXES[category]), re.compile(_FUTURES_WHOLE[category]))
    for category in ("public", "market")
]


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """One connection to open: its address, and every stream it carries in the end.

    `commands` are SUBSCRIBE texts for the streams that the address had no room for: send them after opening, at
    most 5 a second (spot's limit; ping and pong count too). `category` is None on spot.
    """

    url: str
    streams: tuple[str, ...]
    commands: tuple[str, ...] = ()
    category: str | None = None


def stream_name(symbol: str, kind: str) -> str:
    """Return e.g. `btcusdt@aggTrade`; symbols are lower-cased, also those that are not ASCII."""
    return f"{symbol.lower()}@{kind}"


def category_of(market: Market, stream: str) -> str | None:
    """Return the path word of a stream: `public` or `market` on USD-M, None on spot.

    Raises:
        ConfigurationError: the exchange documents no such stream, so it would be silent for ever.
    """
    symbol, at, suffix = stream.partition("@")
    named = bool(at and symbol) and not symbol.startswith("!")
    if stream != stream.strip() or "/" in stream or (named and symbol != symbol.lower()):
        raise ConfigurationError(f"{stream!r} is not a stream name: one lower-case symbol, '@', one kind")
    if market is Market.SPOT:
        if (named and _SPOT_SUFFIX.fullmatch(suffix)) or _SPOT_WHOLE.fullmatch(stream):
            return None
        raise ConfigurationError(f"spot has no stream {stream!r}")
    for category, suffixes, whole in _FUTURES:
        if (named and suffixes.fullmatch(suffix)) or whole.fullmatch(stream):
            return category
    hint = "; USD-M documents no @trade stream, use @aggTrade" if suffix == "trade" else ""
    raise ConfigurationError(f"usdm has no stream {stream!r}{hint}")


def streamable(market: Market, symbols: Iterable[str], kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the symbols that a stream can be named after, and those that none can: a listing may hold any name."""
    good, strange = [], []
    for symbol in symbols:
        try:
            category_of(market, stream_name(symbol, kind))
        except ConfigurationError:
            strange.append(symbol)
        else:
            good.append(symbol)
    return tuple(good), tuple(strange)


def stream_url(base: str, market: Market, streams: Iterable[str]) -> str:
    """Return the address of one combined connection: {base}[/category]/stream?streams=a/b.

    Raises:
        ConfigurationError: an unknown stream, none at all, more than 1024, or streams of two categories.
    """
    names = tuple(streams)
    if not names:
        raise ConfigurationError("a stream connection needs at least one stream")
    if len(names) > MAX_STREAMS:
        raise ConfigurationError(f"one connection carries at most {MAX_STREAMS} streams, {len(names)} were asked for")
    categories = {category_of(market, name) for name in names}
    if len(categories) > 1:
        raise ConfigurationError("one futures connection carries either /public or /market streams, not both")
    category = categories.pop()
    prefix = base.rstrip("/") + (f"/{category}" if category else "")
    return f"{prefix}/stream?streams=" + "/".join(quote(name, safe=_STREAM_SAFE) for name in names)


def plan_connections(base: str, market: Market, streams: Iterable[str]) -> list[ConnectionPlan]:
    """Split streams over as few connections as the limits allow, each stream once, in the order given.

    Raises:
        ConfigurationError: an unknown stream.
    """
    by_category: dict[str | None, list[str]] = {}
    for name in dict.fromkeys(streams):
        by_category.setdefault(category_of(market, name), []).append(name)
    plans: list[ConnectionPlan] = []
    for category, names in by_category.items():
        for start in range(0, len(names), MAX_STREAMS):
            batch = names[start : start + MAX_STREAMS]
            fitting = _fitting(batch, MAX_URL_LENGTH - len(base) - 32)
            url = stream_url(base, market, batch[:fitting])
            plans.append(ConnectionPlan(url, tuple(batch), commands("SUBSCRIBE", batch[fitting:]), category))
    return plans


def _fitting(names: list[str], room: int) -> int:
    """Return how many names, joined by '/', fit into `room` characters of an address; at least one."""
    for count, name in enumerate(names):
        room -= len(quote(name, safe=_STREAM_SAFE)) + 1
        if room < 0:
            return max(1, count)
    return len(names)


def commands(method: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the SUBSCRIBE or UNSUBSCRIBE texts for these streams, to be sent one after the other."""
    chunks = [names[start : start + SUBSCRIBE_CHUNK] for start in range(0, len(names), SUBSCRIBE_CHUNK)]
    return tuple(
        msgspec.json.encode({"method": method, "params": chunk, "id": number}).decode()
        for number, chunk in enumerate(chunks, start=1)
    )
