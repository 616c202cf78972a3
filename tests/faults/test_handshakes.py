"""F118: a handshake that fails in every way it can, and how often it is tried again."""

from __future__ import annotations

import asyncio
import random
import socket
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import pytest

from shared.errors import Blocked, ExchangeError, ExchangeUnavailable, RateLimited, RestrictedLocation
from shared.exchange.binance.endpoints import ConnectionPlan
from streamer import picows_connection, supervisor
from streamer.backoff import MAX_ATTEMPTS, WINDOW_S, AttemptBudget
from streamer.picows_connection import PicowsConnector
from streamer.supervisor import REFUSED_S, Supervisor
from tests.faults.harness import figure
from tests.streamer.feed import Feed

HOUR_S = 3600.0


async def _tried(url: str) -> ExchangeError:
    with pytest.raises(ExchangeError) as found:
        await PicowsConnector(lambda: 0)(url, lambda batch, recv_ms: None)
    return found.value


async def _never(feed: Feed, client: Any, number: int) -> None:
    raise AssertionError("no handshake was to succeed")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (HTTPStatus.FORBIDDEN, Blocked),
        (HTTPStatus.TOO_MANY_REQUESTS, RateLimited),
        (HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS, RestrictedLocation),
        (HTTPStatus.SERVICE_UNAVAILABLE, ExchangeUnavailable),
    ],
)
def test_f118_a_refusal_is_told_with_its_status(status: HTTPStatus, error: type[ExchangeError]) -> None:
    async def main() -> ExchangeError:
        async with Feed(_never) as feed:
            feed.refuse = status
            return await _tried(feed.url)

    found = asyncio.run(main())
    assert type(found) is error
    assert str(int(status)) in str(found)


def test_f118_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picows_connection, "OPEN_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        found = asyncio.run(_tried(f"ws://127.0.0.1:{deaf.getsockname()[1]}"))
    assert type(found) is ExchangeUnavailable
    assert found.retryable


def test_f118_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = asyncio.run(_tried("ws://exchange.invalid"))
    assert type(found) is ExchangeUnavailable


def test_f118_tls_with_somebody_who_does_not_speak_it() -> None:
    async def main() -> ExchangeError:
        async with Feed(_never) as feed:
            return await _tried(feed.url.replace("ws://", "wss://"))

    assert type(asyncio.run(main())) is ExchangeUnavailable


# --- how often ----------------------------------------------------------------------------------------------------
class _Ended(Exception):
    """The simulated hours are over."""


def _attempts(monkeypatch: pytest.MonkeyPatch, error: ExchangeError | None, hours: float = 3.0) -> list[float]:
    """Return when a supervisor tried, in simulated seconds, with an exchange that never lets it in.

    With None it is let in and thrown out at once, which must not count as a success.
    """
    now, made, sleep = [0.0], [], asyncio.sleep

    async def pass_time(seconds: float) -> None:
        now[0] += seconds
        if now[0] > hours * HOUR_S:
            raise _Ended
        await sleep(0)

    class Gone:
        async def wait_closed(self) -> str:
            return "thrown out"

        def send(self, text: str) -> None: ...

        def abort(self) -> None: ...

        async def close(self) -> None: ...

    async def connect(url: str, on_messages: Any) -> Any:
        made.append(now[0])
        if error is not None:
            raise error
        return Gone()

    async def main() -> None:
        plan = ConnectionPlan("ws://127.0.0.1:1", (), ())
        watched = Supervisor(
            plan,
            connect,
            lambda batch, recv_ms: None,
            attempts=AttemptBudget(),
            renew_s=1e9,
            now_s=lambda: now[0],
            rng=random.Random(7).random,
        )
        with pytest.raises(_Ended):
            await watched.run(asyncio.Event())

    monkeypatch.setattr(supervisor.asyncio, "sleep", pass_time)
    asyncio.run(main())
    return made


@pytest.mark.parametrize("error", [ExchangeUnavailable("503", status=503), None], ids=["refused", "thrown out"])
def test_f118_f120_at_most_60_attempts_in_any_5_minutes(
    monkeypatch: pytest.MonkeyPatch, error: ExchangeError | None
) -> None:
    made = _attempts(monkeypatch, error)
    most = max(sum(at <= other < at + WINDOW_S for other in made) for at in made)
    waits = [b - a for a, b in pairwise(made)]
    figure(attempts=len(made), most_in_5_minutes=most, longest_wait_s=round(max(waits), 1))
    assert len(made) > 60
    assert most <= MAX_ATTEMPTS
    if error is not None:
        assert max(waits) <= 60.0  # the cap
        assert len({round(wait, 3) for wait in waits}) > len(waits) * 0.9  # jittered: no two clients in step


@pytest.mark.parametrize("error", [Blocked("403", status=403), RestrictedLocation("451", status=451)])
def test_f118_what_only_a_person_can_change_is_tried_each_15_minutes(
    monkeypatch: pytest.MonkeyPatch, error: ExchangeError
) -> None:
    made = _attempts(monkeypatch, error)
    waits = [b - a for a, b in pairwise(made)]
    figure(attempts_in_3_h=len(made), shortest_wait_s=round(min(waits)))
    assert 10 <= len(made) <= 12
    assert min(waits) >= REFUSED_S


def test_f118_not_before_the_time_that_a_429_names(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _attempts(monkeypatch, RateLimited("429", retry_after_s=120.0, status=429), hours=1.0)
    assert min(b - a for a, b in pairwise(made)) >= 120.0


def test_f118_without_the_budget_the_row_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttemptBudget, "next_delay", lambda self, now_s, rng: 0.5)
    made = _attempts(monkeypatch, ExchangeUnavailable("503", status=503), hours=0.1)
    assert max(sum(at <= other < at + WINDOW_S for other in made) for at in made) > MAX_ATTEMPTS
