"""The hot path's connection: picows hands over each frame straight from the read buffer, without a queue or a task."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import picows

from shared.errors import ExchangeUnavailable
from streamer.connection import (
    CLOSE_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    OPEN_TIMEOUT_S,
    Connection,
    OnMessage,
    handshake_refused,
)


class _Listener(picows.WSListener):
    """Assembles frames into messages; stays silent once `deaf` is set."""

    def __init__(self, on_message: OnMessage, now_ms: Callable[[], int]) -> None:
        self.on_message = on_message
        self.now_ms = now_ms
        self.deaf = False
        self.reason = "connection lost"
        self.parts: list[bytes] = []
        self.parts_size = 0

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self.deaf:
            return
        kind = frame.msg_type
        if kind is picows.WSMsgType.TEXT or kind is picows.WSMsgType.BINARY:
            if frame.fin:
                self.on_message(frame.get_payload_as_bytes(), self.now_ms())
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
            whole, self.parts = b"".join(self.parts), []
            self.on_message(whole, self.now_ms())


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
    """Opens picows connections; `now_ms` stamps each message, `ssl_context` replaces the default one in tests."""

    def __init__(self, now_ms: Callable[[], int], ssl_context: ssl.SSLContext | None = None) -> None:
        self._now_ms = now_ms
        self._ssl_context = ssl_context

    async def __call__(self, url: str, on_message: OnMessage) -> Connection:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                transport, listener = await picows.ws_connect(
                    lambda: _Listener(on_message, self._now_ms),
                    url,
                    ssl_context=self._ssl_context,
                    websocket_handshake_timeout=OPEN_TIMEOUT_S,
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
