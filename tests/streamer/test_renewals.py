"""Renewals that the exchange refuses, in virtual time: rarely asked, within the budget (F103, F118)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from shared.errors import Blocked, ExchangeError, ExchangeUnavailable, RateLimited, RestrictedLocation
from shared.exchange.binance.endpoints import ConnectionPlan
from streamer.backoff import AttemptBudget
from streamer.connection import OnMessages
from streamer.supervisor import REFUSED_S, Supervisor

RENEWED_S = 2.0  # when the end of the connection is announced
RETRY_AFTER_S = 300.0

Refusal = Callable[[], ExchangeError]


def unavailable() -> ExchangeError:
    return ExchangeUnavailable("no", status=503)


def limited() -> ExchangeError:
    return RateLimited("no", retry_after_s=RETRY_AFTER_S)


def restricted() -> ExchangeError:
    return RestrictedLocation("no", status=451)


def blocked() -> ExchangeError:
    return Blocked("no", status=403)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Moves its clock on to the next timer whenever nothing is ready; nothing here waits for anything real."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class FakeConnection:
    def __init__(self, loop: VirtualLoop, ends_s: float) -> None:
        self._loop, self._ends_s = loop, ends_s
        self.aborted_s: float | None = None

    async def wait_closed(self) -> str:
        await asyncio.sleep(max(0.0, self._ends_s - self._loop.now_s))
        return "closed"

    def send(self, text: str) -> None:
        pass

    def abort(self) -> None:
        self.aborted_s = self._loop.now_s

    async def close(self) -> None:
        self.abort()


class Exchange:
    """Takes the first connection, which it ends at `ends_s`, and refuses every other one before `from_s`."""

    def __init__(self, loop: VirtualLoop, refusal: Refusal, ends_s: float, from_s: float) -> None:
        self._loop, self._refusal, self._ends_s, self._from_s = loop, refusal, ends_s, from_s
        self.asked_s: list[float] = []
        self.opened: list[FakeConnection] = []

    async def __call__(self, url: str, on_messages: OnMessages) -> FakeConnection:
        self.asked_s.append(self._loop.now_s)
        if self.opened and self._loop.now_s < self._from_s:
            raise self._refusal()
        self.opened.append(FakeConnection(self._loop, 1e9 if self.opened else self._ends_s))
        return self.opened[-1]

    @property
    def again_s(self) -> list[float]:
        """When it was asked after the first connection."""
        return self.asked_s[1:]


def run(
    refusal: Refusal, *, until_s: float, ends_s: float = 1e9, from_s: float = 1e9, deaf_s: float | None = None
) -> tuple[Exchange, Supervisor]:
    loop = VirtualLoop()
    exchange = Exchange(loop, refusal, ends_s, from_s)
    supervisor = Supervisor(
        ConnectionPlan("ws://exchange", (), ()),
        exchange,
        lambda batch, recv_ms: None,
        attempts=AttemptBudget(),
        renew_s=1e9,
        now_s=loop.time,
        rng=Random(3).random,
    )

    async def main() -> None:
        stop = asyncio.Event()
        loop.call_at(RENEWED_S, supervisor.renew, "server_shutdown")
        if deaf_s is not None:
            loop.call_at(deaf_s, supervisor.replace, "silent")
        loop.call_at(until_s, stop.set)
        await supervisor.run(stop)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return exchange, supervisor


def test_a_renewal_against_an_exchange_that_is_down_backs_off() -> None:
    exchange, supervisor = run(unavailable, until_s=1000.0)
    asked = exchange.again_s
    assert asked[0] == RENEWED_S
    assert len([at for at in asked if at < RENEWED_S + 60]) <= 12
    assert len([at for at in asked if at < RENEWED_S + 300]) <= 30  # half of what the budget would allow
    assert max(b - a for a, b in pairwise(asked)) <= 60.0
    assert exchange.opened[0].aborted_s == 1000.0  # at the end: the old connection has been kept
    assert supervisor.reconnects == 0


def test_a_renewal_succeeds_when_the_exchange_is_up_again() -> None:
    exchange, supervisor = run(unavailable, from_s=400.0, until_s=1000.0)
    assert supervisor.renewals == 1
    assert exchange.again_s[-1] <= 460.0
    assert supervisor.reconnects == 0


@pytest.mark.parametrize(
    ("refusal", "pause_s"), [(limited, RETRY_AFTER_S), (restricted, REFUSED_S), (blocked, REFUSED_S)]
)
def test_a_refused_renewal_waits_as_long_as_the_refusal_asks_for(refusal: Refusal, pause_s: float) -> None:
    exchange, supervisor = run(refusal, until_s=4000.0)
    first, second = exchange.again_s[:2]
    assert first == RENEWED_S
    assert pause_s <= second - first <= pause_s + 60.0
    assert len(exchange.again_s) <= 1 + 4000 / pause_s
    assert supervisor.state == "live"


def test_the_streams_end_during_a_long_pause_is_noticed_at_once() -> None:
    exchange, supervisor = run(blocked, ends_s=100.0, from_s=90.0, until_s=200.0)
    assert len(exchange.opened) == 2
    assert 100.0 <= exchange.again_s[-1] <= 101.0
    assert (supervisor.reconnects, supervisor.renewals) == (1, 0)


def test_what_retry_after_says_outlives_the_old_connection() -> None:
    exchange, supervisor = run(limited, ends_s=100.0, from_s=90.0, until_s=400.0)
    assert exchange.again_s == [RENEWED_S, RENEWED_S + RETRY_AFTER_S]
    assert supervisor.reconnects == 1


def test_a_deaf_connection_is_replaced_during_a_long_pause() -> None:
    exchange, supervisor = run(restricted, deaf_s=50.0, from_s=40.0, until_s=100.0)
    assert exchange.opened[0].aborted_s == 50.0
    assert len(exchange.opened) == 2
    assert supervisor.reconnects == 1
