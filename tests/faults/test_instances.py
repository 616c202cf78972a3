"""F407 to F413: streamers that die, sleep, double, move and grow old; and that each guard is worth its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.exchange.binance.ids import IdFollower, Seen, Step
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Put
from streamer.checkpointing import Checkpoints
from streamer.gaps import GapFiller
from streamer.ownership import Ownership
from streamer.session import Session
from streamer.watchdog import Watchdog
from tests.faults import rows
from tests.faults.harness import Exchange, finished, judge, make_service
from tests.streamer.streams import settings, trades
from tests.streamer.test_service import FakeAlerts, ServedFeed, wait_until


def test_f411_a_spoilt_model_is_learnt_anew_and_never_unpickled() -> None:
    stream = trades(1500, seed=3)
    session = Session(settings(), stream[0].market, ("BTCUSDT",))
    for trade in stream:
        session.trade(trade)
    snapshot, memory = session.snapshot()["BTCUSDT"], session.memory("BTCUSDT")
    for blob in (b"", b"cut", b"\x80\x04\x95pickle", b"TWF1" + bytes(40)):
        fresh = Session(settings(), stream[0].market, ("BTCUSDT",))
        assert fresh.restore("BTCUSDT", snapshot, (blob, 30), memory=memory)
        assert fresh.rejected == {"model_unusable": 1}
        assert fresh.models == 0
        assert fresh.due_fits()


@pytest.mark.slow
def test_f412_a_deploy_in_the_middle() -> None:
    exchange, table = Exchange(per_s=250), SqliteTable(":memory:")
    alerts, base = [FakeAlerts(), FakeAlerts()], settings(warmup_trades=True, warmup_hours=10_000.0, lease_seconds=5.0)
    with ServedFeed(exchange.script) as feed:
        old, new = (make_service(feed.url, exchange, table, one, base) for one in alerts)
        old.run_in_thread()
        wait_until(lambda: old.status()["windows"] > 10, 20)
        new.run_in_thread()
        wait_until(lambda: new.status()["state"] == "standby")
        assert old.stop(10)
        wait_until(lambda: new.status()["state"] != "standby", 3)  # released: no waiting for the lease to run out
        wait_until(lambda: finished(new, exchange), 30)
        wait_until(lambda: new.status()["queued"] == 0, 10)
        assert new.stop(10)
    verdict = judge(exchange, table, alerts, base)
    assert verdict.clean, verdict


# --- does the matrix bite? --------------------------------------------------------------------------------------------
def _no_dedupe(patch: pytest.MonkeyPatch) -> None:
    judge_one = IdFollower._judge

    def deliver(self: IdFollower, id_: int) -> Step:
        step = judge_one(self, id_)
        return Step(Seen.LATE) if step.seen is Seen.REPEAT else step

    patch.setattr(IdFollower, "_judge", deliver)


def _no_gap_fill(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GapFiller, "submit", lambda self, gap: self._abandon(gap, "removed"))


def _checkpoint_one_too_far(patch: pytest.MonkeyPatch) -> None:
    take = Session.take_dirty

    def ahead(self: Session, symbols: Any = None) -> dict[str, dict[str, Any]]:
        return {s: {**snapshot, "last_id": snapshot["last_id"] + 1} for s, snapshot in take(self, symbols).items()}

    patch.setattr(Session, "take_dirty", ahead)


def _no_lease(patch: pytest.MonkeyPatch) -> None:
    def acquire(self: Ownership, stopped: Callable[[], bool], wait: Callable[[float], object]) -> bool:
        found = self._leases.acquire(self._name, self._owner, 0, 1)
        with self._lock:
            from shared.storage.lease import Lease

            self._lease, self.renewed_s = found or Lease(self._name, self._owner, 1, 1, 1), self._now_s()
        return True

    patch.setattr(Ownership, "acquire", acquire)
    patch.setattr(Ownership, "confirm", lambda self: True)


def _no_fencing(patch: pytest.MonkeyPatch) -> None:
    def commit(self: Checkpoints, writes: list[Any], moved: Any, lease: Any) -> bool:
        self._table.transact([Put(write.item) if isinstance(write, Put) else write for write in writes])
        self._versions.update(moved)
        return True

    patch.setattr(Checkpoints, "_commit", commit)
    patch.setattr(Ownership, "fresh", True)


def _no_watchdog(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watchdog, "look", lambda self, counts, now_s: None)


GUARDS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Callable[[Path], bool]]] = {
    "F110 dedupe": (_no_dedupe, lambda folder: rows.f110_repeats()),
    "F112 gap fill": (_no_gap_fill, lambda folder: rows.f112_gap()),
    "F407 checkpoint order": (_checkpoint_one_too_far, rows.f407_kill),
    "F409 lease": (_no_lease, lambda folder: rows.f409_two()),
    "F408 fencing": (_no_fencing, lambda folder: rows.f408_paused()),
    "F105 watchdog": (_no_watchdog, lambda folder: rows.f105_silence()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GUARDS)
def test_without_its_guard_the_row_is_red(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    remove, row = GUARDS[name]
    remove(monkeypatch)
    try:
        well = row(tmp_path)
    except AssertionError:
        well = False  # it never came to its end
    print(f"{name}: removed, {'not caught' if well else 'caught'}")
    assert not well, f"nothing watches over the {name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", GUARDS)
def test_with_its_guard_the_same_row_is_green(name: str, tmp_path: Path) -> None:
    """F105, F110, F112, F407, F408 and F409 themselves."""
    assert GUARDS[name][1](tmp_path)
