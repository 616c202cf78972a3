"""Reconnecting, replacing and renewing, over real sockets with both libraries; no id lost, none twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection

from shared.exchange.binance.endpoints import ConnectionPlan
from streamer import supervisor as supervisor_module
from streamer.backoff import AttemptBudget
from streamer.connection import Connector
from streamer.picows_connection import PicowsConnector
from streamer.supervisor import Supervisor
from streamer.websockets_connection import WebsocketsConnector
from tests.streamer.feed import Feed, Script, until

Make = Callable[[Callable[[], int]], Connector]
both = pytest.mark.parametrize("make", [PicowsConnector, WebsocketsConnector])


class Rig:
    """A supervisor on a feed, with what it forwarded."""

    def __init__(self, feed: Feed, make: Make, *, renew_s: float = 3600, commands: tuple[str, ...] = ()) -> None:
        self.got: list[int] = []
        self.budget = AttemptBudget(base_s=0.05)
        self.supervisor = Supervisor(
            ConnectionPlan(feed.url + "/stream", ("btcusdt@trade",), commands),
            make(lambda: 0),
            lambda batch, recv_ms: self.got.extend(map(int, batch)),
            attempts=self.budget,
            renew_s=renew_s,
            overlap_s=0.2,
        )


def carry(script: Script, body: Callable[[Feed, Rig], object], make: Make, **options: float) -> Rig:
    async def main() -> Rig:
        async with Feed(script) as feed:
            rig, stop = Rig(feed, make, **options), asyncio.Event()
            running = asyncio.create_task(rig.supervisor.run(stop))
            await body(feed, rig)  # type: ignore[misc]
            stop.set()
            async with asyncio.timeout(3):
                await running
            await until(lambda: feed.open == 0)
            return rig

    return asyncio.run(main())


async def _counting(feed: Feed, client: ServerConnection, number: int) -> None:
    """One market for every client: ids grow with time, whoever listens; each hears only what comes from now on."""
    loop = asyncio.get_running_loop()
    if not hasattr(feed, "origin"):
        feed.origin = loop.time()  # type: ignore[attr-defined]
    sent = int((loop.time() - feed.origin) * 500)  # type: ignore[attr-defined]
    while True:
        now = int((loop.time() - feed.origin) * 500)  # type: ignore[attr-defined]
        while sent < now:
            sent += 1
            await client.send(str(sent))
        await asyncio.sleep(0.005)


@both
def test_a_renewal_overlaps_without_a_gap(make: Make) -> None:
    async def body(feed: Feed, rig: Rig) -> None:
        await until(lambda: rig.supervisor.renewals >= 3, 8)
        assert feed.most_open == 2

    rig = carry(_counting, body, make, renew_s=0.3)
    assert rig.supervisor.reconnects == 0
    newest, delivered = 0, []
    for number in rig.got:  # what the parser does: drop what it has had
        if number > newest:
            delivered.append(number)
            newest = number
    assert delivered == list(range(delivered[0], delivered[-1] + 1))
    assert len(rig.got) > len(delivered)  # they did overlap
    assert rig.supervisor.most_open == 2


@both
def test_an_aborted_connection_is_replaced(make: Make) -> None:
    async def dropping(feed: Feed, client: ServerConnection, number: int) -> None:
        await client.send(str(number))
        if number < 4:
            client.transport.abort()
        await client.wait_closed()

    async def body(feed: Feed, rig: Rig) -> None:
        await until(lambda: rig.got == [1, 2, 3, 4])

    rig = carry(dropping, body, make)
    assert rig.supervisor.reconnects == 3


@both
def test_an_announced_end_opens_the_next_connection_first(make: Make) -> None:
    async def leaving(feed: Feed, client: ServerConnection, number: int) -> None:
        await client.send(str(number))
        if number == 1:
            await until(lambda: feed.clients == 2)
            await asyncio.sleep(0.4)
            await client.close(1001)
        await client.wait_closed()

    async def body(feed: Feed, rig: Rig) -> None:
        await until(lambda: rig.got == [1])
        rig.supervisor.renew("server_shutdown")
        await until(lambda: rig.got == [1, 2])
        assert rig.supervisor.state == "live"

    rig = carry(leaving, body, make)
    assert (rig.supervisor.renewals, rig.supervisor.reconnects) == (1, 0)


def test_a_deaf_connection_is_replaced_at_once() -> None:
    async def deaf(feed: Feed, client: ServerConnection, number: int) -> None:
        await client.send(str(number))
        await client.wait_closed()

    async def body(feed: Feed, rig: Rig) -> None:
        await until(lambda: rig.got == [1])
        await asyncio.sleep(1.05)  # long enough to count as a success, so that the next attempt goes at once
        rig.supervisor.replace("silent")
        await until(lambda: rig.got == [1, 2], 0.5)

    carry(deaf, body, PicowsConnector)


def test_a_failed_renewal_keeps_the_old_connection() -> None:
    async def body(feed: Feed, rig: Rig) -> None:
        await until(lambda: len(rig.got) > 5)
        feed.refuse = HTTPStatus.SERVICE_UNAVAILABLE
        rig.supervisor.renew("test")
        await until(lambda: len(feed.paths) >= 2)
        before = len(rig.got)
        await until(lambda: len(rig.got) > before + 20)
        feed.refuse = None
        await until(lambda: rig.supervisor.renewals == 1)

    rig = carry(_counting, body, PicowsConnector)
    assert rig.supervisor.reconnects == 0


def test_a_refusal_that_only_a_person_can_cure_is_asked_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(feed: Feed, rig: Rig) -> None:
        feed.refuse = HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS
        await until(lambda: rig.supervisor.error is not None)
        assert "does not serve this location" in str(rig.supervisor.error)
        await asyncio.sleep(0.4)
        assert len(feed.paths) == 1
        feed.refuse = None
        await until(lambda: rig.supervisor.state == "live")
        assert rig.supervisor.error is None

    monkeypatch.setattr(supervisor_module, "REFUSED_S", 0.8)

    async def refusing(feed: Feed, client: ServerConnection, number: int) -> None:
        await client.wait_closed()

    async def main() -> None:
        async with Feed(refusing) as feed:
            feed.refuse = HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS
            rig, stop = Rig(feed, PicowsConnector), asyncio.Event()
            running = asyncio.create_task(rig.supervisor.run(stop))
            await body(feed, rig)
            stop.set()
            await running

    asyncio.run(main())


def test_what_did_not_fit_into_the_address_is_subscribed() -> None:
    async def listening(feed: Feed, client: ServerConnection, number: int) -> None:
        async for message in client:
            feed.received.append(str(message))

    async def main() -> None:
        async with Feed(listening) as feed:
            rig, stop = Rig(feed, PicowsConnector, commands=("one", "two")), asyncio.Event()
            running = asyncio.create_task(rig.supervisor.run(stop))
            await until(lambda: feed.received == ["one", "two"])
            stop.set()
            await running

    asyncio.run(main())
