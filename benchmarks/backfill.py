"""`tapewatch backfill` of a wide market against the local exchange: the time it states, and the time it takes.

    python -m benchmarks.backfill [--symbols 500] [--hours 17] [--latency-ms 40]

The command runs as a process of its own; the exchange, in this one, counts weights by its clock's minutes and answers
429 beyond 2,400. Wall time: 500 symbols weigh more than one minute allows, so the next one has to be waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.wide_market import WideMarket, made_sectors
from local.exchange.server import LocalExchange
from shared.clock import HOUR_MS, SystemClock, floor_minute_ms

_STATED = re.compile(r"about (\d+) s")


def environment(exchange: LocalExchange, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "TAPEWATCH_EXCHANGE__SPOT_REST_URL": exchange.rest_url,
        "TAPEWATCH_EXCHANGE__FUTURES_REST_URL": exchange.rest_url,
        "TAPEWATCH_UNIVERSE__FUTURES_ALL": "USDT",
        "TAPEWATCH_VOLUME_SPIKE__ENABLED": "false",
        "TAPEWATCH_STORAGE__SQLITE_PATH": str(folder / "state.sqlite"),
    }


def backfill(environment: dict[str, str], hours: float) -> tuple[dict[str, object], str, float, float]:
    """Run the command once; return its report, what it said meanwhile, the wall seconds and those of its CPU."""
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "local.cli", "backfill", "--hours", str(hours), "--json"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the command failed: {done.stderr[-2000:]}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
    return json.loads(done.stdout), done.stderr, time.perf_counter() - began, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--hours", type=float, default=17.0)
    parser.add_argument("--latency-ms", type=float, default=40.0)
    options = parser.parse_args()
    clock = SystemClock()
    start_ms = floor_minute_ms(clock.now_ms()) - round((options.hours + 1) * HOUR_MS)
    market = WideMarket(1, made_sectors(options.symbols - 1), start_ms, clock.now_ms() + HOUR_MS)
    with (
        LocalExchange(market, clock, latency_s=options.latency_ms / 1000) as exchange,
        tempfile.TemporaryDirectory() as folder,
    ):
        where = environment(exchange, Path(folder))
        for title in ("first", "again"):
            report, said, took, cpu = backfill(where, options.hours)
            stated = _STATED.search(said)
            print(
                f"{title}: stated {stated[1] + ' s' if stated else 'nothing'}, took {took:.1f} s (CPU {cpu:.1f} s), "
                f"{report['pages']} pages, {report['bars']:,} bars, weight {report['weight']:,}, "
                f"complete {report['complete']}, failed {len(report['failed'])}"  # type: ignore[arg-type]
            )


if __name__ == "__main__":
    main()
