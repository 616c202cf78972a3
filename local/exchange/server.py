"""The local exchange: Binance's REST and WebSocket protocol on one port of this machine."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import uvicorn

from local.exchange.connection import connect
from local.exchange.hub import Hub
from local.exchange.rest_api import Answer, RestApi
from local.exchange.source import MarketSource
from shared.clock import Clock
from shared.errors import UsageError

_log = logging.getLogger(__name__)

PING_EVERY_S = 20.0
PONG_WITHIN_S = 60.0
_STOP_WITHIN_S = 1

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class LocalExchange:
    """Serves a market in a background thread; `start` and `stop` may alternate, the port stays the same.

    `latency_s` is added to every REST answer (wall time). Time is the clock's; only pings, the pace of commands and
    the latency follow the wall.
    """

    def __init__(
        self, source: MarketSource, clock: Clock, host: str = "127.0.0.1", port: int = 0, latency_s: float = 0.0
    ) -> None:
        self.source, self.clock, self.host, self.port, self.latency_s = source, clock, host, port, latency_s
        self._api = RestApi(source)
        self._hub = Hub(source, clock)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def rest_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._hub.connections)

    @property
    def messages_sent(self) -> int:
        return self._hub.sent

    def start(self) -> None:
        """Bind and serve.

        Raises:
            UsageError: the address cannot be bound.
        """
        if self._thread is not None:
            return
        # Named as TCP so that asyncio switches Nagle's delay off: without it each answer waits 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except OSError as exc:
            listener.close()
            raise UsageError(
                f"cannot listen on {self.host}:{self.port}: {exc.strerror}; choose another --port"
            ) from exc
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            proxy_headers=False,
            http="h11",
            ws="websockets-sansio",
            ws_ping_interval=PING_EVERY_S,
            ws_ping_timeout=PONG_WITHIN_S,
            ws_per_message_deflate=False,
            lifespan="on",
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_STOP_WITHIN_S,
        )
        server = uvicorn.Server(config)
        self._server = server
        self._thread = threading.Thread(target=server.run, args=([listener],), name="local-exchange", daemon=True)
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.002)
        if not server.started:
            self.stop()
            raise UsageError(f"the local exchange did not start on {self.host}:{self.port}")

    def stop(self) -> None:
        """Close every connection and end, within two seconds."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout=2 * _STOP_WITHIN_S)
        self._server, self._thread = None, None

    def __enter__(self) -> LocalExchange:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        feeding = asyncio.create_task(self._hub.run())
        feeding.add_done_callback(_tell_failure)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        feeding.cancel()
        await asyncio.wait([feeding])
        self._hub.connections.clear()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope["client"][0] if scope["client"] else ""
        if scope["method"] == "GET":
            query = scope["query_string"].decode("latin-1")
            answer = self._api.answer(scope["path"], query, headers, client, self.clock.now_ms())
        else:
            answer = Answer(405, b'{"code":-1000,"msg":"Only GET is served here."}')
        given = [("content-type", answer.content_type), ("content-length", str(len(answer.body))), *answer.headers]
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name.lower().encode(), value.encode()) for name, value in given],
            }
        )
        await send({"type": "http.response.body", "body": answer.body})

    async def _websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        connection = connect(scope["path"], scope["query_string"].decode("latin-1"), send)
        if connection is None:
            await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"404 Not found"})
            return
        await send({"type": "websocket.accept"})
        self._hub.connections.add(connection)
        pump = asyncio.create_task(connection.pump())
        try:
            while (event := await receive())["type"] == "websocket.receive":
                if event.get("text") is not None:
                    connection.receive(event["text"], time.monotonic())
        finally:
            self._hub.connections.discard(connection)
            pump.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await pump


def _tell_failure(feeding: asyncio.Task[None]) -> None:
    """A feed that breaks must not look like a quiet market."""
    if not feeding.cancelled() and (failure := feeding.exception()) is not None:
        _log.error("exchange_feed_failed", exc_info=failure)
