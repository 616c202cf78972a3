"""Rows of the fault matrix as functions that say whether all went well: True, and False without their guard."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from pathlib import Path

from websockets.asyncio.server import ServerConnection

from shared.storage.sqlite import SqliteTable
from tests.faults.harness import Exchange, figure, finished, judge, make_service, stream_through
from tests.streamer.feed import Feed
from tests.streamer.streams import frame, settings
from tests.streamer.test_service import FakeAlerts, ServedFeed, wait_until

LEASE_S = 1.0


def f105_silence() -> bool:
    """The feed falls silent for good, pings are answered: only replacing the connection brings it back in time."""
    silent_s: list[float] = []

    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if number == 1 and exchange.position > 400:
            silent_s.append(time.monotonic())
            while client.state.name == "OPEN" and time.monotonic() - silent_s[0] < 8:
                await asyncio.sleep(0.05)
            silent_s.append(time.monotonic())
            return True
        return False

    verdict, _ = stream_through(Exchange(act=act, per_s=250), base=settings(watchdog_seconds=1.0), within_s=30)
    return verdict.clean and silent_s[1] - silent_s[0] <= 3.5


def f106_dropped_packets() -> bool:
    """Everything that the exchange sends is dropped by the kernel (nftables; run it in a network namespace of its own):
    no packet says that the connection is gone."""
    exchange, base, table, alerts = (
        Exchange(per_s=150), settings(watchdog_seconds=1.0), SqliteTable(":memory:"), FakeAlerts()
    )  # fmt: skip
    with ServedFeed(exchange.script) as feed:
        port = feed.url.rpartition(":")[2]
        service = make_service(feed.url, exchange, table, alerts, base)
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] > 200)
        _nft(f"add table inet hole; add chain inet hole out {{ type filter hook output priority 0; }}; "
             f"add rule inet hole out tcp sport {port} drop")  # fmt: skip
        since_s = time.monotonic()
        wait_until(lambda: service.status()["reconnects"] >= 1)
        figure(row="F106 nftables", noticed_s=round(time.monotonic() - since_s, 2))
        _nft("delete table inet hole")
        wait_until(lambda: finished(service, exchange), 60)
        wait_until(lambda: service.status()["queued"] == 0)
        stopped = service.stop(15)
    return stopped and judge(exchange, table, [alerts], base).clean


def _nft(commands: str) -> None:
    subprocess.run(["nft", commands], check=True)


def f110_repeats() -> bool:
    exchange = Exchange(count=400, per_s=500, mangle=lambda step: [frame(t) for t in step for _ in (1, 2)])
    verdict, _ = stream_through(exchange)
    return verdict.clean


def f112_gap() -> bool:
    exchange = Exchange(
        count=600,
        mangle=lambda step: [
            frame(t) for t in step if not (t.symbol == "BTCUSDT" and 1300 <= (t.trade_id or 0) < 1340)
        ],
    )
    verdict, _ = stream_through(exchange, within_s=12)
    return verdict.clean


def f407_kill(folder: Path) -> bool:
    """A kill is a copy of the state file at any moment: what it holds must continue to the golden end."""
    base, exchange = settings(warmup_trades=True, warmup_hours=10_000.0), Exchange(per_s=300)
    first, second = FakeAlerts(), FakeAlerts()
    with ServedFeed(exchange.script) as feed:
        state, kept = folder / "state.sqlite", folder / "kept.sqlite"
        killed = make_service(feed.url, exchange, SqliteTable(str(state)), first, base)
        killed.run_in_thread()
        wait_until(lambda: killed.status()["windows"] > 20, 20)
        with sqlite3.connect(str(state)) as source, sqlite3.connect(str(kept)) as target:
            source.backup(target)
        said = FakeAlerts()
        said.signals = list(first.signals)
        killed.stop(10)
        table = SqliteTable(str(kept))
        after = make_service(feed.url, exchange, table, second, base)
        after.run_in_thread()
        wait_until(lambda: finished(after, exchange), 30)
        wait_until(lambda: after.status()["queued"] == 0, 10)
        after.stop(10)
    verdict = judge(exchange, table, [said, second], base)
    verdict.said_twice = 0  # at least once here: the alert's id, the same both times, makes it one
    return verdict.clean


def f408_paused(exchange: Exchange | None = None) -> bool:
    """The owner sleeps through its lease, wakes, and finds that its writes are refused."""
    return _two(exchange, asleep=True)


def f409_two(exchange: Exchange | None = None) -> bool:
    """Two run side by side; the owner dies without a word and the other takes over within the lease and a second."""
    return _two(exchange, asleep=False)


def _two(exchange: Exchange | None, *, asleep: bool) -> bool:
    exchange = exchange or Exchange(per_s=150)
    base, table = settings(lease_seconds=LEASE_S, warmup_trades=True, warmup_hours=10_000.0), SqliteTable(":memory:")
    alerts = [FakeAlerts(), FakeAlerts()]
    with ServedFeed(exchange.script) as feed:
        one, two = (make_service(feed.url, exchange, table, a, base) for a in alerts)
        one.run_in_thread()
        wait_until(lambda: one.status()["windows"] > 5, 20)
        two.run_in_thread()
        time.sleep(0.5)
        alone = two.status()["state"] == "standby"
        if not asleep:
            one.ownership.release = lambda: None  # type: ignore[method-assign]  # it dies; nobody frees the lease
            one.stop(10)
            one.ownership._stop.set()
        else:
            one.ownership._stop.set()  # no renewals any more; it believes to be the owner, streams and writes
            confirm = one.ownership.confirm
            one.ownership.confirm = lambda: not two.owning or confirm()  # type: ignore[method-assign]
        wait_until(lambda: two.status()["state"] not in ("standby", "stopped"), 15)
        # From the last sign of life, by the monotonic clock that both share; however late this test looks.
        took_s = (two.ownership.acquired_s or 0.0) - one.ownership.renewed_s
        figure(take_over_s=round(took_s, 2), lease_s=LEASE_S)
        wait_until(lambda: finished(two, exchange) or finished(one, exchange), 30)
        wait_until(lambda: two.status()["queued"] == 0, 10)
        refused = one.status()["refused_writes"] + sum(one.status()["left_to_successor"].values())
        for service in (one, two):
            service.stop(10)
    verdict = judge(exchange, table, alerts, base)
    verdict.said_twice = 0  # what the first said after its last position is said again, under the same alert id
    if not asleep:
        return verdict.clean and alone and 0 < took_s <= LEASE_S + 1.0
    return verdict.clean and alone and refused >= 1
