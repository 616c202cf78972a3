"""The clients that `benchmarks.ingest` compares, one a process: each takes the same feed and prints one JSON line.

    python -m benchmarks.ingest_clients NAME --port P --count N [--tls] [--stamps FILE]

Every peer runs its own documented path for trades with the ten-times-the-mean rule behind it; only its address is
changed. Processor time counts from the first message to the last, of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import resource
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ingest_server import START_MS, payloads, symbols

STREAMS = [f"{name.lower()}@trade" for name in symbols()[:50]]  # named in the address; the server sends all 500


class Meter:
    """Counts messages, measures from the first to the last, prints, and ends the process."""

    def __init__(self, count: int, stamps: str | None) -> None:
        self.count = count
        self.seen = 0
        self.spikes = 0
        self.fits = 0  # models fitted meanwhile
        self.began: tuple[float, float] | None = None
        self.stamps: mmap.mmap | None = None
        self.delays: list[tuple[int, int]] = []
        if stamps:
            with open(stamps, "r+b") as file:
                self.stamps = mmap.mmap(file.fileno(), 0)

    def took(self, messages: int) -> None:
        if self.began is None:
            self.began = time.process_time(), time.perf_counter()
        self.seen += messages
        if self.stamps is not None:
            self.delays.append((self.seen, time.perf_counter_ns()))
        if self.seen >= self.count:
            self.end()

    def end(self) -> None:
        assert self.began is not None
        cpu, wall = time.process_time() - self.began[0], time.perf_counter() - self.began[1]
        result: dict[str, Any] = {
            "messages": self.seen,
            "us": 1e6 * cpu / self.seen,
            "wall_s": wall,
            "spikes": self.spikes,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        if self.stamps is not None:
            delays, before = [], 0
            for upto, at_ns in self.delays:
                for number in range(before, min(upto, self.count)):
                    delays.append(at_ns - struct.unpack_from("<q", self.stamps, number * 8)[0])
                before = upto
            delays.sort()
            result |= {
                "p50_ms": delays[len(delays) // 2] / 1e6,
                "p99_ms": delays[len(delays) * 99 // 100] / 1e6,
                "max_ms": delays[-1] / 1e6,
                "fits": self.fits,
            }
        print(json.dumps(result), flush=True)
        os._exit(0)


class Rule:
    """Ten times the mean of the 200 before, with a running sum."""

    def __init__(self) -> None:
        self.rings: dict[str, list[Any]] = {}
        self.found = 0

    def add(self, symbol: str, quantity: float) -> None:
        row = self.rings.get(symbol)
        if row is None:
            row = self.rings[symbol] = [0.0, 0, [0.0] * 200, 0]
        ring, at = row[2], row[1]
        if row[3] == 200:
            if quantity * 200.0 >= 10.0 * row[0]:
                self.found += 1
            row[0] += quantity - ring[at]
        else:
            row[3] += 1
            row[0] += quantity
        ring[at] = quantity
        row[1] = 0 if at == 199 else at + 1


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ours(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    """The product's own path: connection, session with both detectors, and its ticks."""
    from shared.detection.reading import Detector
    from shared.market.model import Market
    from shared.settings import Settings
    from streamer.actions import Action, EmitSignal
    from streamer.picows_connection import PicowsConnector
    from streamer.session import Session

    session = Session(Settings(), Market.SPOT, symbols(), together=True)

    def execute(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, EmitSignal) and action.signal.detector is Detector.TRADE_SPIKE:
                meter.spikes += 1

    def on_messages(batch: Sequence[bytes], recv_ms: int) -> None:
        if meter.began is None:
            meter.took(0)
        actions = session.receive_many(batch, recv_ms)
        if actions:
            execute(actions)
        if session.messages >= meter.count:
            assert session.gaps == 0, "the server's ids have no gap"
            assert session.trades == session.messages
        meter.took(len(batch))

    async def main() -> None:
        await PicowsConnector(lambda: START_MS + 86_400_000, context)(url, on_messages)
        while True:
            await asyncio.sleep(0.25)
            execute(session.tick())

    asyncio.run(main())


