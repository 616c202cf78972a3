"""One minute of the sector detector, from the bars' close to the stored decision: times, write units, weights.

    python -m benchmarks.minute [--symbols 10,100,500,1000] [--minutes N] [--latency-ms 40]

The whole chain runs against the local exchange in this process, every REST answer delayed by the latency, on an
in-memory SQLite table. CPU is that of the whole process, the exchange's included. The baseline computes the same
features the usual way: per symbol deques, numpy over each of them for every minute. Every figure is a median.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from benchmarks.metered import MeteredTable
from benchmarks.wide_market import BENCHMARK, WideMarket, made_sectors
from local.exchange.server import LocalExchange
from shared.alerts.service import AlertService
from shared.clock import HOUR_MS, MINUTE_MS, ManualClock
from shared.detection.features import FeatureEngine
from shared.detection.sector import DiffusionTracker
from shared.exchange.binance.rest import BinanceMarketData
from shared.exchange.binance.transport import RequestsTransport
from shared.jobs import features, kline_bars, open_interest, sector
from shared.jobs.deps import Dependencies
from shared.market.model import Bar, Market
from shared.market.universe import Universe
from shared.settings import ExchangeSettings, SectorSettings, Settings, UniverseSettings
from shared.storage.bars import BarRepository
from shared.storage.sqlite import SqliteTable

START_MS = 1_767_225_600_000
HISTORY = 976  # minutes
DELAY_S = 1.5  # the schedule's, after a minute has closed


class UsualWay:
    """The straightforward implementation: deques of closes and volumes, numpy over each of them every minute."""

    def __init__(self, symbols: list[str]) -> None:
        self.closes = {symbol: deque[float](maxlen=241) for symbol in symbols}
        self.volumes = {symbol: deque[float](maxlen=720) for symbol in symbols}
        self.takers = {symbol: deque[tuple[float, float]](maxlen=15) for symbol in symbols}
        self.excess = {symbol: deque[float](maxlen=720) for symbol in symbols}

    def push(self, bars: dict[str, Bar]) -> dict[str, tuple[float | None, float | None, float | None]]:
        found = {}
        for symbol, bar in bars.items():
            self.closes[symbol].append(bar.close)
        market = np.log(np.array(self.closes[BENCHMARK]))
        for symbol, bar in bars.items():
            own = np.log(np.array(self.closes[symbol]))
            excess = None
            if len(own) == 241:
                x, y = np.diff(market[::5]), np.diff(own[::5])
                variance = np.var(x, ddof=1)
                if variance >= 1e-12:
                    beta = np.cov(x, y)[0, 1] / variance
                    excess = float((own[-1] - own[-16]) - beta * (market[-1] - market[-16]))
            z_excess = None if excess is None else _z(excess, self.excess[symbol])
            z_volume = _z(bar.volume, self.volumes[symbol])
            self.volumes[symbol].append(bar.volume)
            if excess is not None:
                self.excess[symbol].append(excess)
            self.takers[symbol].append((bar.taker_buy_volume or 0.0, bar.volume))
            total = sum(volume for _, volume in self.takers[symbol])
            share = sum(taken for taken, _ in self.takers[symbol]) / total if total else None
            found[symbol] = (z_excess, z_volume, share)
        return found


def _z(x: float, past: deque[float]) -> float | None:
    if len(past) < 360:
        return None
    values = np.array(past)
    centre = np.median(values)
    scale = 1.4826 * np.median(np.abs(values - centre))
    if scale == 0:
        scale = 1.2533 * np.mean(np.abs(values - centre))
    return float((x - centre) / scale) if scale else None


@dataclass(slots=True)
class Chain:
    """The jobs of one process on one table, against the local exchange."""

    settings: Settings
    market: WideMarket
    clock: ManualClock
    table: MeteredTable
    deps: Dependencies


def make_chain(symbols: int, exchange_url: str, market: WideMarket, clock: ManualClock, connections: int) -> Chain:
    settings = Settings(
        exchange=ExchangeSettings(
            spot_rest_url=exchange_url, futures_rest_url=exchange_url, max_connections=connections
        ),
        universe=UniverseSettings(futures_all="USDT"),
    )
    table = MeteredTable(SqliteTable(":memory:"))
    data = BinanceMarketData(settings.exchange, RequestsTransport(connections), clock)
    alerts = AlertService.on_table(table, [], settings, clock)
    return Chain(settings, market, clock, table, Dependencies(settings, data, table, alerts, clock))


def history(market: WideMarket, minutes: int) -> list[tuple[int, dict[str, Bar]]]:
    """Return the market's first minutes as bars, without asking over REST."""
    rows: list[tuple[int, dict[str, Bar]]] = [(market.start_ms + at * MINUTE_MS, {}) for at in range(minutes)]
    for symbol in market.symbols:
        candles = market.candles(
            Market.USDM, symbol, start_ms=market.start_ms, end_ms=None, limit=minutes, now_ms=market.start_ms * 2
        )
        for (_, row), one in zip(rows, candles, strict=True):
            row[symbol] = Bar(
                Market.USDM, symbol, one.open_ms, one.close_ms, float(one.open), float(one.high), float(one.low),
                float(one.close), float(one.volume), float(one.quote_volume), one.trades, float(one.taker_volume),
            )  # fmt: skip
    return rows


