"""The watchdog: silence is told once, its end once, and a pause of everything is no silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import START_MS, FakeWorld, make_bar

from shared.clock import MINUTE_MS
from shared.detection.reading import Direction
from shared.errors import StorageUnavailable
from shared.jobs import watchdog
from shared.jobs.common import beat
from shared.market.model import Market
from shared.settings import Settings
from shared.storage.bars import BarRepository

JOBS = ("volume-spike", "order-book", "kline-bars", "sector", "streamer")


def minute(world: FakeWorld, number: int, *, silent: tuple[str, ...] = ()) -> watchdog.WatchdogReport:
    """Let everyone but `silent` show a sign of life in a minute, then look."""
    now_ms = START_MS + number * MINUTE_MS
    world.clock.set(now_ms)
    for name in JOBS:
        if name not in silent:
            beat(world.deps, name, {})
    if "stored-bars" not in silent:
        open_ms = now_ms - MINUTE_MS
        BarRepository(world.table).put_minute(Market.USDM, open_ms, {"BTCUSDT": make_bar("BTCUSDT", open_ms)})
    return watchdog.run(world.deps, scheduled_ms=now_ms)


def test_a_healthy_system_is_silent_about_it(world: FakeWorld) -> None:
    assert [minute(world, number).signals for number in range(10)] == [0] * 10
    assert world.channel.sent == []


@pytest.mark.parametrize("name", [*JOBS, "stored-bars"])
def test_an_outage_is_told_once_and_so_is_its_end(world: FakeWorld, name: str) -> None:
    minute(world, 0)
    reports = [minute(world, number, silent=(name,)) for number in range(1, 13)]
    assert sum(name in report.began for report in reports) == 1
    assert reports[-1].silent == (name,)
    back = minute(world, 13)
    assert back.recovered == (name,)
    assert minute(world, 14).signals == 0
    down, up = world.channel.sent
    assert (down.symbol, down.direction, up.direction) == (name, Direction.DOWN, Direction.UP)
    assert f"{name} has been silent since 2026-01-01T00:0" in down.text
    assert "What to do:" in down.text
    assert f"{name} is back" in up.text


def test_what_never_showed_itself_is_silent_after_its_limit(world: FakeWorld) -> None:
    reports = [minute(world, number, silent=("streamer",)) for number in range(6)]
    assert [report.began for report in reports] == [(), (), (), (), ("streamer",), ()]


def test_a_pause_of_the_whole_machine_is_no_outage(world: FakeWorld) -> None:
    minute(world, 0)
    world.clock.set(START_MS + 600 * MINUTE_MS)
    assert watchdog.run(world.deps, scheduled_ms=START_MS + 600 * MINUTE_MS).signals == 0
    assert minute(world, 601).signals == 0


def test_a_repeat_tells_nothing_new_and_a_late_run_does_nothing(world: FakeWorld) -> None:
    for number in range(8):
        minute(world, number, silent=("streamer",))
    sent = len(world.channel.sent)
    assert minute(world, 7, silent=("streamer",)).began == ()
    assert minute(world, 3, silent=("streamer",)).skipped is not None
    assert len(world.channel.sent) == sent == 1


class DiesBeforeTelling:
    def handle(self, signal: object) -> object:
        raise StorageUnavailable("killed")

    def redeliver(self, now_ms: int) -> object:
        raise StorageUnavailable("killed")


def test_a_change_that_could_not_be_told_is_told_by_the_next_run(world: FakeWorld) -> None:
    alive = world.deps
    for number in range(4):
        minute(world, number, silent=("streamer",))
    world.deps = replace(alive, alerts=DiesBeforeTelling())
    with pytest.raises(StorageUnavailable):
        minute(world, 4, silent=("streamer",))
    world.deps = alive
    minute(world, 5, silent=("streamer",))
    assert [alert.symbol for alert in world.channel.sent] == ["streamer"]


def test_the_oldest_of_several_streamers_counts(world: FakeWorld) -> None:
    minute(world, 0)
    beat(world.deps, "streamer-1", {})
    for number in range(1, 6):
        report = minute(world, number)
    assert report.silent == ("streamer",)


def test_watches_only_what_is_switched_on() -> None:
    off = Settings.__struct_fields__
    assert "sector" in off
    settings = Settings(
        **{name: type(getattr(Settings(), name))(enabled=False) for name in ("sector", "trade_spike", "window_anomaly")}
    )
    assert [one.name for one in watchdog.watched(settings)] == ["volume-spike", "order-book"]
