"""Sizes and timings of page and API, on a store with a week of ten symbols.

    python -m benchmarks.page [--requests N] [--screenshot FILE.png] [--no-browser]

Reads are timed inside the handler, in this thread's CPU time beside the wall: other programs on the machine move the
second and not the first. With a browser (`start.py setup browser`, chromium) the page is opened on the same store:
first paint, 720 bars on the screen, one update at 10,000 bars. `--screenshot` takes the README's picture of the demo
instead.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import week
from functions import api
from functions.api_access import OneTimeAccess
from local.page_files import WEB
from local.scheduler import LocalContext
from local.server import ApiServer
from shared.clock import ManualClock
from shared.jobs.deps import Dependencies
from shared.storage import packed_bars

READS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/api/get_signal", {}),
    ("/api/get_signal", {"symbol": "ZECUSDT"}),
    ("/api/signals", {}),
    ("/api/signals", {"limit": "500"}),
    ("/api/signals", {"symbol": "BTCUSDT"}),
    ("/api/signals", {"symbol": "NOPEUSDT"}),
    ("/api/signals", {"detector": "trade_spike", "since": "24h"}),
    ("/api/alerts", {}),
    ("/api/alerts", {"limit": "500"}),
    ("/api/alerts", {"symbol": "BTCUSDT", "since": "24h"}),
    ("/api/bars/BTCUSDT", {"minutes": "720"}),
    ("/api/bars/XMRUSDT", {"minutes": "5", "market": "usdm"}),
    ("/api/features", {}),
    ("/api/features", {"symbol": "XMRUSDT", "minutes": "720"}),
    ("/api/windows/BTCUSDT", {}),
    ("/api/windows/BTCUSDT", {"limit": "500"}),
    ("/api/windows/BTCUSDT/scores", {}),
    ("/api/order-book/BTCUSDT", {"minutes": "60"}),
    ("/api/order-book/BTCUSDT", {"minutes": "720"}),
    ("/api/health", {}),
    ("/api/summary", {}),
    ("/api/cooldowns", {}),
    ("/api/quality", {}),
    ("/api/universe", {}),
    ("/api/mutes", {}),
)


def sizes() -> None:
    """Print what a first visit transfers."""
    total = 0
    print(f"{'file':<42}{'bytes':>9}{'gzip -9':>9}")
    for path in sorted(WEB.rglob("*")):
        if path.suffix in (".html", ".css", ".js", ".svg"):
            raw = path.read_bytes()
            packed = len(gzip.compress(raw, 9, mtime=0))
            total += packed
            print(f"{path.relative_to(WEB).as_posix():<42}{len(raw):>9,}{packed:>9,}")
    print(f"{'together (limit 100,000)':<42}{'':>9}{total:>9,}\n")


def reads(handler: Callable[[Any, Any], dict[str, Any]], requests: int) -> None:
    """Print each read's time and size; `first` had no bar in memory."""
    print(f"{'read':<58}{'kB':>7}{'first':>9}{'p50 ms':>8}{'p99 cpu':>9}{'p99 wall':>9}")
    worst = 0.0
    for path, query in READS:
        cpu, wall, size = [], [], 0
        for number in range(requests):
            if number == 0:
                packed_bars.unpack_bar.cache_clear()
            event = {
                "version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {},
                "queryStringParameters": query or None, "body": None, "isBase64Encoded": False,
                "requestContext": {"http": {"method": "GET", "path": path}, "stage": "$default", "requestId": "1"},
            }  # fmt: skip
            began, began_cpu = time.perf_counter(), time.thread_time()
            answer = handler(event, LocalContext("benchmark"))
            cpu.append(1000 * (time.thread_time() - began_cpu))
            wall.append(1000 * (time.perf_counter() - began))
            assert answer["statusCode"] == 200, answer
            size = len(answer["body"])
        first, p99 = cpu[0], statistics.quantiles(cpu, n=100)[98]
        worst = max(worst, p99)
        words = path + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")
        print(f"{words:<58}{size / 1000:>7.1f}{first:>9.2f}{statistics.median(cpu):>8.2f}{p99:>9.2f}"
              f"{statistics.quantiles(wall, n=100)[98]:>9.2f}")  # fmt: skip
    print(f"{'slowest p99, CPU (limit 20)':<58}{'':>7}{'':>9}{'':>8}{worst:>9.2f}\n")


