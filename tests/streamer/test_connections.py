"""Both libraries behind the one connection interface, against a real server on loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection

from shared.errors import Blocked, ExchangeUnavailable, RateLimited, RestrictedLocation
from streamer.connection import Connector
from streamer.picows_connection import PicowsConnector
from streamer.websockets_connection import WebsocketsConnector
from tests.streamer.feed import Feed, until

Make = Callable[[Callable[[], int]], Connector]
pytestmark = pytest.mark.parametrize("make", [PicowsConnector, WebsocketsConnector])


async def _chatter(feed: Feed, client: ServerConnection, number: int) -> None:
    await client.send("text")
    await client.send(b"bytes")
    await client.send(["in ", "three ", "parts"])
    await client.ping(b"are you there")
    async for message in client:
        feed.received.append(str(message))


def test_messages_arrive_whole_and_stamped(make: Make) -> None:
    async def body() -> None:
        got: list[tuple[bytes, int]] = []
        async with Feed(_chatter) as feed:
            connection = await make(lambda: 77)(
                feed.url, lambda batch, recv_ms: got.extend((data, recv_ms) for data in batch)
            )
            await until(lambda: len(got) == 3)
            connection.send("hello")
            await until(lambda: feed.received == ["hello"])
            await connection.close()
            await until(lambda: feed.open == 0)
            await connection.wait_closed()
            connection.send("too late")
            connection.abort()
        assert got == [(b"text", 77), (b"bytes", 77), (b"in three parts", 77)]

    asyncio.run(body())


def test_many_messages_of_all_sizes_keep_their_order(make: Make) -> None:
    sizes = random.Random(3)
    sent = [str(number) + "x" * sizes.choice((0, 5, 120, 170, 200, 70_000)) for number in range(1_500)]

    async def pour(feed: Feed, client: ServerConnection, number: int) -> None:
        for at, message in enumerate(sent):
            await client.send(message)
            if at % 100 == 50:
                await client.ping()
        await client.wait_closed()

    async def body() -> None:
        got: list[bytes] = []
        async with Feed(pour) as feed:
            connection = await make(lambda: 0)(feed.url, lambda batch, recv_ms: got.extend(batch))
            await until(lambda: len(got) == len(sent))
            await connection.close()
        assert [message.decode() for message in got] == sent

    asyncio.run(body())


def test_an_aborted_connection_is_silent_at_once(make: Make) -> None:
    async def flood(feed: Feed, client: ServerConnection, number: int) -> None:
        while True:
            await client.send("x" * 100)

    async def body() -> None:
        got: list[bytes] = []
        async with Feed(flood) as feed:
            connection = await make(lambda: 0)(feed.url, lambda batch, recv_ms: got.extend(batch))
            await until(lambda: len(got) > 100)
            connection.abort()
            before = len(got)
            async with asyncio.timeout(1):
                assert await connection.wait_closed()
            assert len(got) == before

    asyncio.run(body())


@pytest.mark.parametrize("code", [1001, 1008, 1011])
def test_the_exchanges_goodbye_is_the_reason(make: Make, code: int) -> None:
    async def goodbye(feed: Feed, client: ServerConnection, number: int) -> None:
        await client.close(code)

    async def body() -> None:
        async with Feed(goodbye) as feed:
            connection = await make(lambda: 0)(feed.url, lambda data, recv_ms: None)
            async with asyncio.timeout(2):
                assert str(code) in await connection.wait_closed()

    asyncio.run(body())


def test_a_reset_ends_the_connection(make: Make) -> None:
    async def reset(feed: Feed, client: ServerConnection, number: int) -> None:
        client.transport.abort()

    async def body() -> None:
        async with Feed(reset) as feed:
            connection = await make(lambda: 0)(feed.url, lambda data, recv_ms: None)
            async with asyncio.timeout(2):
                assert "connection lost" in await connection.wait_closed()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS, RestrictedLocation),
        (HTTPStatus.FORBIDDEN, Blocked),
        (HTTPStatus.TOO_MANY_REQUESTS, RateLimited),
        (HTTPStatus.SERVICE_UNAVAILABLE, ExchangeUnavailable),
    ],
)
def test_a_refused_handshake_is_a_typed_error(make: Make, status: HTTPStatus, error: type[Exception]) -> None:
    async def body() -> None:
        async with Feed(_chatter) as feed:
            feed.refuse = status
            with pytest.raises(error):
                await make(lambda: 0)(feed.url, lambda data, recv_ms: None)

    asyncio.run(body())


def test_nobody_there_is_unavailable(make: Make) -> None:
    async def body() -> None:
        async with Feed(_chatter) as feed:
            url = feed.url
        with pytest.raises(ExchangeUnavailable):
            await make(lambda: 0)(url, lambda data, recv_ms: None)

    asyncio.run(body())