def ours_while_fitting(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    """The same beside one fit after the other, each of 500 windows, as when a whole market's models are due."""
    import numpy as np

    from shared.detection.forest import FlatForest
    from shared.detection.window_anomaly import FitRequest
    from shared.market.model import Market
    from streamer import fitting
    from streamer.actions import FitModel

    features = np.abs(np.random.default_rng(1).normal(size=(500, 5)))
    request = FitRequest(Market.SPOT, "COIN1USDT", features, 500, 100, 42)

    def again(symbol: str, model: FlatForest | None, done: FitRequest) -> None:
        meter.fits += 1
        fitter.submit(FitModel(symbol, done), again)

    fitter = fitting.Fitter()
    fitting.load()
    fitter.submit(FitModel(request.symbol, request), again)
    ours(meter, url, context)


def picows_only(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    import picows

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            frame.get_payload_as_bytes()
            meter.took(1)

    async def main() -> None:
        transport, _ = await picows.ws_connect(Listener, url, ssl_context=context)
        await transport.wait_disconnected()

    asyncio.run(main())


def seed(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    """websockets, json, and sum() over a deque of 200 for each trade."""
    from websockets.asyncio.client import connect

    windows: dict[str, deque[float]] = {}

    async def main() -> None:
        async with connect(url, ssl=context, max_queue=None, compression=None) as stream:
            async for message in stream:
                data = json.loads(message)["data"]
                quantity = float(data["q"])
                float(data["p"])
                window = windows.get(data["s"])
                if window is None:
                    window = windows[data["s"]] = deque(maxlen=200)
                if len(window) == 200 and quantity >= 10 * (sum(window) / len(window)):
                    meter.spikes += 1
                window.append(quantity)
                meter.took(1)

    asyncio.run(main())


def python_binance(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    from binance import AsyncClient, BinanceSocketManager

    rule = Rule()

    async def main() -> None:
        manager = BinanceSocketManager(AsyncClient(), max_queue_size=10_000_000)
        manager.STREAM_URL = url.partition("stream?")[0]
        manager.ws_kwargs = {"ssl": context} if context else {}
        async with manager.multiplex_socket(STREAMS) as stream:
            while True:
                data = (await stream.recv())["data"]
                float(data["p"])
                rule.add(data["s"], float(data["q"]))
                meter.spikes = rule.found
                meter.took(1)

    asyncio.run(main())


def unicorn(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    """Its fastest mode: picows underneath, raw data, orjson in the callback."""
    import logging

    import orjson
    from unicorn_binance_websocket_api import BinanceWebSocketApiManager

    logging.getLogger("unicorn_binance_websocket_api").setLevel(logging.CRITICAL)
    rule = Rule()

    def take(message: str) -> None:
        data = orjson.loads(message).get("data")
        if data is None:
            return
        float(data["p"])
        rule.add(data["s"], float(data["q"]))
        meter.spikes = rule.found
        meter.took(1)

    base = url.partition("stream?")[0]
    manager = BinanceWebSocketApiManager(
        exchange="binance.com", websocket_base_uri=base, output_default="raw_data", websocket_library="picows"
    )
    manager.create_stream(["trade"], [name.partition("@")[0] for name in STREAMS], process_stream_data=take)
    while True:
        time.sleep(1)


def decode_only(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    """msgspec alone, on messages that are in memory already."""
    from shared.exchange.binance import wire

    made = list(payloads(meter.count))
    batches = [b"\n".join(made[at : at + 1000]) for at in range(0, len(made), 1000)]
    meter.took(0)
    for batch in batches:
        wire.combined_trade_lines.decode_lines(batch)
    meter.took(len(made))


def memcpy(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    """The kernel's copy into our buffer and nothing else."""
    host, _, port = url.split("/")[2].partition(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(
        b"GET /stream?streams=a@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    client.recv(4096)
    total = sum(len(payload) + 4 for payload in payloads(meter.count))
    buffer, got = memoryview(bytearray(1 << 20)), 0
    while got < total:
        count = client.recv_into(buffer)
        if meter.began is None:
            meter.took(0)
        got += count
    meter.took(meter.count)


def ours_in_python(meter: Meter, url: str, context: ssl.SSLContext | None) -> None:
    """The same without the native loop."""
    os.environ["TAPEWATCH_NATIVE"] = "0"
    ours(meter, url, context)


CLIENTS = {
    "ours": ours,
    "ours, Python only": ours_in_python,
    "ours, fitting": ours_while_fitting,
    "picows-only": picows_only,
    "seed": seed,
    "python-binance": python_binance,
    "unicorn": unicorn,
    "decode-only": decode_only,
    "memcpy": memcpy,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--stamps")
    options = parser.parse_args()
    context = trusting() if options.tls else None
    url = f"{'wss' if options.tls else 'ws'}://127.0.0.1:{options.port}/stream?streams={'/'.join(STREAMS)}"
    CLIENTS[options.name](Meter(options.count, options.stamps), url, context)


if __name__ == "__main__":
    main()
