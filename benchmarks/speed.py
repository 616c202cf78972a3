"""How fast the product's own path is: trades through parser and detectors, and one minute for 500 symbols.

    python -m benchmarks.speed [--messages N] [--rounds N]

Each row is the median of several rounds on one core, with its ratio to the named baseline of the same run: the seed's
way, `json.loads` and `sum()` over a deque of 200 quantities. Machines differ; the ratios hold.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from local.terminal import Progress
from shared.alerts.service import AlertService
from shared.clock import MINUTE_MS, ManualClock, floor_minute_ms
from shared.detection.features import FeatureEngine
from shared.detection.sector import DiffusionTracker, find_initiators
from shared.errors import ExchangeUnavailable
from shared.exchange.binance.stream import StreamParser
from shared.exchange.market_data import Listing
from shared.jobs import features, kline_bars, sector
from shared.jobs.deps import Dependencies
from shared.market.model import Bar, Market
from shared.market.universe import Universe
from shared.settings import Settings
from shared.settings_loader import parse_settings
from shared.storage.bars import BarRepository
from shared.storage.sqlite import SqliteTable
from streamer.session import Session

SYMBOLS = 100
START_MS = 1_767_225_600_000  # 2026-01-01


def messages(count: int, symbols: int = SYMBOLS) -> list[bytes]:
    """Return combined-stream trade messages as Binance sends them, about 170 bytes each, ids without gaps."""
    rng = random.Random(1)
    ids = [0] * symbols
    made = []
    for n in range(count):
        number = n % symbols
        ids[number] += 1
        name, at = f"COIN{number:03d}USDT", START_MS + n
        price, quantity = 100 + rng.random(), rng.lognormvariate(-2, 1.2)
        made.append(
            (
                f'{{"stream":"{name.lower()}@trade","data":{{"e":"trade","E":{at},"s":"{name}","t":{ids[number]},'
                f'"p":"{price:.8f}","q":"{quantity:.8f}","T":{at},"m":{rng.choice(("true", "false"))},"M":true}}}}'
            ).encode()
        )
    return made


def baseline(frames: list[bytes]) -> int:
    """The seed's way: parse with json, keep a deque, sum it for each trade."""
    windows: dict[str, deque[float]] = {}
    found = 0
    for frame in frames:
        data = json.loads(frame)["data"]
        window = windows.setdefault(data["s"], deque(maxlen=200))
        quantity = float(data["q"])
        if len(window) == 200 and quantity >= 10 * sum(window) / 200:
            found += 1
        window.append(quantity)
    return found


def parse_only(frames: list[bytes]) -> int:
    parser = StreamParser(Market.SPOT)
    return sum(len(parser.receive(frame, START_MS)) for frame in frames)


def session(frames: list[bytes]) -> int:
    """The product's hot path: parser, ids, trade spikes, windows."""
    live = Session(Settings(), Market.SPOT, [f"COIN{n:03d}USDT" for n in range(SYMBOLS)])
    return sum(len(live.receive(frame, START_MS)) for frame in frames)


def timed(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times)


def minute_bars(symbols: list[str], minutes: int) -> list[tuple[int, dict[str, Bar]]]:
    rng = np.random.default_rng(1)
    closes = 100 * np.exp(np.cumsum(rng.standard_t(4, (minutes, len(symbols))) * 5e-4, axis=0))
    volumes = rng.lognormal(3, 1, (minutes, len(symbols)))
    rows = []
    for minute in range(minutes):
        open_ms = START_MS + minute * MINUTE_MS
        row = {}
        for n, symbol in enumerate(symbols):
            close, volume = float(closes[minute, n]), float(volumes[minute, n])
            row[symbol] = Bar(
                Market.USDM, symbol, open_ms, open_ms + MINUTE_MS - 1, close, close, close, close, volume,
                taker_buy_volume=volume / 2,
            )  # fmt: skip
        rows.append((open_ms, row))
    return rows


