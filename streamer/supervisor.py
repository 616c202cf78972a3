"""Keep one connection alive for ever: reconnect, replace the silent, renew before the exchange cuts.

A renewal opens the second connection first and holds its messages back until the two overlap; then the old one goes
and the held messages follow, so that the parser sees every id and drops the ones it has had. At most two
connections stand at any time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from shared.errors import Blocked, ExchangeError, RateLimited, RestrictedLocation
from shared.exchange.binance.endpoints import ConnectionPlan, commands
from streamer.connection import Connection, Connector, OnMessages

logger = logging.getLogger(__name__)

OVERLAP_S = 1.0
FIRST_MESSAGE_S = 10.0
REFUSED_S = 900.0  # 451 and 403: only a person can help, so ask rarely
HELD_MESSAGES = 200_000
COMMAND_INTERVAL_S = 0.25  # the exchange drops a client that sends more than five messages a second


class Attempts(Protocol):
    """The part of `streamer.backoff.AttemptBudget` that is needed here."""

    def next_delay(self, now_s: float, rng: Callable[[], float]) -> float: ...

    def succeeded(self) -> None: ...


class _Gate:
    """Stands between a connection and the session: forwards, or holds messages until it is this one's turn."""

    def __init__(self, forward: OnMessages, *, held: bool) -> None:
        self._forward = forward
        self._held: list[tuple[Sequence[bytes], int]] | None = [] if held else None
        self._messages = 0
        self.first = asyncio.Event()

    def __call__(self, batch: Sequence[bytes], recv_ms: int) -> None:
        if self._held is None:
            self._forward(batch, recv_ms)
            return
        self.first.set()
        self._messages += len(batch)
        self._held.append((batch, recv_ms))

    @property
    def full(self) -> bool:
        return self._held is not None and self._messages >= HELD_MESSAGES

    def open(self) -> None:
        held, self._held = self._held or [], None
        for batch, recv_ms in held:
            self._forward(batch, recv_ms)


