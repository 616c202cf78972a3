"""Serve page and API on this machine: plain HTTP in, API Gateway events (payload v2) to the product's own handler.

Only loopback, one request at a time (the resolver keeps the current request on its class), the Host header is
checked so that a page elsewhere cannot reach it by another name (DNS rebinding), and no CORS header is ever sent.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from local.page_files import PageFiles
from local.scheduler import LocalContext
from shared.clock import Clock
from shared.errors import ConfigurationError

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 64 * 1024
MAX_QUERY = 8 * 1024


class ApiApp:
    """The ASGI application around one Lambda handler."""

    def __init__(
        self, handler: Handler, clock: Clock, allowed_hosts: frozenset[str], page: PageFiles | None = None
    ) -> None:
        self._handler = handler
        self._page = page
        self._clock = clock
        self._allowed_hosts = allowed_hosts
        self._one_at_a_time = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        status, headers, body = await self._answer(scope, receive)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, str], bytes]:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if _host_name(headers.get("host", "")) not in self._allowed_hosts:
            return _error(403, "this server answers only to its own name", "host")
        if len(scope["query_string"]) > MAX_QUERY:
            return _error(414, "the query is too long", "too_long")
        path = _path(scope)
        if self._page is not None and path != "/api" and not path.startswith("/api/"):
            return self._page.answer(scope["method"], path, headers.get("if-none-match", ""))
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > MAX_BODY:
                return _error(413, f"a request may have {MAX_BODY} bytes at most", "too_large")
            if not message.get("more_body"):
                break
        event = api_event(scope, headers, body, self._clock.now_ms())
        return await asyncio.to_thread(self._invoke, event)

    def _invoke(self, event: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        with self._one_at_a_time:
            answer = self._handler(event, LocalContext("api"))
        headers = {str(name).lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
        body = answer.get("body") or ""
        raw = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode("utf-8")
        headers.setdefault("content-type", "application/json")
        headers.setdefault("cache-control", "no-store")
        headers.setdefault("x-content-type-options", "nosniff")
        headers["content-length"] = str(len(raw))
        return int(answer["statusCode"]), headers, raw


def _path(scope: Scope) -> str:
    return unquote(scope["raw_path"].split(b"?")[0].decode("latin-1")) if scope.get("raw_path") else scope["path"]


def api_event(scope: Scope, headers: dict[str, str], body: bytes, now_ms: int) -> dict[str, Any]:
    """Build the payload-v2 event of one request. Source: API Gateway HTTP API developer guide, payload format 2.0."""
    query = scope["query_string"].decode("latin-1")
    path = _path(scope)
    client = scope.get("client") or ("127.0.0.1", 0)
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "queryStringParameters": parameters or None,
        "requestContext": {
            "accountId": "local",
            "apiId": "local",
            "domainName": headers.get("host", ""),
            "http": {
                # HEAD asks for what GET would answer; the body is left out on the way back.
                "method": "GET" if scope["method"] == "HEAD" else scope["method"],
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": client[0],
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": uuid.uuid4().hex,
            "routeKey": "$default",
            "stage": "$default",
            "time": "",
            "timeEpoch": now_ms,
        },
        "body": body.decode("utf-8", "replace") if body else None,
        "isBase64Encoded": False,
    }


class ApiServer:
    """Runs the application on uvicorn in a thread of its own."""

    def __init__(self, handler: Handler, clock: Clock, *, host: str, port: int) -> None:
        self._handler = handler
        self._clock = clock
        self._host = host
        self._port = port
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def start(self) -> None:
        """Bind and serve; port 0 takes a free one.

        Raises:
            ConfigurationError: the port is taken.
        """
        import uvicorn

        bound = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self._host, self._port))
        except OSError as exc:
            bound.close()
            raise ConfigurationError(
                f"cannot serve the API on {self._host}:{self._port} ({exc.strerror}): "
                "stop the other program or set api.port"
            ) from None
        port = bound.getsockname()[1]
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{shown}:{port}"
        allowed = frozenset({self._host, "localhost", "127.0.0.1", "::1"})
        app = ApiApp(self._handler, self._clock, allowed, PageFiles.load())
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [bound]}, name="api-server", daemon=True
        )
        self._thread.start()
        end = time.monotonic() + 5
        while not self._server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)

    def stop(self, timeout_s: float = 2.0) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout_s)


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.rsplit(":", 1)[0] if ":" in host else host


def _error(status: int, text: str, code: str) -> tuple[int, dict[str, str], bytes]:
    raw = json.dumps({"error": text, "code": code}).encode()
    return status, {"content-type": "application/json", "content-length": str(len(raw))}, raw


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
