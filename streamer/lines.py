"""All connections of a session's trades: planned by its symbols, each with a supervisor and a watchdog."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from shared.exchange.binance.endpoints import commands, plan_connections, stream_name
from shared.market.model import Market
from shared.settings import Settings
from streamer.backoff import AttemptBudget
from streamer.connection import Connector, OnMessages
from streamer.session import Session
from streamer.supervisor import Supervisor
from streamer.watchdog import Watchdog

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Line:
    """One connection and the symbols that it carries."""

    supervisor: Supervisor
    watchdog: Watchdog
    symbols: tuple[str, ...]


class Lines:
    """Everything runs on the event loop, but counts may be read from any thread.

    `on_break` is told the symbols of a connection that ended: they may miss trades that no id has shown yet.
    """

    def __init__(
        self,
        settings: Settings,
        connector: Connector,
        on_messages: OnMessages,
        on_break: Callable[[Iterable[str]], None],
    ) -> None:
        self._settings = settings
        self._connector = connector
        self._on_messages = on_messages
        self._on_break = on_break
        self._lines: list[Line] = []

    def plan(self, session: Session) -> None:
        """Lay out the connections of the session's symbols; `tasks` carries them.

        Raises:
            ConfigurationError: a symbol or stream that the exchange cannot have.
        """
        names = _streams(session)
        budget = AttemptBudget()  # the exchange counts attempts by address, so all connections share one
        now_s = time.monotonic()
        for plan in plan_connections(self._base_url(session.market), session.market, names):
            symbols = tuple(names[name] for name in plan.streams)
            supervisor = Supervisor(
                plan,
                self._connector,
                self._on_messages,
                attempts=budget,
                renew_s=self._settings.streamer.renew_hours * 3600,
                on_break=partial(self._broken, len(self._lines)),
            )
            watchdog = Watchdog(self._settings.streamer.watchdog_seconds, symbols, now_s)
            self._lines.append(Line(supervisor, watchdog, symbols))

    def carry(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to carry every connection, as tasks of this group."""
        for line in self._lines:
            # Ended by cancelling only: told twice to end, a supervisor could not say goodbye.
            tasks.create_task(line.supervisor.run(asyncio.Event()))

    def clear(self) -> None:
        self._lines = []

    def follow(self, session: Session, gone: Sequence[str], new: Sequence[str]) -> None:
        """Carry the session's symbols from now on, of which these are gone and new; those that stay notice nothing."""
        names = _streams(session)
        plans = plan_connections(self._base_url(session.market), session.market, names)
        if len(plans) != len(self._lines):
            return  # more than one connection's streams came or went at once: the next reconnect carries them
        changed = {symbol: stream_name(symbol, session.kind.value) for symbol in (*gone, *new)}
        for plan, line in zip(plans, self._lines, strict=True):
            now = tuple(names[name] for name in plan.streams)
            left = [changed.get(s) or stream_name(s, session.kind.value) for s in line.symbols if s not in now]
            joined = [stream_name(s, session.kind.value) for s in now if s not in line.symbols]
            line.supervisor.replan(plan, [*commands("SUBSCRIBE", joined), *commands("UNSUBSCRIBE", left)])
            line.watchdog.follow(now, time.monotonic())
            line.symbols = now

    def watch(self, activity: Mapping[str, int], now_s: float) -> None:
        """Replace the connections that are open but deaf; `activity` counts messages by symbol."""
        for line in self._lines:
            supervisor, watchdog = line.supervisor, line.watchdog
            if supervisor.state != "live":
                watchdog.replaced(now_s)
                continue
            silence = watchdog.look({symbol: activity.get(symbol, 0) for symbol in line.symbols}, now_s)
            if silence is not None:
                silent_s = round(silence.silent_s, 1)
                logger.warning("stream_silent", extra={"stream": silence.stream, "silent_s": silent_s})
                supervisor.replace(f"silent: {silence.stream}")
                watchdog.replaced(now_s)

    def renew(self, reason: str) -> None:
        """Open the next connections first, then let these go."""
        for line in self._lines:
            line.supervisor.renew(reason)

    def replace(self, reason: str) -> None:
        """Drop every connection now and open others."""
        for line in self._lines:
            line.supervisor.replace(reason)

    def _broken(self, number: int) -> None:
        self._on_break(self._lines[number].symbols)

    def _base_url(self, market: Market) -> str:
        exchange = self._settings.exchange
        return exchange.spot_ws_url if market is Market.SPOT else exchange.futures_ws_url

    # --- what the shell asks ------------------------------------------------------------------------------------
    @property
    def live(self) -> bool:
        """There are connections, and all of them stand."""
        return bool(self._lines) and all(line.supervisor.state == "live" for line in self._lines)

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(line.supervisor.error for line in self._lines if line.supervisor.error)

    @property
    def reconnects(self) -> int:
        return sum(line.supervisor.reconnects for line in self._lines)

    @property
    def renewals(self) -> int:
        return sum(line.supervisor.renewals for line in self._lines)

    def quiet(self, now_s: float) -> tuple[str, ...]:
        """Return the streams that are silent beyond the base threshold, broken or not."""
        return tuple(name for line in self._lines for name in line.watchdog.quiet(now_s))


def _streams(session: Session) -> dict[str, str]:
    return {stream_name(symbol, session.kind.value): symbol for symbol in session.symbols}