def minute_rows(symbol_count: int, rounds: int, progress: Progress) -> list[tuple[str, float]]:
    """Return seconds for: loading 960 minutes cold, the features and rules of one minute, storing one minute."""
    symbols = ["BTCUSDT", *(f"C{n:03d}USDT" for n in range(symbol_count - 1))]
    sectors = {f"S{n:02d}": tuple(symbols[1 + n :: 30]) for n in range(30)}
    settings, universe = Settings().sector, Universe("BTCUSDT", sectors)
    history = minute_bars(symbols, 960 + rounds)
    table = SqliteTable(":memory:")
    bars = BarRepository(table)
    stored = []
    for n, (open_ms, row) in enumerate(history):
        began = time.perf_counter()
        bars.put_minute(Market.USDM, open_ms, row)
        stored.append(time.perf_counter() - began)
        progress(n + 1, len(history), "storing")
    began = time.perf_counter()
    loaded = bars.minutes(Market.USDM, START_MS, START_MS + 960 * MINUTE_MS)
    load_s = time.perf_counter() - began
    engine = FeatureEngine(settings, "BTCUSDT", symbols)
    began = time.perf_counter()
    engine.load(loaded)
    fill_s = time.perf_counter() - began
    tracker, decided = DiffusionTracker(settings, universe), []
    for open_ms, row in history[960:]:
        began = time.perf_counter()
        found = engine.push(open_ms, row)
        tracker.step(open_ms, found, find_initiators(found, universe, settings))
        decided.append(time.perf_counter() - began)
    return [
        (f"{symbol_count} symbols: store one minute of bars (SQLite)", statistics.median(stored)),
        (f"{symbol_count} symbols: load 960 stored minutes", load_s),
        (f"{symbol_count} symbols: rebuild features from 960 minutes", fill_s),
        (f"{symbol_count} symbols: features and sector rules of one minute", statistics.median(decided)),
    ]


class MemoryExchange:
    """Answers klines from memory: what is left is the jobs' own time."""

    def __init__(self, rows: list[tuple[int, dict[str, Bar]]]) -> None:
        self._rows = dict(rows)
        self.now_ms = 0

    def server_time_ms(self, market: Market) -> int:
        return self.now_ms

    def listings(self, market: Market) -> list[Listing]:
        return []

    def klines(
        self, market: Market, symbol: str, *, limit: int, start_ms: int | None = None, end_ms: int | None = None
    ) -> list[Bar]:
        newest = floor_minute_ms(self.now_ms if end_ms is None else min(end_ms, self.now_ms))
        wanted = range(newest - (limit - 1) * MINUTE_MS, newest + 1, MINUTE_MS)
        return [self._rows[open_ms][symbol] for open_ms in wanted if open_ms in self._rows]

    def __getattr__(self, name: str) -> object:
        def unavailable(*args: object, **kwargs: object) -> None:
            raise ExchangeUnavailable(f"{name} is not part of this benchmark")

        return unavailable


def job_row(symbol_count: int, rounds: int, progress: Progress) -> tuple[str, float]:
    """Return seconds of the whole chain of one warm minute: pull from memory, store, features, rules, store."""
    symbols = ["BTCUSDT", *(f"C{n:03d}USDT" for n in range(symbol_count - 1))]
    sectors = {f"S{n:02d}": tuple(symbols[1 + n :: 30]) for n in range(30)}
    settings = parse_settings({"universe": {"sectors": sectors, "spot_symbols": []}})
    history = minute_bars(symbols, 970 + rounds)
    table, clock, exchange = SqliteTable(":memory:"), ManualClock(), MemoryExchange(history)
    for n, (open_ms, row) in enumerate(history[:970]):
        BarRepository(table).put_minute(Market.USDM, open_ms, row)
        progress(n + 1, 970, "history")
    deps = Dependencies(
        settings=settings,
        market_data=exchange,  # type: ignore[arg-type]  # what the benchmark does not need says so when called
        table=table,
        alerts=AlertService.on_table(table, [], settings, clock),
        clock=clock,
    )
    times = []
    for open_ms, _ in history[970:]:
        exchange.now_ms = open_ms + MINUTE_MS + 1500
        clock.set(exchange.now_ms)
        began = time.perf_counter()
        kline_bars.run(deps, minute_ms=open_ms)
        features.run(deps, minute_ms=open_ms)
        sector.run(deps, minute_ms=open_ms)
        times.append(time.perf_counter() - began)
    return f"{symbol_count} symbols: the minute's jobs, warm, without the network", statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--symbols", type=int, default=500)
    options = parser.parse_args()
    progress = Progress("benchmark")
    frames = messages(options.messages)
    rows: list[tuple[str, float]] = []
    works = (
        ("baseline: json + sum(deque)", baseline),
        ("parse, ids followed", parse_only),
        ("parse, trade spikes, windows", session),
    )
    for n, (name, work) in enumerate(works):
        rows.append((name, timed(lambda work=work: work(frames), options.rounds)))  # type: ignore[misc]
        progress(n + 1, len(works), name)
    progress.close()
    print(f"{'trades, one core':<58}{'M/s':>8}{'x baseline':>12}")
    for name, seconds in rows:
        print(f"{name:<58}{options.messages / seconds / 1e6:>8.3f}{rows[0][1] / seconds:>12.1f}")
    print(f"\n{'the minute':<58}{'ms':>8}")
    progress = Progress("minute")
    chain = job_row(options.symbols, max(5, options.rounds), progress)
    rows = minute_rows(options.symbols, max(5, options.rounds), progress)
    progress.close()
    for name, seconds in [*rows, chain]:
        print(f"{name:<58}{seconds * 1000:>8.1f}")


if __name__ == "__main__":
    main()
