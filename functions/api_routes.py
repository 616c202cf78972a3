"""Every route of the API in one table: the handler serves it, `api_openapi` publishes it."""

from __future__ import annotations

from http import HTTPStatus

from functions import api_mutes, api_reads, api_reports
from functions.api_query import MAX_LIMIT, MAX_MINUTES
from functions.api_route import Param, Route
from functions.api_types import (
    Alerts,
    Bars,
    Books,
    Cooldowns,
    Features,
    Health,
    LatestSignal,
    MuteRow,
    Mutes,
    NewMute,
    OneAlert,
    Quality,
    Reports,
    Scores,
    Signals,
    Summary,
    Universe,
    Windows,
)
from shared.detection.reading import Detector, Direction
from shared.market.model import Market

_WHEN = {"type": "string", "maxLength": 40, "examples": ["2026-01-13T14:00:00Z", "24h", "30m"]}
_SYMBOL = {"type": "string", "minLength": 1, "maxLength": 40, "examples": ["BTCUSDT", "btc"]}


def _upto(most: int) -> dict[str, object]:
    return {"type": "integer", "minimum": 1, "maximum": most}


_CURSOR = Param("cursor", "where the last page ended", {"type": "string", "maxLength": 400})
_SINCE = Param("since", "not before: an ISO time, or how long ago", _WHEN)
_UNTIL = Param("until", "before this time (default: now)", _WHEN)
_FILTERS = (
    Param("symbol", "a pair or a coin", _SYMBOL),
    Param("detector", "one rule", {"type": "string", "enum": [one.value for one in Detector]}),
    Param("direction", "one direction", {"type": "string", "enum": [one.value for one in Direction]}),
    _SINCE,
    _UNTIL,
    Param("limit", "rows of a page (default 100)", _upto(MAX_LIMIT)),
    _CURSOR,
)


def _span(page: int) -> tuple[Param, ...]:
    return (
        _SINCE,
        _UNTIL,
        Param("minutes", "without `since`: so many minutes back (default 60)", _upto(MAX_MINUTES)),
        Param("limit", f"minutes of a page (default {page})", _upto(page)),
        _CURSOR,
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/get_signal", "The latest trade spike", api_reads.get_signal, LatestSignal,
          (Param("symbol", "of this symbol alone", _SYMBOL),)),
    Route("GET", "/api/signals", "Signals, newest first", api_reads.signals, Signals, _FILTERS),
    Route("GET", "/api/alerts", "Alerts, newest first", api_reads.alerts, Alerts, _FILTERS),
    Route("GET", "/api/alerts/{alert_id}", "One alert and its deliveries", api_reads.alert, OneAlert, missing=True),
    Route("GET", "/api/bars", "Closed 1-minute bars of the first watched symbol", api_reads.first_bars, Bars,
          _span(api_reads.BARS_PAGE)),
    Route("GET", "/api/bars/{symbol}", "Closed 1-minute bars", api_reads.bars, Bars,
          (Param("market", "default spot", {"type": "string", "enum": [one.value for one in Market]}),
           *_span(api_reads.BARS_PAGE))),
    Route("GET", "/api/features", "Sector features: newest minute, or one symbol's minutes", api_reads.features,
          Features, (Param("symbol", "this symbol's minutes; the other parameters need it", _SYMBOL),
                     *_span(api_reads.MINUTES_PAGE))),
    Route("GET", "/api/windows/{symbol}", "20-second windows, newest first", api_reads.windows, Windows,
          (_SINCE, _UNTIL, Param("limit", "rows of a page (default 100)", _upto(api_reads.WINDOWS_PAGE)), _CURSOR)),
    Route("GET", "/api/windows/{symbol}/scores", "Histogram of the newest scores", api_reads.scores, Scores,
          (_UNTIL,)),
    Route("GET", "/api/order-book/{symbol}", "Order-book imbalance", api_reads.order_book, Books,
          _span(api_reads.MINUTES_PAGE)),
    Route("GET", "/api/health", "Signs of life, feed, detectors, bans", api_reads.state, Health),
    Route("GET", "/api/summary", "Alerts of the last 24 hours by hour", api_reads.summary, Summary),
    Route("GET", "/api/cooldowns", "What keeps alerts back now", api_reads.cooldowns, Cooldowns),
    Route("DELETE", "/api/cooldowns/{cooldown_id}", "Lift a cooldown", api_mutes.release, None,
          status=HTTPStatus.NO_CONTENT, missing=True),
    Route("GET", "/api/quality", "How alerts turned out", api_reads.quality, Quality),
    Route("GET", "/api/reports", "The stored daily reports, newest first", api_reports.reports, Reports),
    Route("GET", "/api/reports/{report_id}", "One daily report: a page without scripts", api_reports.report, None,
          missing=True, page_policy=api_reports.POLICY),
    Route("GET", "/api/universe", "What is watched", api_reads.universe, Universe),
    Route("GET", "/api/mutes", "Mutes in force", api_mutes.mutes, Mutes),
    Route("POST", "/api/mutes", "Hold a symbol's alerts for a while", api_mutes.mute, MuteRow,
          status=HTTPStatus.CREATED, body=NewMute),
    Route("DELETE", "/api/mutes/{mute_id}", "Lift a mute", api_mutes.unmute, None,
          status=HTTPStatus.NO_CONTENT, missing=True),
)  # fmt: skip
