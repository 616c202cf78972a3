"""The watchdog: silence is told once, its end once, and a pause of everything is no silence."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from fakes import START_MS, FakeWorld, make_bar

from shared.clock import MINUTE_MS
from shared.detection.reading import Direction
from shared.errors import StorageUnavailable
from shared.jobs import watchdog
from shared.jobs.common import beat
from shared.jobs.health import health
from shared.market.model import Market
from shared.observability import Trouble
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


def sharded(world: FakeWorld, shards: int) -> None:
    streamer = msgspec.structs.replace(world.deps.settings.streamer, shards=shards)
    world.deps = replace(world.deps, settings=msgspec.structs.replace(world.deps.settings, streamer=streamer))


def streamed(world: FakeWorld, number: int, *names: str) -> watchdog.WatchdogReport:
    """A minute in which these streamers alone show themselves."""
    world.clock.set(START_MS + number * MINUTE_MS)
    for name in names:
        beat(world.deps, name, {"last_event_ms": world.clock.now_ms()})
    return minute(world, number, silent=("streamer",))


def test_a_dead_shard_is_told_by_name_and_so_is_one_that_never_showed_itself(world: FakeWorld) -> None:
    sharded(world, 3)
    reports = [streamed(world, number, "streamer-0", "streamer-1") for number in range(6)]
    assert [report.began for report in reports] == [(), (), (), (), ("streamer-2",), ()]
    assert reports[-1].streamer_data_age_s is None
    assert Trouble.STREAMER_SILENT in Trouble(reports[-1].trouble or 0)
    for number in range(6, 12):
        report = streamed(world, number, "streamer-0", "streamer-2")
    assert report.silent == ("streamer-1",)
    assert report.streamer_data_age_s == 360
    assert Trouble(report.trouble or 0) & ~Trouble.STREAMER_SILENT & ~Trouble.FEED_LAG == Trouble(0)
    told = [(one.symbol, one.direction) for one in world.channel.sent]
    assert told == [("streamer-2", Direction.DOWN), ("streamer-2", Direction.UP), ("streamer-1", Direction.DOWN)]


def test_the_rows_of_another_number_of_shards_are_left_out(world: FakeWorld) -> None:
    sharded(world, 3)
    streamed(world, 0, "streamer-0", "streamer-1", "streamer-2")
    sharded(world, 2)
    reports = [streamed(world, number, "streamer-0", "streamer-1") for number in range(1, 8)]
    assert {report.silent for report in reports} == {()}
    assert reports[-1].streamer_data_age_s == 0
    rows = health(world.deps)["components"]
    assert {name for name in rows if name.startswith("streamer")} == {"streamer-0", "streamer-1"}
    sharded(world, 1)
    for number in range(8, 15):
        report = streamed(world, number, "streamer")
    assert (report.silent, report.streamer_data_age_s) == ((), 0)


def test_the_feed_is_as_good_as_its_worst_shard(world: FakeWorld) -> None:
    sharded(world, 2)
    streamed(world, 0, "streamer-0")
    feed = health(world.deps)["feed"]
    assert (feed["state"], feed["reason"]) == ("starting", "streamer-1 has not shown itself yet")
    streamed(world, 1, "streamer-0", "streamer-1")
    assert health(world.deps)["feed"]["state"] == "live"
    streamed(world, 3, "streamer-0")
    feed = health(world.deps)["feed"]
    assert (feed["state"], feed["reason"]) == ("silent", "no sign of life of streamer-1 for 120 s")


def test_a_shard_without_a_symbol_is_no_trouble_until_it_dies(world: FakeWorld) -> None:
    sharded(world, 2)

    def idle(number: int, *, dead: bool = False) -> watchdog.WatchdogReport:
        world.clock.set(START_MS + number * MINUTE_MS)
        if not dead:
            beat(world.deps, "streamer-1", {"state": "idle", "symbols": 0, "last_event_ms": 0})
        return streamed(world, number, "streamer-0")

    for number in range(10):
        report = idle(number)
        assert (report.silent, report.streamer_data_age_s, report.trouble) == ((), 0, 0)
        feed = health(world.deps)["feed"]
        assert (feed["state"], feed["good"]) == ("live", True)
    for number in range(10, 15):
        report = idle(number, dead=True)
    assert (report.silent, report.streamer_data_age_s) == (("streamer-1",), 300)
    assert Trouble.STREAMER_SILENT in Trouble(report.trouble or 0)
    assert health(world.deps)["feed"]["state"] == "silent"


def test_watches_only_what_is_switched_on() -> None:
    off = Settings.__struct_fields__
    assert "sector" in off
    settings = Settings(
        **{name: type(getattr(Settings(), name))(enabled=False) for name in ("sector", "trade_spike", "window_anomaly")}
    )
    assert [one.name for one in watchdog.watched(settings)] == ["volume-spike", "order-book"]
