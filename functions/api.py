"""The API: every route as JSON, the same handler on AWS and on one machine."""

from __future__ import annotations

import base64
import binascii
import gc
import hashlib
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from functions.api_access import Access, token_access
from functions.api_query import refuse_unknown
from functions.api_reads import AWAITING
from functions.api_route import NotFound, Request, Route
from functions.api_routes import ROUTES
from functions.bootstrap import production_dependencies
from functions.handler import Handler, once
from shared.errors import StorageError, TapewatchError, UsageError
from shared.jobs.deps import Dependencies
from shared.observability import make_logger

__all__ = ["AWAITING", "lambda_handler", "make_handler"]

MAX_BODY = 4 * 1024
MAX_ADDRESS = 4 * 1024
_JSON = "application/json"
_HTML = "text/html; charset=utf-8"

logger = make_logger()
# The resolver keeps the current event on its class, so two requests at once would get each other's answers.
_one_at_a_time = threading.Lock()


def make_handler(dependencies: Callable[[], Dependencies], access: Access | None = None) -> Handler:
    """Return the handler of API Gateway payload v2 events (which a function URL sends too).

    `access` decides who may read and change; by default the token that `api.token_secret` names.
    """
    get = once(dependencies)
    app = APIGatewayHttpResolver(serializer=_json)
    guard = once(lambda: access or token_access(get().settings))

    def refused(change: bool) -> Response[Any] | None:
        answer = guard().refuse(_headers(app), change=change)
        return None if answer is None else _error(HTTPStatus(answer.status), answer.text, answer.code)

    def serve(route: Route) -> Callable[..., Response[Any]]:
        def answer(**names: str) -> Response[Any]:
            refusal = refused(route.change)
            if refusal is not None:
                return refusal
            deps = get()
            query = app.current_event.query_string_parameters or {}
            body = _body(app) if route.change else b""
            request = Request(deps, query, names, body, deps.clock.now_ms(), guard().changes())
            found = route.work(request)
            if route.page_policy is not None:
                return _tagged(app, found.decode(), _HTML, {"Content-Security-Policy": route.page_policy})
            if route.answer is None:
                return Response(status_code=route.status.value, content_type=_JSON, body="")
            return _tagged(app, _json(found)) if not route.change else _sent(route.status, _json(found))

        return answer

    for route in ROUTES:
        app.route(route.rule, route.method)(serve(route))

    @app.get("/api/token")
    def token() -> Response[Any]:
        """A token for one change, where this server gives them."""
        refuse_unknown(app.current_event.query_string_parameters or {}, ())
        given = guard().issue()
        if given is None:
            return _error(HTTPStatus.NOT_FOUND, "changes need the deployment's token here", "not_found")
        return _sent(HTTPStatus.OK, _json({"token": given}))

    @app.not_found
    def unknown(error: Exception) -> Response[Any]:
        allowed = methods_of(str(app.current_event.path))
        if allowed:
            answer = _error(HTTPStatus.METHOD_NOT_ALLOWED, f"this path answers {', '.join(allowed)}", "method")
            answer.headers["Allow"] = ", ".join(allowed)
            return answer
        return _error(HTTPStatus.NOT_FOUND, "there is nothing at this path", "not_found")

    def wrong(error: UsageError) -> Response[Any]:
        return _error(HTTPStatus.BAD_REQUEST, str(error), error.code)

    def absent(error: NotFound) -> Response[Any]:
        return _error(HTTPStatus.NOT_FOUND, str(error), error.code)

    def no_state(error: StorageError) -> Response[Any]:
        logger.error("api_failed", extra={"code": error.code, "reason": str(error)})
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, "the state cannot be read now; ask again", error.code)

    def failed(error: TapewatchError) -> Response[Any]:
        logger.error("api_failed", extra={"code": error.code, "reason": str(error)})
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "the request could not be answered", error.code)

    app.exception_handler(UsageError)(wrong)
    app.exception_handler(NotFound)(absent)
    app.exception_handler(StorageError)(no_state)
    app.exception_handler(TapewatchError)(failed)

    @logger.inject_lambda_context
    def handle(event: Any, context: Any) -> dict[str, Any]:
        try:
            too_large = _over_limits(event)
            if too_large is not None:
                return too_large
            with _one_at_a_time:
                return app.resolve(event, context)
        except Exception:  # top of the request: strangers see a code, the log sees the cause
            logger.exception("api_failed")
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "the request could not be answered", "internal")

    return handle


