"""The hot path's connection: picows hands over each frame straight from the read buffer, without a queue or a task.

Frames are gathered until the read buffer is empty and handed on together. While the feed is busy, reading pauses for
some milliseconds after each read: a wake-up costs more than a hundred messages, so waiting for more of them is what
saves a processor. A feed that is not busy is read at once.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any

import picows

from shared.errors import ExchangeUnavailable
from streamer.connection import (
    CLOSE_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    OPEN_TIMEOUT_S,
    Connection,
    OnMessages,
    handshake_refused,
)
from streamer.native import gatherer

PAUSE_S = 0.003  # how long a busy feed's messages gather
BUSY_PER_S = 2_000.0  # below this a pause would save next to nothing and cost delay
_MEASURE_S = 0.05  # how often the rate is judged
_MOST_TOGETHER = 2_000  # messages handed on at once; more wait in the read buffer
_FULL_READ = 1_000  # a read that brought so many says that more waits: no pause

_TEXT, _BINARY = picows.WSMsgType.TEXT, picows.WSMsgType.BINARY


class _Gathered:
    """The messages gathered so far; native/gather.c does the same, and takes the frames itself."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.append = self.messages.append

    def take(self) -> list[bytes]:
        taken, self.messages = self.messages, []
        self.append = self.messages.append
        return taken


class _Listener(picows.WSListener):
    """Assembles frames into messages and messages into batches; stays silent once `deaf` is set."""

    def __init__(self, on_messages: OnMessages, now_ms: Callable[[], int]) -> None:
        self.on_messages = on_messages
        self.now_ms = now_ms
        self.deaf = False
        self.reason = "connection lost"
        self.parts: list[bytes] = []
        self.parts_size = 0
        self.gathered: Any = _Gathered()
        native = gatherer()
        if native is not None:
            self.gathered = gathered = native(self._flush, self._rare, _MOST_TOGETHER)
            self.on_ws_frame = gathered.frame  # type: ignore[method-assign]
        self.transport: picows.WSTransport | None = None
        self.loop = asyncio.get_running_loop()
        self.busy = False
        self.paused: asyncio.TimerHandle | None = None
        self.measured_s = time.monotonic()
        self.counted = 0

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self._flush()
        self.transport = None
        if self.paused is not None:
            self.paused.cancel()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is _TEXT and frame.fin:
            gathered = self.gathered
            gathered.append(frame.get_payload_as_bytes())
            if frame.last_in_buffer or len(gathered.messages) >= _MOST_TOGETHER:
                self._flush()
            return
        self._rare(transport, frame)
        if frame.last_in_buffer:
            self._flush()

    def _rare(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind is picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind is _TEXT or kind is _BINARY:
            if frame.fin:
                self.gathered.append(frame.get_payload_as_bytes())
                return
            self.parts = [frame.get_payload_as_bytes()]
            self.parts_size = len(self.parts[0])
        elif kind is picows.WSMsgType.CONTINUATION and self.parts:
            self._continue(transport, frame)
        elif kind is picows.WSMsgType.CLOSE:
            code = frame.get_close_code()
            self.reason = f"closed by the exchange ({getattr(code, 'value', code)})"
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()

    def _continue(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        part = frame.get_payload_as_bytes()
        self.parts_size += len(part)
        if self.parts_size > MAX_MESSAGE_BYTES:
            self.reason = "a message was larger than allowed"
            transport.disconnect(graceful=False)
            return
        self.parts.append(part)
        if frame.fin:
            self.gathered.append(b"".join(self.parts))
            self.parts = []

    def _flush(self) -> None:
        """Hand on what was gathered, then rest for a moment if the feed is busy."""
        batch = self.gathered.take()
        if self.deaf or not batch:
            return
        self.on_messages(batch, self.now_ms())
        self.counted += len(batch)
        now_s = time.monotonic()
        elapsed_s = now_s - self.measured_s
        if elapsed_s >= _MEASURE_S:
            self.busy = self.counted >= BUSY_PER_S * elapsed_s
            self.measured_s, self.counted = now_s, 0
        if self.busy and self.paused is None and len(batch) < _FULL_READ and self.transport is not None:
            self.transport.underlying_transport.pause_reading()
            self.paused = self.loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        self.paused = None
        if self.transport is not None:
            self.transport.underlying_transport.resume_reading()


class PicowsConnection:
    """See `Connection`."""

    def __init__(self, transport: picows.WSTransport, listener: _Listener) -> None:
        self._transport = transport
        self._listener = listener

    def send(self, text: str) -> None:
        if not self._transport.is_disconnected:
            self._transport.send(picows.WSMsgType.TEXT, text.encode())

    def abort(self) -> None:
        self._listener.deaf = True
        self._transport.disconnect(graceful=False)

    async def close(self) -> None:
        self._listener.deaf = True
        if not self._transport.is_disconnected:
            self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.wait_closed()
        except TimeoutError:
            self._transport.disconnect(graceful=False)

    async def wait_closed(self) -> str:
        try:
            await self._transport.wait_disconnected()
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # whatever ended the connection is a reason, not a failure of ours
            return f"{self._listener.reason}: {type(exc).__name__}"
        return self._listener.reason


class PicowsConnector:
    """Opens picows connections; `now_ms` stamps each read, `ssl_context` replaces the default one in tests."""

    def __init__(self, now_ms: Callable[[], int], ssl_context: ssl.SSLContext | None = None) -> None:
        self._now_ms = now_ms
        self._ssl_context = ssl_context

    async def __call__(self, url: str, on_messages: OnMessages) -> Connection:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                transport, listener = await picows.ws_connect(
                    lambda: _Listener(on_messages, self._now_ms),
                    url,
                    ssl_context=self._ssl_context,
                    websocket_handshake_timeout=OPEN_TIMEOUT_S,
                    enable_auto_pong=False,  # answered in order with the rest: each frame may be a read's last
                    max_frame_size=MAX_MESSAGE_BYTES,
                    max_redirects=0,
                    read_buffer_init_size=256 * 1024,
                )
        except picows.WSHandshakeError as exc:
            response = exc.response
            if response is None or int(response.status) < 400:
                raise ExchangeUnavailable(f"the stream's handshake failed: {exc}") from exc
            raise handshake_refused(int(response.status), response.headers.get("Retry-After")) from exc
        except (picows.WSError, OSError, TimeoutError) as exc:
            raise ExchangeUnavailable(f"the stream could not be opened: {type(exc).__name__}") from exc
        assert isinstance(listener, _Listener)  # noqa: S101 - the factory above made it
        return PicowsConnection(transport, listener)
