"""A loopback exchange for the connection tests: sends what a script tells it, to every client, and counts clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import TracebackType

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Script = Callable[["Feed", ServerConnection, int], Awaitable[None]]


class Feed:
    """Runs `script(feed, client, number)` for each client, numbered from 1; `refuse` answers handshakes instead."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: Server | None = None
        self.clients = 0
        self.open = 0
        self.most_open = 0
        self.received: list[str] = []
        self.refuse: HTTPStatus | None = None
        self.next_id = 1000
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Feed:
        self._server = await serve(self._serve, "127.0.0.1", 0, process_request=self._judge, ping_interval=None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _judge(self, client: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        return None if self.refuse is None else client.respond(self.refuse, "no\n")

    async def _serve(self, client: ServerConnection) -> None:
        self.clients += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._script(self, client, self.clients)
        except ConnectionClosed:
            pass
        finally:
            self.open -= 1


async def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something holds, or fail."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)
