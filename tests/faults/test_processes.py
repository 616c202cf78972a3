"""F109, F119, F410: streamers as processes of their own, stopped by signals and told the wrong time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import lease_seen
from benchmarks.soak_judgement import LEASE_S, SYMBOLS, gone_live, judged, market
from benchmarks.soak_takeovers import TakeOvers
from local.exchange import server
from local.exchange.market import SimulatedMarket
from local.exchange.server import LocalExchange
from shared.clock import SystemClock
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from tests.faults.harness import figure
from tests.streamer.test_service import FAR_MS, wait_until

ROOT = Path(__file__).resolve().parents[2]
PER_S = 100.0
FAKETIME = [
    path
    for path in (
        *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
        *Path("/usr/lib/faketime").glob("libfaketimeMT.so.1"),
    )
    if path.is_file()
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and /proc as Linux has them"),
]


class World:
    """An exchange, a folder with the state file, and the streamers that share them."""

    def __init__(self, exchange: LocalExchange, source: SimulatedMarket, folder: Path) -> None:
        self.exchange, self.source, self.folder = exchange, source, folder
        self.table = SqliteTable(str(folder / "state.sqlite"))
        self.live_ms = 0  # when the first streamer had certainly gone live
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "benchmarks.soak", "--child", str(self.folder)]
        child = subprocess.Popen(
            [*words, self.exchange.rest_url, self.exchange.ws_url],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "errors").open("ab"),
        )
        self.children.append(child)
        return child

    def status(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self.folder / f"status-{child.pid}").read_text())
        except FileNotFoundError:
            return {}
        return told

    def windows(self) -> int:
        count = len(WindowRepository(self.table).range("spot", SYMBOLS[0], 0, FAR_MS))
        if not self.live_ms and gone_live(self.folder):
            self.live_ms = SystemClock().now_ms()
        return count if self.live_ms else 0

    def caught_up(self) -> bool:
        """Every symbol has a window that began within the last few seconds."""
        since_ms = SystemClock().now_ms() - 8_000
        return all(WindowRepository(self.table).range("spot", s, since_ms, FAR_MS) for s in SYMBOLS)

    def end(self) -> dict[str, Any]:
        """End the streamers and return the card of what they stored."""
        for child in self.children:
            if child.poll() is None:
                os.kill(child.pid, signal.SIGCONT)
                child.terminate()
        for child in self.children:
            child.wait(60)
        card = judged(self.source, self.folder, self.live_ms, SystemClock().now_ms())
        figure(**{word: card[word] for word in card if word.startswith(("windows", "signals", "trades"))})
        return card


@contextmanager
def world(folder: Path) -> Iterator[World]:
    clock = SystemClock()
    source = market(5, clock.now_ms(), PER_S)
    with LocalExchange(source, clock) as exchange:
        one = World(exchange, source, folder)
        try:
            yield one
        finally:
            for child in one.children:
                if child.poll() is None:
                    child.kill()
                    child.wait()


def _clean(card: dict[str, Any]) -> bool:
    words = ("windows missing", "windows wrong", "windows extra", "windows incomplete", "signals lost")
    return not any(card[word] for word in words)


def test_f109_f119_ten_seconds_of_sleep_cost_no_connection_and_no_trade(tmp_path: Path) -> None:
    """The exchange pings each 20 s and waits 60 s for the pong, as Binance does."""
    with world(tmp_path) as here:
        child = here.start()
        wait_until(lambda: here.windows() > 2, 60)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(10)
        os.kill(child.pid, signal.SIGCONT)
        wait_until(here.caught_up, 60)
        time.sleep(1.1)  # the status is told once a second
        status = here.status(child)
        peak_kb = int(
            next(
                line.split()[1]
                for line in Path(f"/proc/{child.pid}/status").read_text().splitlines()
                if line.startswith("VmHWM")
            )
        )
        card = here.end()
    figure(dropped_connections=status["reconnects"], peak_mb=peak_kb // 1024)
    assert status["reconnects"] == 0
    assert _clean(card), card
    assert peak_kb <= 256 * 1024


def test_f119_seventy_seconds_of_sleep_are_one_clean_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the real times: pings each second, 3 s for the pong; asleep 0.5 s, then until it is dropped."""
    monkeypatch.setattr(server, "PING_EVERY_S", 1.0)
    monkeypatch.setattr(server, "PONG_WITHIN_S", 3.0)
    with world(tmp_path) as here:
        child = here.start()
        wait_until(lambda: here.windows() > 2, 60)
        for _ in range(3):
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(child.pid, signal.SIGCONT)
            time.sleep(0.7)
        wait_until(here.caught_up, 60)
        before = here.status(child)["reconnects"]
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: here.exchange.connections == 0, 30)  # pinged, no pong: dropped
        os.kill(child.pid, signal.SIGCONT)
        wait_until(lambda: here.status(child).get("reconnects") == 1, 30)
        wait_until(here.caught_up, 60)
        after = here.status(child)["reconnects"]
        card = here.end()
    figure(drops_after_short_sleeps=before, recoveries_after_the_long_one=after)
    assert (before, after) == (0, 1)
    assert _clean(card), card


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed (Debian: apt-get install libfaketime)")
@pytest.mark.parametrize(("owner", "standby"), [("+600s", "-600s"), ("-600s", "+600s")])
def test_f410_an_expiry_is_judged_by_the_own_monotonic_clock(tmp_path: Path, owner: str, standby: str) -> None:
    """Both wall clocks are wrong by ten minutes; nobody takes over from the living, and soon from the dead."""
    wrong = {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    with world(tmp_path) as here:
        first = here.start(FAKETIME=owner, **wrong)
        wait_until(lambda: here.windows() > 1, 60)
        over = TakeOvers(lambda: lease_seen(here.table))
        held = lease_seen(here.table)
        assert held.owner == str(first.pid)
        second = here.start(FAKETIME=standby, **wrong)
        over.awake(second.pid)
        wait_until(lambda: here.status(first) and here.folder.joinpath("errors").exists(), 60)
        time.sleep(4 * LEASE_S)
        now = lease_seen(here.table)
        assert (now.owner, now.fence) == (held.owner, held.fence)
        assert second.poll() is None
        first.kill()
        over.struck(first.pid)

        def taken() -> bool:
            over.look()
            return bool(over.took_s)

        wait_until(taken, 30)
        now = lease_seen(here.table)
        assert (now.owner, now.fence) == (str(second.pid), held.fence + 1)
        wait_until(here.caught_up, 60)
        card = here.end()
    figure(take_over_s=round(over.took_s[0], 2), lease_s=LEASE_S)
    assert over.took_s[0] >= LEASE_S * 0.6  # not before the standby itself has seen a whole lease's silence
    assert _clean(card), card
