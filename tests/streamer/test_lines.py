"""Symbols come and go: every one of them is carried by exactly one connection, and none carries too many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote

import pytest

from shared.exchange.binance.endpoints import MAX_STREAMS
from shared.market.model import Market
from streamer import supervisor
from streamer.connection import OnMessages
from streamer.lines import Lines
from streamer.session import Session
from tests.streamer.feed import until
from tests.streamer.streams import settings

SYMBOLS = [f"COIN{number}USDT" for number in range(2 * MAX_STREAMS + 40)]


class FakeConnection:
    """Knows what the exchange would send on it: what its address names, and what commands changed since."""

    def __init__(self, url: str) -> None:
        self.streams = set(unquote(url.partition("streams=")[2]).split("/"))
        self.opened = True
        self._ended = asyncio.Event()

    def send(self, text: str) -> None:
        command = json.loads(text)
        change = self.streams.update if command["method"] == "SUBSCRIBE" else self.streams.difference_update
        change(command["params"])
        assert len(self.streams) <= MAX_STREAMS

    def abort(self) -> None:
        self.opened = False
        self._ended.set()

    async def close(self) -> None:
        self.abort()

    async def wait_closed(self) -> str:
        await self._ended.wait()
        return "closed"


class FakeExchange:
    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.slowly = asyncio.Event()
        self.slowly.set()

    async def __call__(self, url: str, on_messages: OnMessages) -> FakeConnection:
        await self.slowly.wait()
        self.made.append(FakeConnection(url))
        return self.made[-1]

    def carried(self) -> list[str]:
        """Every stream of every open connection, sorted; one carried twice stands there twice."""
        return sorted(name for one in self.made if one.opened for name in one.streams)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "COMMAND_INTERVAL_S", 0.0)


def names(symbols: Iterable[str]) -> list[str]:
    return sorted(f"{symbol.lower()}@trade" for symbol in symbols)


def carry(symbols: Sequence[str], body: Callable[[FakeExchange, Lines, Session], object]) -> None:
    async def main() -> None:
        exchange = FakeExchange()
        lines = Lines(
            settings(), exchange, lambda batch, recv_ms: None, lambda symbols: None, lambda symbol, told: None
        )
        session = Session(settings(), Market.SPOT, symbols, together=True)
        lines.plan(session)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            lines.carry(tasks)
            await body(exchange, lines, session)  # type: ignore[misc]
            lines.follow(Session(settings(), Market.SPOT, ()))  # nothing is carried any more: every task ends

    asyncio.run(main())


def test_the_market_grows_beyond_one_connection_and_shrinks_again() -> None:
    async def body(exchange: FakeExchange, lines: Lines, session: Session) -> None:
        for followed, connections in (
            (SYMBOLS[:1020], 1),
            (SYMBOLS[:1030], 2),  # ten more than fit: a second connection, the first stays
            (SYMBOLS[:900], 1),  # the second has nothing left and is closed
            (SYMBOLS[:2080:2], 2),  # half of them go, more others come
            (SYMBOLS, 3),
            (SYMBOLS[1:2:], 1),
        ):
            for symbol in set(session.symbols) - set(followed):
                session.drop_symbol(symbol)
            for symbol in followed:
                session.add_symbol(symbol)
            first = exchange.made[0] if exchange.made else None
            lines.follow(session)
            await until(lambda followed=followed: exchange.carried() == names(followed) and lines.live)
            assert sum(one.opened for one in exchange.made) == connections
            assert first is None or first.opened or SYMBOLS[0] not in followed  # those that stay notice nothing
        assert lines.reconnects == 0

    carry(SYMBOLS[:1000], body)


def test_a_change_while_the_connection_is_being_opened_is_not_lost() -> None:
    async def body(exchange: FakeExchange, lines: Lines, session: Session) -> None:
        await until(lambda: lines.live)
        exchange.slowly.clear()
        lines.replace("deaf")
        await until(lambda: not lines.live)
        session.drop_symbol(SYMBOLS[0])
        session.add_symbol(SYMBOLS[7])
        lines.follow(session)
        await asyncio.sleep(0.05)
        exchange.slowly.set()
        await until(lambda: lines.live and exchange.carried() == names([SYMBOLS[1], SYMBOLS[7]]))

    carry(SYMBOLS[:2], body)


def test_a_broken_connection_puts_those_in_doubt_that_it_carries_now() -> None:
    doubted: list[tuple[str, ...]] = []

    async def body(exchange: FakeExchange, lines: Lines, session: Session) -> None:
        lines._on_break = lambda symbols: doubted.append(tuple(symbols))
        await until(lambda: lines.live)
        session.add_symbol(SYMBOLS[1])
        lines.follow(session)
        exchange.made[0].abort()
        await until(lambda: bool(doubted))

    carry(SYMBOLS[:1], body)
    assert doubted[0] == (SYMBOLS[0], SYMBOLS[1])