class Supervisor:
    """Carries one planned connection. Not thread-safe: everything runs on one event loop.

    `state` is `connecting`, `live` or `waiting`; `error` says in words why there is no connection.
    """

    def __init__(
        self,
        plan: ConnectionPlan,
        connector: Connector,
        on_messages: OnMessages,
        *,
        attempts: Attempts,
        renew_s: float,
        overlap_s: float = OVERLAP_S,
        on_break: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._plan = plan
        self._connector = connector
        self._on_messages = on_messages
        self._attempts = attempts
        self._renew_s = renew_s
        self._overlap_s = overlap_s
        self._on_break = on_break
        self._now_s = now_s
        self._rng = rng
        self._replace = asyncio.Event()
        self._renew = asyncio.Event()
        self._open: set[Connection] = set()
        self._commands: list[str] = []
        self._speaking = asyncio.Lock()
        self._commanding: asyncio.Task[None] | None = None
        self._not_before_s = 0.0  # when the exchange lets us try again, by `now_s`
        self.state = "connecting"
        self.error: str | None = None
        self.refusal: ExchangeError | None = None  # the error itself
        self.connects = 0
        self.reconnects = 0
        self.renewals = 0
        self.most_open = 0
        self.last_reason = ""
        self.connected = asyncio.Event()

    def replace(self, reason: str) -> None:
        """Drop the connection now and open another: it is open but deaf."""
        self.last_reason = reason
        self._replace.set()

    def replan(self, plan: ConnectionPlan) -> None:
        """Carry other streams from now on: commands change the open connection, the plan every later one."""
        self._commands.extend(_changes(self._plan, plan))
        self._plan = plan
        if self._commands and (self._commanding is None or self._commanding.done()):
            self._commanding = asyncio.create_task(self._command(), name="stream-commands")

    async def _command(self) -> None:
        while self._commands:
            await self._say(self._commands.pop(0), *self._open)

    async def _say(self, command: str, *connections: Connection) -> None:
        async with self._speaking:  # one after the other, whoever speaks
            for connection in connections:
                connection.send(command)
            await asyncio.sleep(COMMAND_INTERVAL_S)

    def renew(self, reason: str) -> None:
        """Open the next connection first, then let this one go: it will end soon."""
        self.last_reason = reason
        self._renew.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Carry the connection until `stop` is set. Never raises for anything the network does."""
        carrying = asyncio.create_task(self._carry_for_ever(), name="stream-supervisor")
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((carrying, stopping), return_when=asyncio.FIRST_COMPLETED)
            if carrying.done():
                carrying.result()  # a broken invariant: let it stop the process
        finally:
            await _cancelled(carrying, stopping, *([self._commanding] if self._commanding else []))
            for connection in list(self._open):
                await connection.close()

    async def _carry_for_ever(self) -> None:
        while True:
            connection = await self._connected()
            self._replace.clear()
            self._renew.clear()
            reason = await self._carry(connection)
            self.state = "connecting"
            self._on_break()
            self.connected.clear()
            self.reconnects += 1
            logger.warning("stream_ended", extra={"reason": reason})

    async def _connected(self) -> Connection:
        """Try until a connection stands, as often as the attempt budget and the exchange allow."""
        while True:
            delay = self._attempts.next_delay(self._now_s(), self._rng)
            delay = max(delay, self._not_before_s - self._now_s())  # what a renewal was told holds here too
            if delay > 0:
                self.state = "waiting"
                await asyncio.sleep(delay)
            self.state = "connecting"
            try:
                connection = await self._opened(_Gate(self._on_messages, held=False))
            except ExchangeError as exc:
                await self._refused(exc)
                continue
            self.state, self.error, self.refusal = "live", None, None
            self.connected.set()
            return connection

    async def _refused(self, exc: ExchangeError) -> None:
        self.error, self.refusal = str(exc), exc
        self.state = "waiting"
        logger.warning("stream_refused", extra={"reason": self.error, "status": exc.status})
        await asyncio.sleep(_pause_s(exc))

    async def _opened(self, gate: _Gate) -> Connection:
        plan = self._plan
        connection = await self._connector(plan.url, gate)
        self._open.add(connection)
        self.connects += 1
        self.most_open = max(self.most_open, len(self._open))
        for command in plan.commands:
            await self._say(command, connection)
        while self._plan is not plan:  # it changed while this connection was being opened, which heard nothing of it
            before, plan = plan, self._plan
            for command in _changes(before, plan):
                await self._say(command, connection)
        return connection

    async def _carry(self, connection: Connection) -> str:
        """Stay with the connection and its renewals; return why the last of them ended."""
        opened_s: float | None = self._now_s()  # None: it has been counted as a success
        while True:
            closed = asyncio.create_task(connection.wait_closed())
            replace = asyncio.create_task(self._replace.wait())
            renew = asyncio.create_task(self._renew.wait())
            try:
                await asyncio.wait((closed, replace, renew), timeout=self._renew_s, return_when=asyncio.FIRST_COMPLETED)
                if opened_s is not None and (self._now_s() - opened_s >= 1.0 or not closed.done()):
                    self._attempts.succeeded()
                    opened_s = None  # once: while it stands, failed renewals must add up to a backoff
                if closed.done():
                    self._open.discard(connection)
                    self.last_reason = closed.result()
                    return self.last_reason
                if replace.done():
                    connection.abort()
                    self._open.discard(connection)
                    return self.last_reason
                successor = await self._renewed(connection, closed, replace)
                if successor is not None:
                    connection = successor
                    self._renew.clear()
            finally:
                await _cancelled(closed, replace, renew)

    async def _renewed(
        self, old: Connection, old_closed: asyncio.Task[str], replace: asyncio.Task[Any]
    ) -> Connection | None:
        """Open the successor, let the two overlap, switch. None: it could not be opened, the old one stays.

        A refusal is waited out as without a connection, but only for as long as the old one stands and is wanted.
        """
        gate = _Gate(self._on_messages, held=True)
        delay = self._attempts.next_delay(self._now_s(), self._rng)
        await asyncio.wait((old_closed, replace), timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        if old_closed.done() or replace.done():
            return None
        try:
            successor = await self._opened(gate)
        except ExchangeError as exc:
            logger.warning("stream_renewal_failed", extra={"reason": str(exc), "status": exc.status})
            self._renew.set()
            if isinstance(exc, RateLimited):
                self._not_before_s = self._now_s() + exc.retry_after_s
            pause_s = _pause_s(exc)
            await asyncio.wait((old_closed, replace), timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            return None
        self._attempts.succeeded()
        first = asyncio.create_task(gate.first.wait())
        await asyncio.wait((first, old_closed), timeout=FIRST_MESSAGE_S, return_when=asyncio.FIRST_COMPLETED)
        await _cancelled(first)
        if not gate.full:
            await asyncio.wait((old_closed,), timeout=self._overlap_s)
        self._open.discard(old)
        old.abort()
        gate.open()
        self.renewals += 1
        logger.info("stream_renewed", extra={"reason": self.last_reason or "age"})
        return successor


def _pause_s(exc: ExchangeError) -> float:
    """Return what a refusal asks for beyond the growing backoff, seconds."""
    if isinstance(exc, RestrictedLocation | Blocked):
        return REFUSED_S
    return exc.retry_after_s if isinstance(exc, RateLimited) else 0.0


def _changes(before: ConnectionPlan, after: ConnectionPlan) -> tuple[str, ...]:
    """Return the commands that turn one plan's streams into the other's; what goes makes room for what comes."""
    gone, new = set(before.streams) - set(after.streams), set(after.streams) - set(before.streams)
    return (
        *commands("UNSUBSCRIBE", [name for name in before.streams if name in gone]),
        *commands("SUBSCRIBE", [name for name in after.streams if name in new]),
    )


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for them; what they raise no longer matters."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
