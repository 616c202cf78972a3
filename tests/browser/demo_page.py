"""The demo with a hand on its exchange, and a page that remembers what it complained about."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

import msgspec
from playwright.sync_api import BrowserContext, Page

from local.asking import exchange_for
from local.backfilling import backfill_if_needed
from local.demo import demo_settings
from local.exchange.market import SimulatedMarket
from local.exchange.scenarios import Truth, demo_plan
from local.exchange.server import LocalExchange
from local.world import World, probe
from shared.alerts.model import Alert
from shared.clock import MINUTE_MS, ScaledClock, floor_minute_ms
from shared.settings import TelegramSettings
from shared.storage.sqlite import SqliteTable

SPEED = 60.0
SHOWN_MINUTES = 11  # after which everything that the plan's first hour holds has happened


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
        nobody = cast(Any, SimpleNamespace(url="http://127.0.0.1:9"))
        settings = demo_settings(self.exchange, self.market, folder, 0, nobody)
        silent = msgspec.structs.replace(settings.alerts, telegram=TelegramSettings())
        settings = msgspec.structs.replace(settings, alerts=silent)
        market_data = exchange_for(settings, clock=self.clock, table=self.table)
        self.world = World(
            settings, clock=self.clock, table=self.table, market_data=market_data, channels=[self.channel],
            available=probe(settings, market_data), speed=SPEED,
        )  # fmt: skip
        self.start_ms = start_ms

    def run(self) -> None:
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

    def open(self, url: str, *, ready: bool = True) -> Page:
        self.page.goto(url)
        if not ready:
            return self.page
        # Under the strict policy a string cannot be evaluated: wait for an attribute.
        self.page.locator("html[data-ready]").wait_for(state="attached", timeout=30_000)
        return self.page


class Open(Protocol):
    """Open a page and wait until it is ready; `bare` does not wait."""

    def __call__(self, url: str, **options: Any) -> Watched: ...

    def bare(self, url: str, **options: Any) -> Watched: ...
