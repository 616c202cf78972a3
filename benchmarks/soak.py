"""Kill, pause and cut a pair of streamers for a while, then compare all they stored with what the market really did.

    python -m benchmarks.soak [--seconds 60] [--seed 1] [--per-second 2000] [--guards]

Two streamers share one state file and one simulated exchange; every 1 to 2.5 seconds one of them is killed (SIGKILL) or
put to sleep for longer than its lease (SIGSTOP), or the network between them and the exchange is cut. Printed at the
end is the reliability card; the exit status is 1 when anything was lost, wrong or said twice without a fault. The truth
is the market itself, replayed from its seed. `--guards` also takes each guard away and tells which loss was caught.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.soak_judgement import LEASE, LEASE_S, SYMBOLS, gone_live, judged, market, settings
from benchmarks.soak_takeovers import LeaseSeen, TakeOvers
from local.exchange.proxy import FaultProxy
from local.exchange.server import LocalExchange
from local.terminal import Progress
from shared.alerts.model import Alert
from shared.alerts.service import AlertService
from shared.clock import SystemClock
from shared.exchange.binance.rest import BinanceMarketData
from shared.exchange.binance.transport import RequestsTransport
from shared.storage.schema import lease_key
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from streamer.service import StreamerService


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
    note = folder / f"status-{os.getpid()}"

    def tell(status: dict[str, Any]) -> None:
        note.with_suffix(".new").write_text(json.dumps(status))
        note.with_suffix(".new").replace(note)

    service = StreamerService(
        chosen, market_data, alerts, table, clock, symbols=SYMBOLS, progress=tell, owner=str(os.getpid())
    )

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await service.run(stop, flush_within_s=10.0)

    asyncio.run(main())
    tell(service.status())


def lease_seen(table: SqliteTable) -> LeaseSeen:
    item: dict[str, Any] = dict(table.get(lease_key(LEASE)) or {})
    return LeaseSeen(str(item.get("owner", "")), item.get("fence", 0), item.get("beat", 0))


def guards_caught() -> tuple[int, int]:
    """Take each guard away in the rows of the fault matrix; return how many, and how many losses were seen."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-rP", "tests/faults/test_instances.py"]
    done = subprocess.run([*words, "-k", "without_its_guard"], capture_output=True, text=True, check=False)
    return done.stdout.count(": removed, "), done.stdout.count(": removed, caught")


def soak(seconds: float, seed: int, folder: Path, per_s: float = 200.0) -> dict[str, Any]:
    rng, clock = random.Random(seed), SystemClock()
    source = market(seed, clock.now_ms(), per_s)
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

        table = SqliteTable(str(folder / "state.sqlite"))
        taking_over = TakeOvers(partial(lease_seen, table))

        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=(folder / "errors").open("ab"))
            taking_over.awake(process.pid)
            return process

        def wake(process: subprocess.Popen[bytes]) -> None:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                taking_over.awake(process.pid)

        running = [start(), start()]
        progress = Progress("soak")
        lateness: list[float] = []
        seen: set[tuple[str, int]] = set()

        def look(began_ms: int) -> None:
            now_ms = clock.now_ms()
            for symbol in SYMBOLS:
                for row in WindowRepository(table).range("spot", symbol, now_ms - 60_000, now_ms):
                    key = (symbol, row["start_ms"])
                    if key not in seen:
                        seen.add(key)
                        if row["end_ms"] > began_ms + 10_000:
                            lateness.append((now_ms - row["end_ms"]) / 1000)

        began, began_ms, live_ms, next_s = time.monotonic(), clock.now_ms(), 0, 0.0
        while (elapsed := time.monotonic() - began) < seconds:
            time.sleep(0.05)
            look(began_ms)
            taking_over.look()
            if not live_ms and gone_live(folder):
                live_ms, next_s = clock.now_ms(), 2.0
                began, elapsed = time.monotonic(), 0.0  # the seconds count from here
            progress(int(elapsed), int(seconds), f"{len(seen)} windows")
            if not live_ms or elapsed < next_s or elapsed > seconds - 12:
                continue
            next_s = elapsed + rng.uniform(1.0, 2.5)
            victim, what = rng.randrange(2), rng.choice(("kills", "pauses", "cuts"))
            faults[what] += 1
            if what == "kills":
                running[victim].kill()
                running[victim].wait()
                taking_over.struck(running[victim].pid)
                running[victim] = start()
            elif what == "pauses":
                os.kill(running[victim].pid, signal.SIGSTOP)
                taking_over.struck(running[victim].pid)
                threading.Timer(LEASE_S * 1.5, wake, (running[victim],)).start()
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
    return {
        **judged(source, folder, live_ms, end_ms),
        "faults injected": sum(faults.values()),
        **faults,
        "take-overs": len(taking_over.took_s),
        "take-over p50 s": round(statistics.median(taking_over.took_s), 2) if taking_over.took_s else None,
        "take-over max s": round(max(taking_over.took_s), 2) if taking_over.took_s else None,
        "unowned max s": round(max(taking_over.unowned_s), 2) if taking_over.unowned_s else None,
        "owners back in time": taking_over.returned,
        "lateness p50 s": round(statistics.median(lateness), 2) if lateness else None,
        "lateness p99 s": round(sorted(lateness)[len(lateness) * 99 // 100], 2) if lateness else None,
        "lateness max s": round(max(lateness), 2) if lateness else None,
    }


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
        return 0
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the exchange's sends to those that were just killed
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-second", type=float, default=2000.0, help="trades a second, over all symbols")
    parser.add_argument("--guards", action="store_true", help="also take each guard away and see who notices")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        card = soak(options.seconds, options.seed, Path(name), options.per_second)
    if options.guards:
        removed, caught = guards_caught()
        card |= {"guards removed": removed, "guards caught": caught}
    for word, value in card.items():
        print(f"{word:<20}{value}")
    bad = sum(
        card[k] for k in ("windows missing", "windows wrong", "windows extra", "windows incomplete", "signals lost")
    )
    bad += card.get("guards removed", 0) - card.get("guards caught", 0)
    return 1 if bad or card["alerts sent twice"] > card["kills"] + card["pauses"] else 0


if __name__ == "__main__":
    sys.exit(main())
