"""One client's WebSocket: its subscriptions, the commands it sends, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from local.exchange.streams import category
from shared.market.model import Market

MOST_STREAMS = 1024
MOST_WAITING = 200_000  # messages; a client that is further behind is cut off
_COMMANDS_PER_SECOND = {Market.SPOT: 5, Market.USDM: 10}
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Connection:
    """`path` is the futures path (`market`, `public`, `private`), None on spot."""

    def __init__(self, market: Market, path: str | None, *, combined: bool, scale: int, send: Send) -> None:
        self.market, self.path, self.combined, self.scale = market, path, combined, scale
        self.streams: dict[str, None] = {}
        self.closing = False
        self._send = send
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()
        self._commands: list[float] = []

    def delivers(self, stream: str) -> bool:
        """Tell whether this connection's path carries a stream; a wrong path is silence, not an error."""
        return stream in self.streams and (self.path is None or category(stream) in (None, self.path))

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, stream: str, data: bytes, wrapped: bytes | None = None) -> None:
        """Queue one message of a stream, in the form that this connection wants."""
        if self.combined:
            self.put_bytes(wrapped or b'{"stream":' + msgspec.json.encode(stream) + b',"data":' + data + b"}")
        else:
            self.put_bytes(data)

    def put_bytes(self, data: bytes) -> None:
        self._waiting.append(data)
        if len(self._waiting) > MOST_WAITING:
            self.closing = True
        self._wake.set()

    async def pump(self) -> None:
        """Send what waits, until the connection is to close."""
        while not self.closing:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            for data in batch:
                await self._send({"type": "websocket.send", "text": data.decode()})
        await self._send({"type": "websocket.close", "code": 1008, "reason": "Too many requests"})

    def receive(self, text: str, now_s: float) -> None:
        """Obey one command; too many in a second close the connection."""
        self._commands = [t for t in self._commands if now_s - t < 1.0] + [now_s]
        if len(self._commands) > _COMMANDS_PER_SECOND[self.market]:
            self.closing = True
            self._wake.set()
            return
        self.put_bytes(msgspec.json.encode(self._reply(text)))

    def subscribe(self, streams: Iterable[str]) -> None:
        for stream in streams:
            if stream:
                self.streams[stream] = None

    def _reply(self, text: str) -> dict[str, object]:
        try:
            command = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
        if not isinstance(command, dict):
            return {"code": 2, "msg": "Invalid request: expected an object at line 1 column 1"}
        id_, method, params = command.get("id"), command.get("method"), command.get("params", [])
        if isinstance(id_, bool) or not (id_ is None or isinstance(id_, int | str)) or (
            isinstance(id_, int) and id_ < 0
        ):  # fmt: skip
            return {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer", "id": None}
        if method is None:
            return {"code": 2, "msg": f"Invalid request: missing field `method` at line 1 column {len(text)}",
                    "id": id_}  # fmt: skip
        if method not in _METHODS:
            expected = ", ".join(f"`{m}`" for m in _METHODS)
            return {"code": 2, "msg": f"Invalid request: unknown variant `{str(method)[:60]}`, expected one of "
                    f"{expected} at line 1 column {len(text)}", "id": id_}  # fmt: skip
        if not isinstance(params, list):
            return {"code": 2, "msg": "Invalid request: params must be an array", "id": id_}
        return self._obey(method, params, id_)

    def _obey(self, method: str, params: list[object], id_: object) -> dict[str, object]:
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(self.streams), "id": id_}
        if method.endswith("PROPERTY"):
            return self._property(method, params, id_)
        names = [name for name in params if isinstance(name, str)]
        if len(names) != len(params) or not names:
            return {"code": 2, "msg": "Invalid request: stream name must be a string", "id": id_}
        if method == "UNSUBSCRIBE":
            for name in names:
                self.streams.pop(name, None)
        else:
            if len(self.streams.keys() | set(names)) > MOST_STREAMS:
                return {"code": 2, "msg": "Invalid request: too many parameters", "id": id_}
            self.subscribe(names)
        return {"result": None, "id": id_}

    def _property(self, method: str, params: list[object], id_: object) -> dict[str, object]:
        if not params or params[0] != "combined":
            return {"code": 0, "msg": "Unknown property", "id": id_}
        if method == "GET_PROPERTY":
            return {"result": self.combined, "id": id_}
        if len(params) != 2 or not isinstance(params[1], bool):
            return {"code": 1, "msg": "Invalid value type: expected Boolean", "id": id_}
        self.combined = params[1]
        return {"result": None, "id": id_}


_ADDRESS = re.compile(r"^(?:/(market|public|private))?/(ws|stream)(?:/(.*))?$")


def connect(path: str, query: str, send: Send) -> Connection | None:
    """Return the connection that an address asks for; None where there is nothing.

    Spot is at /ws and /stream, futures at /market/..., /public/... and /private/... of the same address.
    """
    match = _ADDRESS.match(path)
    if match is None:
        return None
    parameters = parse_qs(query)
    unit = parameters.get("timeUnit", [""])[0].upper()
    connection = Connection(
        Market.SPOT if match[1] is None else Market.USDM,
        match[1],
        combined=match[2] == "stream",
        scale=1000 if unit in ("MICROSECOND", "MICROSECONDS") else 1,
        send=send,
    )
    named = match[3] or "" if match[2] == "ws" else parameters.get("streams", [""])[0]
    streams = named.split("/")
    if len(streams) > MOST_STREAMS:
        return None
    connection.subscribe(streams)
    return connection
