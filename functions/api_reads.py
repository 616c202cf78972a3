"""What each read answers: one bounded query of the table, and the published shape."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from functions.api_query import (
    Filters,
    decode_cursor,
    encode_cursor,
    named_symbol,
    read_filters,
    read_span,
    refuse_unknown,
    whole,
)
from functions.api_route import NotFound, Request
from shared.clock import iso_utc
from shared.detection.reading import Detector
from shared.errors import UsageError
from shared.jobs import charts, overview
from shared.jobs.common import features_of, readings_of
from shared.jobs.explain import explain
from shared.jobs.health import health
from shared.jobs.order_book import KIND as BOOKS
from shared.jobs.universe import universe_at
from shared.jobs.when import parse_when
from shared.market.model import Bar, Market
from shared.market.universe import Universe
from shared.storage.alerts import AlertRepository
from shared.storage.signals import SignalRepository
from shared.storage.windows import WindowRepository

AWAITING = {"status": "Awaiting first signal..."}
BARS_PAGE = 721  # twelve hours and the running minute: what a chart asks for comes in one page
MINUTES_PAGE = 120
WINDOWS_PAGE = 500
_WORK = 1_000  # rows that one request looks at; a filter that keeps little answers less and a cursor

SPAN = ("since", "until", "minutes", "limit", "cursor")


def get_signal(request: Request) -> dict[str, Any]:
    """The latest trade spike, of one symbol or of all."""
    refuse_unknown(request.query, ("symbol",))
    symbol = request.query.get("symbol")
    name = None if symbol is None else named_symbol(symbol)
    stored = SignalRepository(request.deps.table).latest(Detector.TRADE_SPIKE, name)
    if stored is None:
        return AWAITING
    signal = stored.signal
    return {
        **signal.values,
        "market": signal.market.value,
        "event_time": iso_utc(signal.event_ms),
        "thresholds": dict(signal.thresholds),
        "alert_id": stored.alert_id,
        "alerted": stored.held_reason is None,
        "held_reason": stored.held_reason,
    }


def signals(request: Request) -> dict[str, Any]:
    """Signals, newest first, whether or not they became an alert."""
    wanted = read_filters(request.query, request.now_ms)
    page, cursor = SignalRepository(request.deps.table).published(**_asked(wanted), work=_WORK)
    return {"signals": page, "cursor": encode_cursor(cursor)}


def alerts(request: Request) -> dict[str, Any]:
    """Alerts, newest first."""
    wanted = read_filters(request.query, request.now_ms)
    page, cursor = AlertRepository(request.deps.table).published(**_asked(wanted), work=_WORK)
    return {"alerts": page, "cursor": encode_cursor(cursor)}


def alert(request: Request) -> dict[str, Any]:
    """One alert, how its delivery on each channel ended, what the market did after it, what people thought of it."""
    refuse_unknown(request.query, ())
    found = AlertRepository(request.deps.table).get(request.names["alert_id"])
    if found is None:
        raise NotFound("there is no alert of this id")
    return explain(request.deps, found)


def bars(request: Request) -> dict[str, Any]:
    """Closed 1-minute bars of one symbol, ascending, in columns."""
    return _bars(request, _symbol(request), _market(request), ("market", *SPAN))


def first_bars(request: Request) -> dict[str, Any]:
    """The bars of the first watched symbol: what a page shows before it knows what is watched."""
    settings = request.deps.settings
    spot = settings.universe.spot_symbols
    market = Market.SPOT if spot else Market.USDM
    return _bars(request, spot[0] if spot else settings.benchmark_symbol, market, SPAN)


def _bars(request: Request, symbol: str, market: Market, known: tuple[str, ...]) -> dict[str, Any]:
    refuse_unknown(request.query, known)
    span = read_span(request.query, request.now_ms, page=BARS_PAGE)
    found: list[Bar] = charts.bars(request.deps.table, market, symbol, span.start_ms, span.page_end_ms)
    return {
        "symbol": symbol,
        "market": market.value,
        "open_time": [iso_utc(bar.open_ms) for bar in found],
        "open": [bar.open for bar in found],
        "high": [bar.high for bar in found],
        "low": [bar.low for bar in found],
        "close": [bar.close for bar in found],
        "volume": [bar.volume for bar in found],
        "quote_volume": [bar.quote_volume for bar in found],
        "trades": [bar.trades for bar in found],
        "taker_buy_volume": [bar.taker_buy_volume for bar in found],
        "cursor": span.cursor,
    }


def features(request: Request) -> dict[str, Any]:
    """The sector features: the newest minute of every symbol, or the minutes of one, ascending."""
    settings, stored = request.deps.settings, features_of(request.deps)
    universe = universe_at(request.deps, request.now_ms)
    windows = settings.sector.windows
    answer: dict[str, Any] = {
        "time": None,
        "needed": {"bars": windows.min_zscore_bars, "full": windows.zscore_lookback_bars},
        "features": [],
        "cursor": None,
    }
    if "symbol" not in request.query:
        refuse_unknown(request.query, ("symbol",))
        newest = stored.latest()
        if newest is not None:
            answer["time"] = iso_utc(newest[0])
            answer["features"] = [_feature(row, universe) for _, row in sorted(newest[1].items())]
        return answer
    refuse_unknown(request.query, ("symbol", *SPAN))
    symbol = named_symbol(request.query["symbol"])
    span = read_span(request.query, request.now_ms, page=MINUTES_PAGE)
    rows = stored.of_symbol(symbol, span.start_ms, span.page_end_ms)
    if rows:
        answer["time"] = rows[-1]["open_time"]
    answer["features"] = [_feature(row, universe) for row in rows]
    answer["cursor"] = span.cursor
    return answer


def windows(request: Request) -> dict[str, Any]:
    """The 20-second windows of one symbol with score and verdict, newest first."""
    refuse_unknown(request.query, ("since", "until", "limit", "cursor"))
    query, now_ms, symbol = request.query, request.now_ms, _symbol(request)
    since_ms = parse_when(query["since"], now_ms) if "since" in query else 0
    until_ms = parse_when(query["until"], now_ms) if "until" in query else now_ms + 60_000
    if since_ms > until_ms:
        raise UsageError("since must not lie after until")
    cursor = decode_cursor(query.get("cursor"))
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 13):
            raise UsageError("the cursor is not one that this API gave")
        until_ms = min(until_ms, int(cursor))
    limit = whole(query.get("limit"), "limit", 100, WINDOWS_PAGE)
    rows = WindowRepository(request.deps.table).range(
        Market.SPOT.value, symbol, since_ms, until_ms, limit=limit, reverse=True
    )
    return {
        "symbol": symbol,
        "windows": [_window(row) for row in rows],
        "cursor": encode_cursor(str(rows[-1]["start_ms"])) if len(rows) == limit else None,
    }


def scores(request: Request) -> dict[str, Any]:
    """The Isolation Forest's newest scores of one symbol: histogram, threshold, rate."""
    refuse_unknown(request.query, ("until",))
    until = request.query.get("until")
    if until is None:
        return overview.newest_scores(request.deps, _symbol(request), request.now_ms)
    return overview.forest_scores(request.deps, _symbol(request), parse_when(until, request.now_ms))


