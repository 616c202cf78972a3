"""The demo's whole system in this process, its page in a real browser. Every test here carries the marker `browser`."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="python3 start.py setup browser")

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from local.asking import exchange_for
from local.backfilling import backfill_if_needed
from local.demo import demo_settings
from local.exchange.market import SimulatedMarket
from local.exchange.scenarios import Truth, demo_plan
from local.exchange.server import LocalExchange
from local.world import World, probe
from shared.alerts.model import Alert
from shared.clock import MINUTE_MS, ScaledClock, floor_minute_ms
from shared.storage.sqlite import SqliteTable

ROOT = Path(__file__).resolve().parents[2]
SPEED = 60.0
SHOWN_MINUTES = 11  # after which everything that the plan's first hour holds has happened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.browser)


class StoppableClock(ScaledClock):
    """The exchange's clock: while `held` it stands still, so the exchange answers pings and sends nothing."""

    held_ms: int | None = None

    def now_ms(self) -> int:
        return super().now_ms() if self.held_ms is None else self.held_ms

    def hold(self) -> None:
        self.held_ms = super().now_ms()

    def release(self) -> None:
        self.held_ms = None


class Quiet:
    """A channel that keeps what it is given."""

    name = "console"

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


class Demo:
    """The demo as `tapewatch demo` builds it, with a hand on its exchange."""

    def __init__(self, folder: Path) -> None:
        start_ms = floor_minute_ms(time.time_ns() // 1_000_000) - MINUTE_MS
        self.clock = ScaledClock(start_ms, SPEED, running=False)
        self.exchange_clock = StoppableClock(start_ms, SPEED, running=False)
        self.market = SimulatedMarket(seed=7, start_ms=start_ms, plan=demo_plan(start_ms))
        self.exchange = LocalExchange(self.market, self.exchange_clock)
        self.exchange.start()
        self.channel = Quiet()
        self.table = SqliteTable(str(folder / "demo.sqlite"))
        settings = demo_settings(self.exchange, self.market, folder, 0)
        market_data = exchange_for(settings, clock=self.clock, table=self.table)
        self.world = World(
            settings, clock=self.clock, table=self.table, market_data=market_data, channels=[self.channel],
            available=probe(settings, market_data), speed=SPEED,
        )  # fmt: skip
        self.start_ms = start_ms

    def run(self) -> None:
        import threading

        stop = threading.Event()
        backfill_if_needed(self.world, lambda text: None, stop)
        self.world.start()
        self.world.wait_until_live(stop, within_s=30.0)
        self.clock.start()
        self.exchange_clock.start()

    @property
    def url(self) -> str:
        assert self.world.api is not None
        return str(self.world.api.url)

    def truth(self) -> list[Truth]:
        """What was planted into the first minutes."""
        return [one for one in self.market.truth() if one.end_ms <= self.start_ms + SHOWN_MINUTES * MINUTE_MS]

    def close(self) -> None:
        self.world.stop()
        self.exchange.stop()
        self.table.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo whose planted events have all been seen."""
    made = Demo(tmp_path_factory.mktemp("demo"))
    made.run()
    wanted = {one.kind for one in made.truth()}
    end = time.monotonic() + 90
    while time.monotonic() < end:
        seen = {alert.detector.value for alert in made.channel.alerts}
        if seen >= wanted and made.clock.now_ms() > made.start_ms + SHOWN_MINUTES * MINUTE_MS:
            break
        time.sleep(0.2)
    yield made
    made.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("TAPEWATCH_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.fail("no chromium: apt-get install chromium, or name one in TAPEWATCH_CHROMIUM")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


class Watched:
    """A page and everything that it complained about."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.answers: list[tuple[int, str]] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("response", lambda answer: self.answers.append((answer.status, answer.url)))
        self.page.on("requestfailed", lambda asked: self.complaints.append(f"failed: {asked.url} {asked.failure}"))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, url: str) -> Page:
        self.page.goto(url)
        # Under the strict policy a string cannot be evaluated: wait for an attribute.
        self.page.locator("html[data-ready]").wait_for(state="attached", timeout=30_000)
        return self.page


Open = Callable[..., Watched]


@pytest.fixture
def watched(browser: Browser) -> Iterator[Open]:
    """Open a page: `watched(url, **context options)`."""
    contexts: list[BrowserContext] = []

    def make(url: str, **options: Any) -> Watched:
        options.setdefault("viewport", {"width": 1360, "height": 1000})
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        made = Watched(context)
        made.open(url)
        return made

    expect.set_options(timeout=15_000)
    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's source, by npm's own client, checked against its published hash."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("npm is needed to fetch axe-core")
    subprocess.run([npm, "pack", "--silent", "axe-core@4.14.1"], cwd=folder, check=True, timeout=120)
    packed = folder / "axe-core-4.14.1.tgz"
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    assert digest == AXE_SHA512
    with tarfile.open(packed) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are kept."""
    folder = Path(os.environ.get("TAPEWATCH_ARTIFACTS") or ROOT / "build") / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
