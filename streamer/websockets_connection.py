"""The reference connection: the websockets library, slower and differently built, so that the two check each other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from shared.errors import ExchangeUnavailable
from streamer.connection import (
    CLOSE_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    OPEN_TIMEOUT_S,
    Connection,
    OnMessages,
    handshake_refused,
)


class WebsocketsConnection:
    """See `Connection`. A task reads; it ends with the connection."""

    def __init__(self, client: ClientConnection, on_messages: OnMessages, now_ms: Callable[[], int]) -> None:
        self._client = client
        self._on_messages = on_messages
        self._now_ms = now_ms
        self._deaf = False
        self._reader = asyncio.create_task(self._read(), name="stream-reader")
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, text: str) -> None:
        task = asyncio.create_task(self._send(text))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, text: str) -> None:
        with suppress(ConnectionClosed):
            await self._client.send(text)

    def abort(self) -> None:
        self._deaf = True
        self._client.transport.abort()

    async def close(self) -> None:
        self._deaf = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client.close()
        except TimeoutError:
            self._client.transport.abort()

    async def wait_closed(self) -> str:
        return await asyncio.shield(self._reader)

    async def _read(self) -> str:
        try:
            while True:
                message = await self._client.recv(decode=False)
                if self._deaf:
                    return "closed by us"
                self._on_messages([message], self._now_ms())
        except ConnectionClosed as exc:
            return f"closed by the exchange ({exc.rcvd.code})" if exc.rcvd is not None else "connection lost"


class WebsocketsConnector:
    """Opens websockets connections; arguments as `PicowsConnector`."""

    def __init__(self, now_ms: Callable[[], int], ssl_context: ssl.SSLContext | None = None) -> None:
        self._now_ms = now_ms
        self._ssl_context = ssl_context

    async def __call__(self, url: str, on_messages: OnMessages) -> Connection:
        try:
            client = await connect(
                url,
                ssl=self._ssl_context,
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=1024,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=None,  # the exchange pings; our watchdog looks at data, not at pongs
                proxy=None,
            )
        except InvalidStatus as exc:
            raise handshake_refused(exc.response.status_code, exc.response.headers.get("Retry-After")) from exc
        except (InvalidHandshake, InvalidURI, OSError, TimeoutError, EOFError) as exc:
            raise ExchangeUnavailable(f"the stream could not be opened: {type(exc).__name__}") from exc
        return WebsocketsConnection(client, on_messages, self._now_ms)
