"""Kill, pause and cut a pair of streamers for a while, then compare all they stored with what the market really did.

    python -m benchmarks.soak [--seconds 60] [--seed 1]

Two streamers share one state file and one simulated exchange; every 1 to 2.5 seconds one of them is killed (SIGKILL) or
put to sleep for longer than its lease (SIGSTOP), or the network between them and the exchange is cut. Printed at the
end is the reliability card; the exit status is 1 when anything was lost, wrong or said twice without a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from local.exchange.market import SimulatedMarket
from local.exchange.proxy import FaultProxy
from local.exchange.server import LocalExchange
from local.exchange.source import Instrument
from local.exchange.universe import Coin, SimulatedSymbol
from local.terminal import Progress
from shared.alerts.model import Alert
from shared.alerts.service import AlertService
from shared.clock import SystemClock
from shared.detection.reading import Detector
from shared.exchange.binance.rest import BinanceMarketData
from shared.exchange.binance.transport import RequestsTransport
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import (
    AlertSettings,
    ExchangeSettings,
    SectorSettings,
    Settings,
    StreamerSettings,
    TradeSpikeSettings,
    UniverseSettings,
    WindowAnomalySettings,
)
from shared.storage.signals import SignalRepository
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from streamer.actions import EmitSignal, FitModel, StoreWindows
from streamer.service import StreamerService
from streamer.session import Session

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")
WINDOW_S = 2
LEASE_S = 2.0


def settings(rest: str, stream: str) -> Settings:
    return Settings(
        exchange=ExchangeSettings(
            spot_rest_url=rest, spot_ws_url=stream, futures_rest_url=rest, futures_ws_url=stream, weight_share=1.0
        ),
        universe=UniverseSettings(spot_symbols=SYMBOLS),
        trade_spike=TradeSpikeSettings(window_trades=50, multiple=8.0, alert_rarity_max=1.0, burst_gap_s=1.0),
        window_anomaly=WindowAnomalySettings(window_seconds=WINDOW_S, lateness_seconds=0.5, first_fit=5000),
        alerts=AlertSettings(cooldown_minutes_per_symbol=0.0, direction_swap_grace_minutes=0.0),
        sector=SectorSettings(enabled=False),
        streamer=StreamerSettings(
            lease_seconds=LEASE_S, watchdog_seconds=3.0, warmup_hours=0.01, heartbeat_seconds=1.0
        ),
    )


class FileChannel:
    """Notes each alert's id: a line is what a person would have been sent."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, alert: Alert) -> None:
        with self._path.open("a") as file:
            file.write(alert.alert_id + "\n")


def child(folder: Path, rest: str, stream: str) -> None:
    """One streamer, as a process of its own."""
    chosen, clock, table = settings(rest, stream), SystemClock(), SqliteTable(str(folder / "state.sqlite"))
    market_data = BinanceMarketData(chosen.exchange, RequestsTransport(4), clock)
    alerts = AlertService.on_table(table, [FileChannel(folder / "sent")], chosen, clock)
    service = StreamerService(chosen, market_data, alerts, table, clock, symbols=SYMBOLS)

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await service.run(stop, flush_within_s=10.0)

    asyncio.run(main())
    print(json.dumps({k: v for k, v in service.status().items() if k in ("refused_writes", "filled", "gaps")}))


def market(seed: int, start_ms: int) -> SimulatedMarket:
    coin = Coin(10.0, 4, 2, 1.0, 0.0005, 50.0, 1_000_000.0)
    return SimulatedMarket(
        seed,
        start_ms,
        symbols=[SimulatedSymbol(Instrument(Market.SPOT, s, s[:-4], "USDT", 4, 2), coin, 36_000) for s in SYMBOLS],
    )


def golden(
    source: SimulatedMarket, chosen: Settings, first: dict[str, int], end_ms: int
) -> tuple[dict[Any, Any], set[str], int]:
    """Return every window and spike of the trades from each symbol's first id on."""
    windows: dict[Any, Any] = {}
    spikes: set[str] = set()
    count = 0
    for symbol in SYMBOLS:
        session, from_id = Session(chosen, Market.SPOT, [symbol]), first[symbol]
        while page := source.prints(Market.SPOT, symbol, aggregate=False, from_id=from_id, limit=1000, now_ms=end_ms):
            for p in page:
                side = Side.SELL if p.buyer_is_maker else Side.BUY
                trade = Trade(
                    Market.SPOT, symbol, TradeKind.TRADE, p.id, float(p.price), float(p.quantity), side, p.time_ms, 0
                )
                count += 1
                for action in session.trade(trade):
                    if isinstance(action, StoreWindows):
                        windows.update({(symbol, v.window.start_ms): v.window for v in action.verdicts})
                    elif isinstance(action, EmitSignal) and action.signal.detector is Detector.TRADE_SPIKE:
                        spikes.add(f"{symbol}:{action.signal.trade_id}")
                    elif isinstance(action, FitModel):
                        session.give_up(symbol, action.request)
            from_id = page[-1].id + 1
    return windows, spikes, count


def stored_spikes(table: SqliteTable) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page, cursor = SignalRepository(table).range(detector=Detector.TRADE_SPIKE, limit=500, cursor=cursor)
        found += [f"{one.signal.symbol}:{one.signal.trade_id}" for one in page]
        if cursor is None:
            return found


