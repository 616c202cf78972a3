from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from shared.errors import ExchangeUnavailable
from shared.exchange.binance.transport import RequestsTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-MBX-Used-Weight-1M: 7\r\n\r\nok"


@contextmanager
def serving(answer: Callable[[socket.socket, bytes], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A loopback server that hands every request to `answer`; yields its address and the requests seen."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def talk(conn: socket.socket) -> None:
        with conn, suppress(OSError):
            while data := conn.recv(65536):
                seen.append(data)
                answer(conn, data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        listener.close()


@pytest.fixture
def transport() -> Iterator[RequestsTransport]:
    made = RequestsTransport(2)
    yield made
    made.close()


def test_an_answer_comes_whole_and_the_connection_is_kept(transport: RequestsTransport) -> None:
    ports = set()

    def answer(conn: socket.socket, _: bytes) -> None:
        ports.add(conn.getpeername())
        conn.sendall(OK)

    with serving(answer) as (url, seen):
        for _ in range(3):
            response = transport.get(url + "/x", {"symbol": "币安USDT"}, {"X-K": "v"}, 5)
    assert (response.status, response.body, response.headers["x-mbx-used-weight-1m"]) == (200, b"ok", "7")
    assert b"GET /x?symbol=%E5%B8%81%E5%AE%89USDT " in seen[0]
    assert b"X-K: v" in seen[0]
    assert len(ports) == 1


def drip(conn: socket.socket, data: bytes) -> None:
    for byte in data:
        conn.sendall(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize(
    "answer",
    [
        lambda conn, _: None,
        lambda conn, _: drip(conn, OK + b"x" * 200),
        lambda conn, _: (conn.sendall(OK.replace(b": 2", b": 500")), drip(conn, b"x" * 400)),
        lambda conn, _: (conn.sendall(OK.replace(b"Content-Length: 2\r\n", b"")[:-2]), drip(conn, b"x" * 400)),
    ],
    ids=["silent", "dripping head", "dripping body", "dripping body without a length"],
)
def test_the_deadline_bounds_the_whole_call(transport: RequestsTransport, answer: Callable[..., None]) -> None:
    with serving(answer) as (url, _):
        started = time.monotonic()
        with pytest.raises(ExchangeUnavailable, match=r"within 0\.4 s|Timeout|Connection"):
            transport.get(url, {}, {}, 0.4)
        assert time.monotonic() - started < 1.2


@pytest.mark.parametrize("cut", [0, 10, len(OK) - 1])
def test_a_cut_answer_is_unavailable_and_tells_no_secret(transport: RequestsTransport, cut: int) -> None:
    def answer(conn: socket.socket, _: bytes) -> None:
        conn.sendall(OK[:cut])
        conn.close()

    with serving(answer) as (url, _), pytest.raises(ExchangeUnavailable) as caught:
        transport.get(url + "/secret-path", {"token": "secret"}, {"X-MBX-APIKEY": "secret"}, 2)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nobody_listening_is_unavailable(transport: RequestsTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ExchangeUnavailable):
        transport.get(f"http://127.0.0.1:{port}/", {}, {}, 2)


def test_redirects_are_not_followed(transport: RequestsTransport) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with serving(lambda conn, _: conn.sendall(moved)) as (url, _):
        assert transport.get(url, {}, {}, 2).status == 302
