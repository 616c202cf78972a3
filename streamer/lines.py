"""All connections of a session's trades: planned by its symbols, each with a supervisor and a watchdog."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from shared.errors import ExchangeError
from shared.exchange.binance.endpoints import MAX_STREAMS, ConnectionPlan, plan_connections, stream_name
from shared.market.model import Market
from shared.settings import Settings
from streamer.backoff import AttemptBudget
from streamer.connection import Connector, OnMessages
from streamer.session import Session
from streamer.supervisor import Supervisor
from streamer.watchdog import EVERYTHING, Silence, Watchdog

logger = logging.getLogger(__name__)


ANSWER_S = 0.5  # an answer that takes longer does not count: the connection is replaced
GUESS_S = 300.0  # without an answer a connection is replaced so often, or when it has fallen silent anew
Ask = Callable[[str, Callable[[bool | None], None]], None]


@dataclass(slots=True)
class Line:
    """One connection and the symbols that it carries."""

    supervisor: Supervisor
    watchdog: Watchdog
    symbols: tuple[str, ...]
    carrying: asyncio.Task[None] | None = None
    asked: tuple[Silence, float] | None = None  # what REST is being asked about, and since when
    heard: int = 0  # messages when REST last told that the market trades and the connection is deaf
    deaf: bool = False
    guessed: tuple[float, int] = (-GUESS_S, -1)  # when it was replaced without an answer, and its messages then
    excused: int = -1  # messages when REST last told that the market itself is silent


class Lines:
    """Everything runs on the event loop, but counts may be read from any thread.

    `on_break` is told the symbols of a connection that ended: they may miss trades that no id has shown yet. `ask` asks
    REST whether a symbol has traded since its position: a silence that the exchange confirms replaces no connection.
    """

    def __init__(
        self,
        settings: Settings,
        connector: Connector,
        on_messages: OnMessages,
        on_break: Callable[[Iterable[str]], None],
        ask: Ask,
    ) -> None:
        self._settings = settings
        self._connector = connector
        self._on_messages = on_messages
        self._on_break = on_break
        self._ask = ask
        self._attempts = AttemptBudget()  # the exchange counts attempts by address, so all connections share one
        self._tasks: asyncio.TaskGroup | None = None
        self._lines: list[Line] = []  # replaced, never changed: other threads look at it

    def plan(self, session: Session) -> None:
        """Lay out the connections of the session's symbols; `carry` opens them.

        Raises:
            ConfigurationError: a symbol or stream that the exchange cannot have.
        """
        self._attempts = AttemptBudget()
        self._lines = self._planned(session, session.symbols)

    def carry(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to carry every connection, as tasks of this group; those that `follow` adds join it."""
        self._tasks = tasks
        for line in self._lines:
            self._start(line, tasks)

    def clear(self) -> None:
        self._lines, self._tasks = [], None

    def follow(self, session: Session) -> None:
        """Carry the session's symbols from now on. Those that stay notice nothing: each keeps its connection, new ones
        join where there is room, what is left over gets a connection of its own, and an empty one is closed."""
        followed, now_s = set(session.symbols), time.monotonic()
        staying = [[symbol for symbol in line.symbols if symbol in followed] for line in self._lines]
        new = [symbol for symbol in session.symbols if symbol not in {s for stay in staying for s in stay}]
        kept: list[Line] = []
        for line, stay in zip(self._lines, staying, strict=True):
            room = MAX_STREAMS - len(stay)
            joining, new = new[:room], new[room:]
            if not stay and not joining:
                if line.carrying is not None:
                    line.carrying.cancel()
                continue
            kept.append(line)
            if joining or len(stay) < len(line.symbols):
                line.symbols = (*stay, *joining)
                ((plan, _),) = self._plans(session, line.symbols)
                line.supervisor.replan(plan)
                line.watchdog.follow(line.symbols, now_s)
        added = self._planned(session, new)
        self._lines = [*kept, *added]
        if self._tasks is not None:
            for line in added:
                self._start(line, self._tasks)

    def _planned(self, session: Session, symbols: Sequence[str]) -> list[Line]:
        return [self._line(plan, carried) for plan, carried in self._plans(session, symbols)]

    def _plans(self, session: Session, symbols: Sequence[str]) -> list[tuple[ConnectionPlan, tuple[str, ...]]]:
        names = dict(zip(_streams(session, symbols), symbols, strict=True))
        plans = plan_connections(self._base_url(session.market), session.market, names)
        return [(plan, tuple(names[name] for name in plan.streams)) for plan in plans]

    def _line(self, plan: ConnectionPlan, symbols: tuple[str, ...]) -> Line:
        supervisor = Supervisor(
            plan,
            self._connector,
            self._on_messages,
            attempts=self._attempts,
            renew_s=self._settings.streamer.renew_hours * 3600,
            on_break=lambda: self._on_break(line.symbols),
        )
        line = Line(supervisor, Watchdog(self._settings.streamer.watchdog_seconds, symbols, time.monotonic()), symbols)
        return line

    def _start(self, line: Line, tasks: asyncio.TaskGroup) -> None:
        # Ended by cancelling only: told twice to end, a supervisor could not say goodbye.
        line.carrying = tasks.create_task(line.supervisor.run(asyncio.Event()))

    def watch(self, activity: Mapping[str, int], now_s: float) -> None:
        """Replace the connections that are open but deaf; `activity` counts messages by symbol."""
        for line in self._lines:
            supervisor, watchdog = line.supervisor, line.watchdog
            if supervisor.state != "live":
                watchdog.replaced(now_s)
                line.asked = None
                continue
            counts = {symbol: activity.get(symbol, 0) for symbol in line.symbols}
            heard = sum(counts.values())
            line.deaf = line.deaf and heard == line.heard
            if line.asked is not None:
                if now_s - line.asked[1] >= ANSWER_S:
                    self._answered(line, line.asked, heard, None)
                continue
            silence = watchdog.look(counts, now_s)
            if silence is not None:
                line.asked = asked = (silence, now_s)
                busiest = max(counts, key=lambda symbol: counts[symbol])
                name = busiest if silence.stream == EVERYTHING else silence.stream
                self._ask(name, partial(self._answered, line, asked, heard))

    def _answered(self, line: Line, asked: tuple[Silence, float], heard: int, newer: bool | None) -> None:
        """The exchange has traded (True), has not (False) or does not say (None) what the line has not brought."""
        if line.asked is not asked:
            return  # too late, or the connection is another one
        line.asked = None
        silence, now_s = asked[0], time.monotonic()
        everything = silence.stream == EVERYTHING
        if newer is None and now_s - line.guessed[0] < GUESS_S and not (everything and heard != line.guessed[1]):
            return
        if newer is None:
            line.guessed = (now_s, heard)
        if newer is False:
            line.watchdog.excuse(silence.stream, now_s)
            if everything:
                line.excused = heard
            return
        silent_s = round(silence.silent_s, 1)
        logger.warning("stream_silent", extra={"stream": silence.stream, "silent_s": silent_s, "traded": newer})
        line.supervisor.replace(f"silent: {silence.stream}")
        line.watchdog.replaced(now_s)
        if newer:
            line.watchdog.convict(silence.stream)
            line.deaf, line.heard = everything, heard

    def renew(self, reason: str) -> None:
        """Open the next connections first, then let these go."""
        for line in self._lines:
            line.supervisor.renew(reason)

    def replace(self, reason: str) -> None:
        """Drop every connection now and open others."""
        for line in self._lines:
            line.supervisor.replace(reason)

    def _base_url(self, market: Market) -> str:
        exchange = self._settings.exchange
        return exchange.spot_ws_url if market is Market.SPOT else exchange.futures_ws_url

    # --- what the shell asks ------------------------------------------------------------------------------------
    @property
    def live(self) -> bool:
        """There are connections, and all of them stand."""
        return bool(self._lines) and all(line.supervisor.state == "live" for line in self._lines)

    @property
    def deaf(self) -> bool:
        """A connection stands and brings nothing, while the exchange says that there are trades."""
        return any(line.deaf for line in self._lines)

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(line.supervisor.error for line in self._lines if line.supervisor.error)

    @property
    def refusal(self) -> ExchangeError | None:
        """Why a connection does not stand, where the exchange or the network said so."""
        return next((line.supervisor.refusal for line in self._lines if line.supervisor.refusal), None)

    @property
    def reconnects(self) -> int:
        return sum(line.supervisor.reconnects for line in self._lines)

    @property
    def renewals(self) -> int:
        return sum(line.supervisor.renewals for line in self._lines)

    def quiet(self, now_s: float) -> tuple[str, ...]:
        """Return the streams that are silent beyond the base threshold, broken or not."""
        return tuple(name for line in self._lines for name in line.watchdog.quiet(now_s))


def _streams(session: Session, symbols: Iterable[str]) -> list[str]:
    return [stream_name(symbol, session.kind.value) for symbol in symbols]