def order_book(request: Request) -> dict[str, Any]:
    """The order-book imbalance of one symbol, sample by sample, ascending."""
    refuse_unknown(request.query, SPAN)
    symbol = _symbol(request)
    span = read_span(request.query, request.now_ms, page=MINUTES_PAGE)
    found = readings_of(request.deps).range(BOOKS, span.start_ms, span.page_end_ms)
    return {"symbol": symbol, "readings": [row[symbol] for _, row in found if symbol in row], "cursor": span.cursor}


def state(request: Request) -> dict[str, Any]:
    """Each component's sign of life, the feed, each detector, the newest stored minutes, the exchange's bans."""
    refuse_unknown(request.query, ())
    return health(request.deps)


def summary(request: Request) -> dict[str, Any]:
    """Alerts of the last 24 hours by hour and detector."""
    refuse_unknown(request.query, ())
    return overview.alert_hours(request.deps, request.now_ms)


def cooldowns(request: Request) -> dict[str, Any]:
    """What keeps alerts back now, until when, and how many it has held."""
    refuse_unknown(request.query, ())
    found = overview.cooldowns(request.deps, request.now_ms)
    return {"cooldowns": [{"id": encode_cursor(row.pop("key")), **row} for row in found]}


def quality(request: Request) -> dict[str, Any]:
    """The last evaluation, or else how the alerts of the last day turned out."""
    refuse_unknown(request.query, ())
    return overview.quality(request.deps, request.now_ms)


def universe(request: Request) -> dict[str, Any]:
    """What is watched, and the thresholds that a chart draws."""
    refuse_unknown(request.query, ())
    settings = request.deps.settings
    thresholds = settings.sector.thresholds
    watched = universe_at(request.deps, request.now_ms)
    return {
        "spot": list(settings.universe.spot_symbols),
        "futures": list(watched.symbols()) if settings.sector.enabled else [],
        "benchmark": settings.benchmark_symbol,
        "sectors": {name: list(members) for name, members in watched.sectors.items()},
        "thresholds": {
            "volume_ratio": settings.volume_spike.threshold,
            "volume_bars": float(settings.volume_spike.ma_bars),
            "z_excess_return": thresholds.excess_return_z_initiator,
            "z_volume": thresholds.volume_z_initiator,
        },
        "demo": settings.exchange.spot_rest_url.startswith("http://127.0.0.1"),
        "changes": request.changes,
    }


def _asked(wanted: Filters) -> dict[str, Any]:
    return {
        "symbol": wanted.symbol,
        "detector": wanted.detector,
        "direction": wanted.direction,
        "since_ms": wanted.since_ms,
        "until_ms": wanted.until_ms,
        "limit": wanted.limit,
        "cursor": wanted.cursor,
    }


def _symbol(request: Request) -> str:
    # A function URL leaves the path percent-encoded, an HTTP API decodes it; no symbol holds a percent sign.
    return named_symbol(unquote(request.names["symbol"]))


def _market(request: Request) -> Market:
    text = request.query.get("market", Market.SPOT.value).strip().lower()
    try:
        return Market(text)
    except ValueError:
        raise UsageError(f"market must be one of {', '.join(Market)}") from None


def _feature(row: dict[str, Any], universe: Universe) -> dict[str, Any]:
    return {
        **{name: value for name, value in row.items() if name != "open_ms"},
        "sector": universe.sector_of(row["symbol"]),
    }


_TAKEN = ("trade_count", "volume", "avg_trade_size", "return", "volatility", "complete", "status", "score", "threshold")


def _window(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "start_time": iso_utc(row["start_ms"]),
        "end_time": iso_utc(row["end_ms"]),
        **{name: row.get(name) for name in _TAKEN},
        "prediction": row.get("prediction"),
    }
