"""A TCP proxy that breaks connections on purpose: the faults of a network, on one machine and without root."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class FaultProxy:
    """Stands in front of one address. Change its attributes while it runs; they hold for every connection.

    `latency_s` delays what the server sends; `black_hole` swallows it without a word; `down` refuses new connections;
    `slice_bytes` hands it on in small pieces; `cut_after` bytes the connection is reset, wherever a frame stands.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self.latency_s = 0.0
        self.black_hole = self.down = False
        self.slice_bytes = 0
        self.cut_after: int | None = None
        self.cuts = 0
        self.connections = 0

    async def start(self) -> int:
        """Listen on a free port of this machine; return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            theirs, ours = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        asking = asyncio.create_task(self._copy(reader, ours, faults=False))
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._copy(theirs, writer, faults=True)
        asking.cancel()
        for one in (writer, ours):
            one.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, faults: bool) -> None:
        passed = 0
        while data := await reader.read(65536):
            if faults:
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                while self.black_hole:
                    await asyncio.sleep(0.05)
                if self.cut_after is not None and passed + len(data) >= self.cut_after:
                    writer.write(data[: max(0, self.cut_after - passed)])
                    await writer.drain()
                    self.cut_after = None
                    self.cuts += 1
                    return
                passed += len(data)
                if self.slice_bytes:
                    for at in range(0, len(data), self.slice_bytes):
                        writer.write(data[at : at + self.slice_bytes])
                        await writer.drain()
                    continue
            writer.write(data)
            await writer.drain()
        writer.write_eof()