def settled(deps: Dependencies) -> Dependencies:
    """Return what was built, and spare the garbage collector what will never be garbage.

    Modules and clients are some hundred thousand objects; a full collection in the middle of a request, which looks at
    all of them, took 20 to 40 ms of it.
    """
    gc.collect()
    gc.freeze()
    return deps


_PATTERNS = [(route.pattern(), route.method) for route in ROUTES]


def methods_of(path: str) -> list[str]:
    """Return the methods that a path has, none for a path that does not exist."""
    found = {method for pattern, method in _PATTERNS if pattern.match(path)}
    if path == "/api/token":
        found = {"GET"}
    return sorted(found)


def _headers(app: APIGatewayHttpResolver) -> Mapping[str, str]:
    event = app.current_event
    found = {str(name).lower(): str(value) for name, value in (event.headers or {}).items()}
    # API Gateway and function URLs hand cookies over beside the headers.
    cookies = event.raw_event.get("cookies")
    if isinstance(cookies, list) and cookies:
        found["cookie"] = "; ".join(map(str, cookies))
    return found


def _body(app: APIGatewayHttpResolver) -> bytes:
    event = app.current_event
    body = event.raw_event.get("body") or ""
    if not event.raw_event.get("isBase64Encoded"):
        return str(body).encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise UsageError("the body is not what its encoding says") from None


def _over_limits(event: Any) -> dict[str, Any] | None:
    if not isinstance(event, dict):
        return None
    if len(str(event.get("rawPath") or "")) + len(str(event.get("rawQueryString") or "")) > MAX_ADDRESS:
        return _plain(HTTPStatus.REQUEST_URI_TOO_LONG, f"an address may have {MAX_ADDRESS} characters", "too_long")
    if len(str(event.get("body") or "")) > MAX_BODY * 2:
        return _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {MAX_BODY} bytes", "too_large")
    return None


def _tagged(
    app: APIGatewayHttpResolver, body: str, kind: str = _JSON, more: Mapping[str, str] | None = None
) -> Response[Any]:
    """Answer with an ETag, or only say that nothing has changed."""
    tag = f'"{hashlib.blake2b(body.encode(), digest_size=12).hexdigest()}"'
    headers: dict[str, str | list[str]] = {"ETag": tag, "Cache-Control": "no-cache", **(more or {})}
    known = _headers(app).get("if-none-match", "")
    # A compressing proxy marks our tag as weak.
    if tag in [one.strip().removeprefix("W/") for one in known[:1000].split(",")]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED.value, content_type=kind, body="", headers=headers)
    return Response(status_code=HTTPStatus.OK.value, content_type=kind, body=body, headers=headers)


def _sent(status: HTTPStatus, body: str) -> Response[Any]:
    headers: dict[str, str | list[str]] = {"Cache-Control": "no-store"}
    return Response(status_code=status.value, content_type=_JSON, body=body, headers=headers)


def _json(value: Any) -> str:
    """Encode as strict JSON: what is not finite becomes null."""
    return msgspec.json.encode(value).decode()


def _error(status: HTTPStatus, text: str, code: str) -> Response[Any]:
    return _sent(status, _json({"error": text, "code": code}))


def _plain(status: HTTPStatus, text: str, code: str) -> dict[str, Any]:
    return {
        "statusCode": status.value,
        "headers": {"Content-Type": _JSON, "Cache-Control": "no-store"},
        "body": _json({"error": text, "code": code}),
        "isBase64Encoded": False,
    }


lambda_handler = make_handler(lambda: settled(production_dependencies()))
