"""A loopback exchange that is never the bottleneck: trade messages made beforehand, sent in blocks or at a pace.

    python -m benchmarks.ingest_server --port P --count N [--rate R] [--tls CERT KEY] [--stamps FILE]

Ids grow by one per symbol, so that a client that follows them finds no gap. With a rate, the moment at which each
message was sent (monotonic ns) is written to the stamps file, which the client reads to know its delay. Over TLS every
message is a record of its own, as the exchange sends them, encrypted before the first is sent.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import mmap
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

SYMBOLS = 500
START_MS = 1_767_225_600_000
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def symbols(count: int = SYMBOLS) -> list[str]:
    return [f"{'COIN' if n % 3 else 'TOKEN'}{n}USDT" for n in range(count)]


def payloads(count: int, seed: int = 7) -> Iterator[bytes]:
    """Yield combined-stream messages: 500 symbols with the uneven activity of a market, heavy-tailed sizes."""
    rng = random.Random(seed)
    names = symbols()
    weights = [1.0 / (n + 1) ** 0.9 for n in range(len(names))]
    prices = [rng.uniform(0.01, 70_000) for _ in names]
    ids = [rng.randrange(10**6, 10**9) for _ in names]
    at_ms = START_MS
    for number, pick in enumerate(rng.choices(range(len(names)), weights, k=count)):
        ids[pick] += 1
        prices[pick] *= 1 + rng.gauss(0, 1e-4)
        at_ms += number % 3 == 0
        maker = "true" if rng.random() < 0.5 else "false"
        name = names[pick]
        yield (
            f'{{"stream":"{name.lower()}@trade","data":{{"e":"trade","E":{at_ms + 1},"s":"{name}","t":{ids[pick]},'
            f'"p":"{prices[pick]:.8f}","q":"{rng.lognormvariate(0, 1.2):.8f}","T":{at_ms},"m":{maker},"M":true}}}}'
        ).encode()


def spikes(count: int) -> int:
    """Return how many trades are at least ten times the mean of the 200 before them, in exact integers."""
    rings: dict[bytes, list[int]] = {}
    found = 0
    for payload in payloads(count):
        match = re.search(rb'"s":"([^"]+)".*"q":"(\d+)\.(\d{8})"', payload)
        assert match is not None
        size = int(match[2] + match[3])
        ring = rings.setdefault(match[1], [])
        if len(ring) == 200:
            found += size * 200 >= 10 * sum(ring)
            ring.pop(0)
        ring.append(size)
    return found


def frame(payload: bytes) -> bytes:
    size = len(payload)
    return (bytes((0x81, size)) if size < 126 else b"\x81\x7e" + struct.pack(">H", size)) + payload


class Wire:
    """A client's socket, plain or with TLS through memory, so that records can be made before they are sent."""

    def __init__(self, client: socket.socket, context: ssl.SSLContext | None) -> None:
        self._client = client
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True) if context else None
        while self._tls is not None:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.sendall(self._out.read())
                self._in.write(client.recv(65536))
        if self._tls is not None:
            client.sendall(self._out.read())

    def receive(self) -> bytes:
        while self._tls is not None:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                data = self._client.recv(65536)
                if not data:
                    return b""
                self._in.write(data)
        return self._client.recv(65536)

    def sealed(self, data: bytes) -> bytes:
        if self._tls is None:
            return data
        self._tls.write(data)
        return self._out.read()

    def send(self, data: bytes) -> None:
        self._client.sendall(data)


def shake(wire: Wire) -> bool:
    request = b""
    while b"\r\n\r\n" not in request:
        data = wire.receive()
        if not data:
            return False
        request += data
    key = re.search(rb"(?i)sec-websocket-key:\s*(\S+)", request)
    if key is None:  # some clients ask over REST first
        body = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        wire.send(wire.sealed(body))
        return False
    accept = base64.b64encode(hashlib.sha1(key[1] + _MAGIC, usedforsecurity=False).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    wire.send(wire.sealed(head + accept + b"\r\n\r\n"))
    path = request.split(b" ", 2)[1]
    if b"@" not in path:  # the client subscribes instead
        wire.receive()
        wire.send(wire.sealed(frame(b'{"result":null,"id":1}')))
    return True


def blast(wire: Wire, frames: list[bytes]) -> None:
    blocks = [b"".join(map(wire.sealed, frames[at : at + 4000])) for at in range(0, len(frames), 4000)]
    for block in blocks:
        wire.send(block)


def paced(wire: Wire, frames: list[bytes], rate: int, stamp: Callable[[int], None]) -> None:
    began = time.perf_counter()
    for number, one in enumerate(frames):
        wait = began + number / rate - time.perf_counter()
        if wait > 0.0003:
            time.sleep(wait - 0.0002)
        while time.perf_counter() < began + number / rate:
            pass
        sealed = wire.sealed(one)
        stamp(number)
        wire.send(sealed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--stamps")
    options = parser.parse_args()
    frames = [frame(payload) for payload in payloads(options.count)]
    context = None
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.tls)
        context.num_tickets = 0
    stamps: mmap.mmap | bytearray = bytearray(8 * options.count)
    if options.stamps:
        with open(options.stamps, "r+b") as file:
            stamps = mmap.mmap(file.fileno(), 0)

    def stamp(number: int) -> None:
        struct.pack_into("<q", stamps, number * 8, time.perf_counter_ns())

    def serve(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            wire = Wire(client, context)
            if not shake(wire):
                return
            time.sleep(0.5)
            if options.rate:
                paced(wire, frames, options.rate, stamp)
            else:
                blast(wire, frames)
            time.sleep(60)
        except (OSError, ssl.SSLError):
            pass
        finally:
            client.close()

    listener = socket.create_server(("127.0.0.1", options.port))
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