def soak(seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    rng, clock = random.Random(seed), SystemClock()
    source = market(seed, clock.now_ms())
    faults = {"kills": 0, "pauses": 0, "cuts": 0}
    with LocalExchange(source, clock) as exchange:
        loop, ready = asyncio.new_event_loop(), threading.Event()
        threading.Thread(target=lambda: (loop.call_soon(ready.set), loop.run_forever()), daemon=True).start()
        ready.wait()
        proxy = FaultProxy("127.0.0.1", exchange.port)
        port = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
        words = [
            sys.executable,
            "-m",
            "benchmarks.soak",
            "--child",
            str(folder),
            exchange.rest_url,
            f"ws://127.0.0.1:{port}",
        ]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=(folder / "errors").open("ab"))

        running = [start(), start()]
        progress = Progress("soak")
        lateness: list[float] = []
        seen: set[tuple[str, int]] = set()
        table = SqliteTable(str(folder / "state.sqlite"))

        def look(began_ms: int) -> None:
            now_ms = clock.now_ms()
            for symbol in SYMBOLS:
                for row in WindowRepository(table).range("spot", symbol, now_ms - 60_000, now_ms):
                    key = (symbol, row["start_ms"])
                    if key not in seen:
                        seen.add(key)
                        if row["end_ms"] > began_ms + 10_000:
                            lateness.append((now_ms - row["end_ms"]) / 1000)

        began, began_ms, next_s = time.monotonic(), clock.now_ms(), 8.0
        while (elapsed := time.monotonic() - began) < seconds:
            time.sleep(0.1)
            look(began_ms)
            progress(int(elapsed), int(seconds), f"{len(seen)} windows")
            if elapsed < next_s or elapsed > seconds - 12:
                continue
            next_s = elapsed + rng.uniform(1.0, 2.5)
            victim, what = rng.randrange(2), rng.choice(("kills", "pauses", "cuts"))
            faults[what] += 1
            if what == "kills":
                running[victim].kill()
                running[victim].wait()
                running[victim] = start()
            elif what == "pauses":
                os.kill(running[victim].pid, signal.SIGSTOP)
                paused = running[victim]
                threading.Timer(
                    LEASE_S * 1.5, lambda p=paused: p.poll() is None and os.kill(p.pid, signal.SIGCONT)
                ).start()
            else:
                proxy.cut_after = rng.randrange(1, 2000)
        time.sleep(LEASE_S * 2)
        for process in running:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.terminate()
        for process in running:
            process.wait(30)
        progress.close()
        end_ms = clock.now_ms()
    rows = {
        (symbol, row["start_ms"]): row
        for symbol in SYMBOLS
        for row in WindowRepository(table).range("spot", symbol, 0, end_ms)
    }
    first = {s: min(int(row["first_id"]) for (symbol, _), row in rows.items() if symbol == s) for s in SYMBOLS}
    last = {s: max(start for symbol, start in rows if symbol == s) for s in SYMBOLS}
    windows, spikes, trades = golden(source, settings("http://x", "ws://x"), first, end_ms)
    windows = {key: window for key, window in windows.items() if key[1] <= last[key[0]]}

    def same(row: dict[str, Any], window: Any) -> bool:
        names = ("trade_count", "volume", "first_id", "last_id", "first_price", "last_price", "complete")
        return all(row[name] == getattr(window, name) for name in names)

    told = stored_spikes(table)
    newest = {s: max((int(k.split(":")[1]) for k in told if k.startswith(s)), default=0) for s in SYMBOLS}
    # What is judged: from 50 trades behind the first stored one (the rule's own warming) to the last that was told.
    expected = {k for k in spikes if int(k.split(":")[1]) <= newest[k.split(":")[0]]}
    sent = (folder / "sent").read_text().split() if (folder / "sent").exists() else []
    begin_s = {s: windows_start(rows, s) for s in SYMBOLS}
    return {
        "trades": trades,
        "windows stored": len(rows),
        "windows missing": len([k for k in windows.keys() - rows.keys() if k[1] >= begin_s[k[0]]]),
        "windows wrong": sum(
            not same(rows[k], windows[k]) for k in windows.keys() & rows.keys() if rows[k]["complete"]
        ),
        "windows incomplete": sum(not row["complete"] for row in rows.values()),
        "windows extra": len(rows.keys() - windows.keys()),
        "signals": len(expected),
        "signals lost": len(expected - set(told)),
        "alerts sent": len(sent),
        "alerts sent twice": len(sent) - len(set(sent)),
        **faults,
        "lateness p50 s": round(statistics.median(lateness), 2) if lateness else None,
        "lateness p99 s": round(sorted(lateness)[len(lateness) * 99 // 100], 2) if lateness else None,
        "lateness max s": round(max(lateness), 2) if lateness else None,
    }


def windows_start(rows: dict[tuple[str, int], Any], symbol: str) -> int:
    return min(start for name, start in rows if name == symbol)


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        card = soak(options.seconds, options.seed, Path(name))
    for word, value in card.items():
        print(f"{word:<20}{value}")
    bad = sum(
        card[k] for k in ("windows missing", "windows wrong", "windows extra", "windows incomplete", "signals lost")
    )
    return 1 if bad or card["alerts sent twice"] > card["kills"] + card["pauses"] else 0


if __name__ == "__main__":
    sys.exit(main())