_UPDATES = """() => {
  const bars = [], minute = 60;
  let price = 100;
  for (let i = 0; i < 10000; i++) {
    const close = price * (1 + 0.001 * Math.sin(i * 1.7));
    bars.push({ time: 1700000000 - 1700000000 % minute + i * minute, open: price, close, high: Math.max(price, close),
      low: Math.min(price, close), value: 5 + (i * 7) % 11 });
    price = close;
  }
  const began = performance.now();
  tapewatch.drawBars(bars);
  const drawn = performance.now() - began, last = bars[bars.length - 1], begun = performance.now();
  for (let i = 0; i < 500; i++) {
    tapewatch.addBar({ ...last, time: last.time + (i >> 2) * minute, close: last.close + i % 5 });
  }
  return { draw_10000_ms: drawn, update_ms: (performance.now() - begun) / 500 };
}"""

_VISITS = 9

_PAINT = """() => ({ first_paint_ms: performance.getEntriesByName('first-contentful-paint')[0].startTime,
  transferred: performance.getEntriesByType('resource').length })"""


def browser(server: ApiServer) -> None:
    """Print what a real browser measures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        rows = []
        for _ in range(_VISITS):
            context = running.new_context(viewport={"width": 1360, "height": 1000}, bypass_csp=True)
            page = context.new_page()
            page.goto(server.url)
            page.locator("html[data-ready]").wait_for(state="attached")
            page.wait_for_timeout(500)
            root = page.locator("html")
            row = page.evaluate(_PAINT)
            row["bars_painted_ms"] = float(root.get_attribute("data-painted-ms") or "nan")
            row["chart_made_ms"] = float(root.get_attribute("data-bars-ms") or "nan")
            row["all_panels_ms"] = float(root.get_attribute("data-ready-ms") or "nan")
            row["draw_720_ms"] = float(root.get_attribute("data-first-draw") or "nan")
            row |= page.evaluate(_UPDATES)
            rows.append(row)
            context.close()
        running.close()
    for name in rows[0]:
        print(f"{name:<20}{statistics.median(row[name] for row in rows):>9.2f}   (median of {len(rows)} visits)")


def screenshot(target: Path) -> None:
    """Start the demo, wait until each kind has been seen, and take its picture."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "local.cli", "demo", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        url = next(line.split()[-1] for line in demo.stderr if "/api/health" in line)
        url = url.removesuffix("/api/health")
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with urllib.request.urlopen(f"{url}/api/summary") as answer:
                counts = json.load(answer)["detectors"]
            if sum(count > 0 for count in counts.values()) >= 6:
                break
            time.sleep(1)
        time.sleep(12)
        with sync_playwright() as playwright:
            running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            page = running.new_page(viewport={"width": 1360, "height": 1150}, color_scheme="dark")
            page.goto(url)
            page.locator("html[data-ready]").wait_for(state="attached")
            page.wait_for_timeout(1500)
            target.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=target)
            running.close()
        demo.terminate()
        demo.communicate(timeout=20)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


def chromium() -> str:
    found = os.environ.get("TAPEWATCH_CHROMIUM") or shutil.which("chromium")
    if found is None:
        raise SystemExit("no chromium: apt-get install chromium, or name one in TAPEWATCH_CHROMIUM")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--screenshot", type=Path, metavar="FILE.png")
    arguments = parser.parse_args()
    if arguments.screenshot:
        screenshot(arguments.screenshot)
        return 0
    sizes()
    with tempfile.TemporaryDirectory() as folder:
        table, end_ms = week.fill(Path(folder) / "week.sqlite", days=arguments.days)
        clock = ManualClock(end_ms)
        deps = Dependencies(week.settings(), None, table, None, clock)  # type: ignore[arg-type]  # reads need neither
        handler = api.make_handler(lambda: deps, OneTimeAccess())
        api.settled(deps)
        reads(handler, arguments.requests)
        if not arguments.no_browser:
            server = ApiServer(handler, clock, host="127.0.0.1", port=0)
            server.start()
            browser(server)
            server.stop()
        table.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
