"""Feeds every open connection: streams made step by step from the market, or a recording played back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

from local.exchange.connection import Connection
from local.exchange.playback import PlaybackClock
from local.exchange.source import MarketSource, Played
from local.exchange.streams import messages
from shared.clock import Clock
from shared.market.model import Market

TICK_S = 0.02  # wall time between two steps
_BURST = 256  # messages between two looks at the clock when playing as fast as possible
_AHEAD = 4096  # messages that may wait for a client then
_PACE = re.compile(r"@\d+ms$")


class Hub:
    def __init__(self, source: MarketSource, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self.connections: set[Connection] = set()
        self.sent = 0

    async def run(self) -> None:
        """Feed until cancelled."""
        played = self._source.playback()
        if played is None:
            await self._make()
        else:
            await self._play(played)

    async def _make(self) -> None:
        after_ms = self._clock.now_ms()
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._clock.now_ms()
            if now_ms > after_ms:
                self.step(after_ms, now_ms)
                after_ms = now_ms

    def step(self, after_ms: int, now_ms: int) -> None:
        """Queue everything that falls into (after_ms, now_ms], in order of time."""
        wanted: dict[tuple[Market, str, int], list[Connection]] = {}
        for connection in self.connections:
            for stream in connection.streams:
                if connection.delivers(stream):
                    wanted.setdefault((connection.market, stream, connection.scale), []).append(connection)
        due = [
            (at_ms, stream, data, receivers)
            for (market, stream, scale), receivers in wanted.items()
            for at_ms, data in messages(self._source, market, stream, scale, after_ms, now_ms)
        ]
        due.sort(key=lambda item: item[0])
        for _, stream, data, receivers in due:
            for connection in receivers:
                connection.put(stream, data)
        self.sent += len(due)

    async def _play(self, played: Iterator[Played]) -> None:
        """Wait for the first subscriber, then send at the recording's pace; afterwards connections stay open."""
        while not any(connection.streams for connection in self.connections):
            await asyncio.sleep(TICK_S)
        clock = self._clock
        held = clock if isinstance(clock, PlaybackClock) else None
        if held is not None:
            held.begin()
        for number, message in enumerate(played):
            if held is not None and held.speed is None:
                held.advance(message.at_ms)
                if number % _BURST == 0:
                    await asyncio.sleep(0)
                    while any(c.waiting > _AHEAD for c in self.connections):
                        await asyncio.sleep(0.001)
            else:
                while clock.now_ms() < message.at_ms:
                    await asyncio.sleep(TICK_S / 4)
                if number % _BURST == 0:
                    await asyncio.sleep(0)
            self._deliver(message)

    def _deliver(self, message: Played) -> None:
        for connection in self.connections:
            if connection.market is not message.market:
                continue
            if connection.delivers(message.stream) or connection.delivers(_PACE.sub("", message.stream)):
                connection.put(message.stream, message.data, message.wrapped)
                self.sent += 1
