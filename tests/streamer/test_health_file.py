"""The container's sign of life: a standby and a slow start are healthy, a deaf or hung streamer is not."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.market.model import Market
from shared.storage.sqlite import SqliteTable
from streamer import service as service_module
from streamer.health_check import HUNG_S, QUIET_S, SILENT_S, STARTING_S, verdict
from streamer.health_file import HealthFile
from streamer.service import StreamerService
from tests.streamer.streams import settings, trades, with_urls
from tests.streamer.test_service import FakeAlerts, FakeExchange, ServedFeed, make, sending, wait_until

DAY_S = 86_400.0


class Checked:
    """A health file on a clock of its own that moves on with each writing, and what its check said each time."""

    def __init__(self, path: Path, *, steps: dict[str, float] | None = None) -> None:
        self._path, self.steps = path, steps or {}  # seconds that pass at each writing, by state
        self.now_s = 1_790_000_000.0
        self.file = HealthFile(str(path), now_s=lambda: self.now_s)
        self.found: list[tuple[str, str | None]] = []

    def __call__(self, status: dict[str, Any]) -> None:
        self.now_s += self.steps.get(status["state"], 0.0)
        self.file(status)
        self.found.append((status["state"], self.verdict()))

    def verdict(self) -> str | None:
        return verdict(json.loads(self._path.read_text()), self.now_s)

    def say(self, state: str, trades: int, after_s: float) -> str | None:
        """Write `after_s` later, and return what the check says then."""
        self.now_s += after_s
        self.file({"state": state, "trades": trades})
        return self.verdict()

    def times(self, state: str) -> int:
        return sum(seen == state for seen, _ in self.found)

    @property
    def wrong(self) -> list[tuple[str, str | None]]:
        return [one for one in self.found if one[1] is not None]


def made(
    feed: ServedFeed, table: SqliteTable, progress: Checked, exchange: FakeExchange | None = None
) -> StreamerService:
    return StreamerService(
        with_urls(settings(lease_seconds=5.0), feed.url),
        exchange or FakeExchange(),  # type: ignore[arg-type]
        FakeAlerts(),
        table,
        SystemClock(),
        progress=progress,
    )


def test_a_standby_is_healthy_and_its_waiting_for_trades_begins_with_the_lease(tmp_path: Path) -> None:
    check = Checked(tmp_path / "health.json")
    assert [check.say("standby", 0, DAY_S) for _ in range(3)] == [None] * 3
    assert check.say("starting", 0, 1.0) is None
    assert check.say("starting", 0, STARTING_S - 1) is None
    assert "no trade" in str(check.say("starting", 0, 2.0))
    assert check.say("live", 1, 1.0) is None
    assert check.say("quiet", 1, QUIET_S - 1) is None
    assert "no trade" in str(check.say("broken", 1, 0.0))
    assert check.say("live", 2, 1.0) is None
    assert "no trade" in str(check.say("live", 2, SILENT_S + 1))


@pytest.mark.parametrize("state", ["standby", "starting", "live"])
def test_a_loop_that_does_not_move_is_hung_whatever_it_waits_for(tmp_path: Path, state: str) -> None:
    check = Checked(tmp_path / "health.json")
    assert check.say(state, 0, 1.0) is None
    check.now_s += HUNG_S + 1
    assert "not moved" in str(check.verdict())


def test_f412_a_deployments_new_task_is_healthy_beside_the_old_one_and_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ECS tells the old task to stop only when the new one, which the lease keeps waiting, is healthy."""
    monkeypatch.setattr(service_module, "TELL_S", 0.02)
    stream, table = trades(20_000, seed=5), SqliteTable(":memory:")
    check = Checked(tmp_path / "health.json", steps={"standby": SILENT_S})
    with ServedFeed(sending(stream, per_burst=2)) as feed:
        old, new = make(feed, table, base=settings(lease_seconds=5.0)), made(feed, table, check)
        old.run_in_thread()
        wait_until(lambda: old.status()["trades"] > 10)
        new.run_in_thread()
        wait_until(lambda: check.times("standby") >= 10)
        assert old.owning
        assert not new.owning
        assert old.stop()
        wait_until(lambda: new.status()["trades"] > 10 and check.times("live") >= 3)
        assert new.stop()
    assert check.wrong == []


def test_a_start_that_takes_long_is_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "TELL_S", 0.02)
    go = threading.Event()

    class Slow(FakeExchange):
        def server_time_ms(self, market: Market) -> int:
            assert go.wait(30)
            return super().server_time_ms(market)

    stream, check = trades(200, seed=6), Checked(tmp_path / "health.json", steps={"starting": 60.0})
    with ServedFeed(sending(stream)) as feed:
        service = made(feed, SqliteTable(":memory:"), check, Slow())
        service.run_in_thread()
        wait_until(lambda: check.times("starting") >= 10)  # ten minutes: far more than a silent streamer is given
        check.steps.clear()
        go.set()
        wait_until(lambda: service.status()["trades"] == 200)
        assert service.stop()
    assert check.wrong == []