def measure(symbols: int, minutes: int, latency_s: float, connections: int) -> dict[str, float]:
    """Return the medians of one width."""
    sectors = made_sectors(symbols - 1)
    market = WideMarket(1, sectors, START_MS, START_MS + (HISTORY + 70) * MINUTE_MS)
    clock = ManualClock(START_MS + HISTORY * MINUTE_MS)
    exchange = LocalExchange(market, clock, latency_s=latency_s)
    exchange.start()
    try:
        chain = make_chain(symbols, exchange.rest_url, market, clock, connections)
        past = history(market, HISTORY)
        store = BarRepository(chain.table)
        for open_ms, row in past:
            store.put_minute(Market.USDM, open_ms, row)
        found = _minutes(chain, minutes)
        found |= _cold(chain, clock.now_ms() // MINUTE_MS * MINUTE_MS)
        found |= _rules(past, sectors, market.symbols)
    finally:
        exchange.stop()
    return found


def _minutes(chain: Chain, minutes: int) -> dict[str, float]:
    """Run the chain for an hour's first minutes and `minutes` more; the hour's chart bars fall into it."""
    first = START_MS + HISTORY * MINUTE_MS
    columns: dict[str, list[float]] = {name: [] for name in ("pull", "features", "sector", "decided", "cpu", "weight")}
    chain.table.reset()
    for number in range(minutes):
        minute_ms = first + number * MINUTE_MS
        chain.clock.set(minute_ms + MINUTE_MS + round(DELAY_S * 1000))
        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        pulled = kline_bars.run(chain.deps, minute_ms=minute_ms)
        pull_end = time.perf_counter()
        features.run(chain.deps, minute_ms=minute_ms)
        features_end = time.perf_counter()
        report = sector.run(chain.deps, minute_ms=minute_ms)
        end = time.perf_counter()
        if number:  # the first one is cold
            columns["cpu"].append(time.process_time() - cpu)
            columns["pull"].append(pull_end - began)
            columns["features"].append(features_end - pull_end)
            columns["sector"].append(end - features_end)
            columns["decided"].append(DELAY_S + end - began)
            columns["weight"].append(pulled.weight)
        assert report.minutes == 1, report
        assert not pulled.failed, pulled.failed
        if number < 3:
            open_interest.run(chain.deps, minute_ms=minute_ms)
    samples = min(3, minutes)
    written = {
        kind: units / (samples if kind == "open_interest" else minutes) for kind, units in chain.table.written.items()
    }
    written["charts"] = _chart_units(chain)
    found = {name: statistics.median(values) for name, values in columns.items()}
    return found | {f"wcu {kind}": units for kind, units in written.items()} | {"wcu": sum(written.values())}


def _chart_units(chain: Chain) -> float:
    """Write one hour of charts and return its units per minute."""
    from shared.jobs import charts

    chain.table.reset()
    hour_ms = (START_MS + HISTORY * MINUTE_MS) // HOUR_MS * HOUR_MS - HOUR_MS
    charts.rewrite(chain.deps, Market.USDM, hour_ms, hour_ms + HOUR_MS)
    return chain.table.written["charts"] / 60


def _cold(chain: Chain, minute_ms: int) -> dict[str, float]:
    """Let a process with nothing in memory compute one minute again."""
    chain.deps.warm.engine = None
    chain.table.reset()
    began = time.perf_counter()
    report = features.run(chain.deps, minute_ms=minute_ms - MINUTE_MS, changed_from_ms=minute_ms - MINUTE_MS)
    took = time.perf_counter() - began
    return {"cold": took, "cold minutes": report.minutes_read, "cold rru": sum(chain.table.read.values()) / 2}


def _rules(
    past: list[tuple[int, dict[str, Bar]]], sectors: dict[str, tuple[str, ...]], symbols: tuple[str, ...]
) -> dict[str, float]:
    """Compare features and rules of one minute with the usual way on the same bars, in CPU time of one core."""
    settings, universe = SectorSettings(), Universe(BENCHMARK, sectors)
    rounds = 10
    engine, tracker = FeatureEngine(settings, BENCHMARK, universe.symbols()), DiffusionTracker(settings, universe)
    usual = UsualWay(list(symbols))
    matrix = np.array(
        [[[bar.close, bar.volume, bar.taker_buy_volume] for bar in row.values()] for _, row in past[:-rounds]]
    )
    began = time.process_time()
    engine.load_arrays(past[0][0], matrix[:, :, 0], matrix[:, :, 1], matrix[:, :, 2])
    whole = time.process_time() - began
    for symbol, column in zip(past[0][1], range(len(symbols)), strict=True):
        usual.closes[symbol].extend(matrix[:, column, 0])
        usual.volumes[symbol].extend(matrix[:, column, 1])
        usual.takers[symbol].extend((taken, volume) for _, volume, taken in matrix[:, column])
        usual.excess[symbol].extend(np.random.default_rng(column).normal(0, 1e-3, 720))
    ours, theirs = [], []
    for open_ms, row in past[-rounds:]:
        began = time.process_time()
        tracker.decide(open_ms, engine.push(open_ms, row))
        ours.append(time.process_time() - began)
        began = time.process_time()
        usual.push(row)
        theirs.append(time.process_time() - began)
    return {"rebuild": whole, "rules": statistics.median(ours), "usual": statistics.median(theirs)}


ROWS = (
    ("pull and store, s", "pull", 1.0),
    ("features, ms", "features", 1e3),
    ("initiators and diffusion, ms", "sector", 1e3),
    ("minute's close to stored decision, s (with 1.5 s of delay)", "decided", 1.0),
    ("CPU of all that, the exchange's too, s", "cpu", 1.0),
    ("weight of the klines (of 2,400 a minute)", "weight", 1.0),
    ("features and rules alone, ms of one core", "rules", 1e3),
    ("the usual way (deques and numpy), ms of one core", "usual", 1e3),
    ("all features of 976 minutes from arrays, ms of one core", "rebuild", 1e3),
    ("cold: minutes read", "cold minutes", 1.0),
    ("cold: one minute's features, s", "cold", 1.0),
    ("cold: read units", "cold rru", 1.0),
    ("write units a minute", "wcu", 1.0),
    ("  bars", "wcu bars", 1.0),
    ("  features", "wcu features", 1.0),
    ("  open interest", "wcu open_interest", 1.0),
    ("  charts", "wcu charts", 1.0),
    ("  signs of life", "wcu heartbeats", 1.0),
    ("  states", "wcu checkpoints", 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", default="10,100,500,1000")
    parser.add_argument("--minutes", type=int, default=6)
    parser.add_argument("--latency-ms", type=float, default=40.0)
    parser.add_argument("--connections", type=int, default=ExchangeSettings().max_connections)
    options = parser.parse_args()
    widths = [int(word) for word in options.symbols.split(",")]
    found = [measure(width, options.minutes, options.latency_ms / 1000, options.connections) for width in widths]
    print(f"{'symbols':<62}" + "".join(f"{width:>10}" for width in widths))
    for title, name, factor in ROWS:
        print(f"{title:<62}" + "".join(f"{one.get(name, 0.0) * factor:>10.2f}" for one in found))
    print(f"{'times as fast as the usual way':<62}" + "".join(f"{one['usual'] / one['rules']:>10.1f}" for one in found))


if __name__ == "__main__":
    main()
