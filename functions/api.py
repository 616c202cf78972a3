"""The read API: signals, alerts and health as JSON, the same handler on AWS and on one machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from functions.api_query import Filters, encode_cursor, named_symbol, read_filters
from functions.bootstrap import production_dependencies
from functions.handler import Handler, once
from shared.clock import iso_utc
from shared.detection.reading import Detector
from shared.errors import StorageError, TapewatchError, UsageError
from shared.jobs.deps import Dependencies
from shared.jobs.explain import explain
from shared.jobs.health import health
from shared.jobs.report import event_row
from shared.observability import make_logger
from shared.storage.alerts import AlertRepository
from shared.storage.signals import SignalRepository

AWAITING = {"status": "Awaiting first signal..."}

logger = make_logger()
# The resolver keeps the current event on its class, so two requests at once would get each other's answers.
_one_at_a_time = threading.Lock()


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    """Return the handler of API Gateway payload v2 events."""
    get = once(dependencies)
    app = APIGatewayHttpResolver(serializer=_json)

    def filters() -> Filters:
        return read_filters(app.current_event.query_string_parameters or {}, get().clock.now_ms())

    @app.get("/api/get_signal")
    def get_signal() -> dict[str, Any]:
        """The latest trade spike, of one symbol or of all."""
        symbol = (app.current_event.query_string_parameters or {}).get("symbol")
        name = None if symbol is None else named_symbol(symbol)
        stored = SignalRepository(get().table).latest(Detector.TRADE_SPIKE, name)
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

    @app.get("/api/signals")
    def signals() -> dict[str, Any]:
        """Signals, newest first, whether or not they became an alert."""
        wanted = filters()
        page, cursor = SignalRepository(get().table).range(
            symbol=wanted.symbol,
            detector=wanted.detector,
            direction=wanted.direction,
            since_ms=wanted.since_ms,
            until_ms=wanted.until_ms,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
        return {"signals": [event_row(stored) for stored in page], "cursor": encode_cursor(cursor)}

    @app.get("/api/alerts")
    def alerts() -> dict[str, Any]:
        """Alerts, newest first."""
        wanted = filters()
        page, cursor = AlertRepository(get().table).range(
            symbol=wanted.symbol,
            detector=wanted.detector,
            direction=wanted.direction,
            since_ms=wanted.since_ms,
            until_ms=wanted.until_ms,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
        return {"alerts": [alert.to_json() for alert in page], "cursor": encode_cursor(cursor)}

    @app.get("/api/alerts/<alert_id>")
    def alert(alert_id: str) -> Response[Any] | dict[str, Any]:
        """One alert, how its delivery on each channel ended, and what the market did after it."""
        found = AlertRepository(get().table).get(alert_id)
        if found is None:
            return _error(HTTPStatus.NOT_FOUND, "there is no alert of this id", "not_found")
        return explain(get(), found)

    @app.get("/api/health")
    def state() -> dict[str, Any]:
        """Each component's sign of life, the newest stored minutes, the exchange's bans."""
        return health(get())

    @app.not_found
    def unknown(error: Exception) -> Response[Any]:
        return _error(HTTPStatus.NOT_FOUND, "there is nothing at this path", "not_found")

    def wrong(error: UsageError) -> Response[Any]:
        return _error(HTTPStatus.BAD_REQUEST, str(error), error.code)

    def no_state(error: StorageError) -> Response[Any]:
        logger.error("api_failed", extra={"code": error.code, "reason": str(error)})
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, "the state cannot be read now; ask again", error.code)

    def failed(error: TapewatchError) -> Response[Any]:
        logger.error("api_failed", extra={"code": error.code, "reason": str(error)})
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "the request could not be answered", error.code)

    app.exception_handler(UsageError)(wrong)
    app.exception_handler(StorageError)(no_state)
    app.exception_handler(TapewatchError)(failed)

    @logger.inject_lambda_context
    def handle(event: Any, context: Any) -> dict[str, Any]:
        try:
            with _one_at_a_time:
                return app.resolve(event, context)
        except Exception:  # top of the request: strangers see a code, the log sees the cause
            logger.exception("api_failed")
            body = _json({"error": "the request could not be answered", "code": "internal"})
            return {
                "statusCode": 500,
                "headers": {"Content-Type": "application/json"},
                "body": body,
                "isBase64Encoded": False,
            }

    return handle


def _json(value: Any) -> str:
    """Encode as strict JSON: what is not finite becomes null."""
    return msgspec.json.encode(value).decode()


def _error(status: HTTPStatus, text: str, code: str) -> Response[Any]:
    body = _json({"error": text, "code": code})
    return Response(status_code=status.value, content_type="application/json", body=body)


lambda_handler = make_handler(production_dependencies)
