"""Rows F303-F311 and F401-F406, F509 of the fault matrix on the path of an alert."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import boto3
import msgspec
import pytest
from alert_examples import NOON_MS, initiator, trade_spike, volume_spike
from alert_faults import FaultyTable
from delivery_world import PagingChannel, World, down
from fakes import START_MS, FakeMarketData, FakeWorld
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from shared.alerts.service import AlertService
from shared.clock import DAY_MS, HOUR_MS, MINUTE_MS
from shared.errors import StorageMissing, StorageUnavailable
from shared.jobs import volume_spike as volume_job
from shared.jobs import watchdog
from shared.jobs.common import beat
from shared.jobs.deps import Dependencies
from shared.market.model import Market
from shared.settings import AlertSettings, SectorSettings, Settings, UniverseSettings
from shared.storage import alert_keys
from shared.storage.alerts import AlertRepository
from shared.storage.bars import BarRepository
from shared.storage.codec import from_attributes, to_attributes
from shared.storage.dynamodb import DynamoTable
from shared.storage.mutes import MuteRepository
from shared.storage.outbox import Outbox, OutboxItem
from shared.storage.signals import SignalRepository


# --- F3xx state ---------------------------------------------------------------------------------------------------
class Throttled:
    """A table of which a share of the calls is refused while `share` > 0."""

    def __init__(self, table: Any, share: float, seed: int = 1) -> None:
        self.table, self.share, self._random = table, share, random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.table, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._random.random() < self.share:
                raise StorageUnavailable("throttled")
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_f303_throttled_for_five_minutes_the_backlog_is_gone_two_minutes_later(share, capsys):
    """F303: whoever found a signal keeps it until it is handled, as the streamer's worker and the schedules do."""
    world = World(NOON_MS)
    table = Throttled(world.state, share)
    service = world.service(table)
    backlog, expected = [], set()
    for second in range(0, 420, 5):
        world.clock.set(NOON_MS + second * 1000)
        table.share = share if second < 300 else 0.0
        if second < 300 and second % 15 == 0:
            backlog.append(trade_spike(world.clock.now_ms(), f"S{second}USDT"))
        for signal in list(backlog):
            try:
                expected.add(service.handle(signal).alert_id)
                backlog.remove(signal)
            except StorageUnavailable:
                break
        if second % 60 == 0:
            try:
                service.redeliver(world.clock.now_ms())
            except StorageUnavailable:
                continue
    world.pass_minutes(2)
    heard = world.pager.heard()
    assert backlog == []
    assert set(heard) == expected
    assert len(expected) == 20
    with capsys.disabled():
        print(f"\nF303 throttled {share:.0%}: events 20, lost 0, duplicates {len(heard) - len(set(heard))}")


@pytest.mark.slow
def test_f306_ten_thousand_pending_rows_are_followed_page_by_page():
    """F306: big state; nothing larger than 350 KB, every row reached."""
    world = World(NOON_MS)
    alert = world.service().handle(trade_spike(NOON_MS)).alert
    assert alert is not None
    outbox = Outbox(world.state)
    ids = [f"{number:064x}" for number in range(10_000)]
    world.state.batch_put(
        [dict(outbox.write(OutboxItem(one, "pager", NOON_MS, NOON_MS, next_attempt_ms=NOON_MS)).item) for one in ids]
    )
    row = world.state.get(alert_keys.alert(alert.alert_id))
    assert row is not None
    copies = [dict(row) | {"pk": alert_keys.alert(one)[0], "alert_id": one, "body": _renamed(row, one)} for one in ids]
    world.state.batch_put(copies)
    world.pager.got.clear()
    world.pass_minutes(3)
    assert [len(digest.alerts) for digest in world.pager.digests] == [5000, 5000]
    assert set(world.pager.heard()) == set(ids)
    assert AlertRepository(world.state).pending("pager") == []


def _renamed(row: Any, alert_id: str) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(row["body"]) | {"alert_id": alert_id})


def test_f307_expiry_is_decided_by_the_attribute_not_by_absence():
    """F307: a mute that has ended still lies there; a cooldown whose row may be tidied up still holds."""
    world = World(NOON_MS)
    MuteRepository(world.state).put("BTCUSDT", NOON_MS - 1)
    service = world.service()
    assert service.handle(volume_spike(NOON_MS - MINUTE_MS)).alert is not None
    row = world.state.get(alert_keys.cooldown("volume_spike|spot|BTCUSDT"))
    assert row is not None
    world.state.put(row | {"expires_at": 1})  # overdue for ever, and not deleted
    world.clock.advance(10 * MINUTE_MS)
    assert service.handle(volume_spike(NOON_MS + 8 * MINUTE_MS)).held == "cooldown"
    world.clock.set(NOON_MS + 62 * MINUTE_MS)
    assert service.handle(volume_spike(NOON_MS + 60 * MINUTE_MS)).alert is not None


def test_f308_decisions_read_consistently():
    """F308: cooldown, mutes, outbox, channel state are never read from an older copy."""
    asked: list[tuple[str, bool]] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            real = getattr(world.state, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                if name in ("get", "query"):
                    asked.append((str(args[0]), kwargs.get("consistent", True)))
                return real(*args, **kwargs)

            return call

    world = World(NOON_MS)
    service = world.service(Watching())
    service.handle(volume_spike(NOON_MS - MINUTE_MS))
    service.redeliver(NOON_MS)
    assert len(asked) >= 5
    assert all(consistent for _, consistent in asked)


def test_f309_no_table_is_one_clear_line_and_exit_status_three():
    """F309: the cure stands in the line."""
    with mock_aws():
        table = DynamoTable(boto3.client("dynamodb"), "nowhere", sleep=lambda _: None)
        world = World(NOON_MS)
        with pytest.raises(StorageMissing) as caught:
            world.service(table).handle(volume_spike())
    assert caught.value.exit_status == 3
    assert "nowhere" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_f310_rows_of_the_last_version_are_read_and_unknown_fields_are_left_alone():
    """F310: samples as version 0.1.0 wrote them (no `reference`, no channel state), and rows with a field more."""
    world = World(NOON_MS)
    service = world.service()
    alert = service.handle(volume_spike(NOON_MS - MINUTE_MS)).alert
    assert alert is not None
    pk, sk = alert_keys.delivery(alert.alert_id, "pager")
    world.state.put({"pk": pk, "sk": sk, "channel": "pager", "state": "sent", "at_ms": 5, "attempts": 1, "error": ""})
    note = AlertRepository(world.state).deliveries(alert.alert_id)["pager"]
    assert (note.state, note.reference) == ("sent", "")
    old = {
        "pk": alert_keys.outbox("pager"), "sk": alert_keys.feed_sk(NOON_MS, alert.alert_id),
        "alert_id": alert.alert_id, "known_ms": NOON_MS, "detected_ms": NOON_MS, "attempts": 1, "next_attempt_ms": 0,
        "claimed_until_ms": 0, "claimed_by": "", "version": 1, "last_error": "", "expires_at": 2**31, "later": [1],
    }  # fmt: skip
    world.state.put(old)
    world.pager.got.clear()
    world.pass_minutes(1)
    assert world.pager.heard() == [alert.alert_id]
    state = world.state.get(alert_keys.channel("pager"))
    assert state is not None
    world.state.put(state | {"from_a_later_version": True, "health": "unheard of"})
    assert service.handle(trade_spike(NOON_MS + 61_000)).alert is not None


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_f311_numbers_come_back_equal(values):
    """F311: through DynamoDB's decimals to 1e-12 relative, -0 and 1e-130 included, never "Float types"."""
    item = {"pk": "a", "sk": "b", "values": values}
    back = from_attributes(to_attributes(item))
    for name, value in values.items():
        assert back["values"][name] == pytest.approx(value, rel=1e-12, abs=0.0)  # type: ignore[call-overload,index]


# --- F4xx runs ----------------------------------------------------------------------------------------------------
MINUTE = START_MS + 10 * HOUR_MS - MINUTE_MS


def spiky() -> FakeWorld:
    world = FakeWorld(Settings(universe=UniverseSettings(spot_symbols=("ETHUSDT",))))
    world.at(START_MS + 10 * HOUR_MS + 1_500)
    world.market.fill(Market.SPOT, "ETHUSDT", START_MS, START_MS + 17 * HOUR_MS)
    world.market.change(Market.SPOT, "ETHUSDT", MINUTE, volume=500.0)
    return world


@pytest.mark.parametrize("times", [2, 5])
def test_f401_the_same_run_again_changes_nothing(times):
    once, often = spiky(), spiky()
    volume_job.run(once.deps, minute_ms=MINUTE)
    for _ in range(times):
        volume_job.run(often.another(), minute_ms=MINUTE)
    assert [one.alert_id for one in often.channel.sent] == [one.alert_id for one in once.channel.sent]
    assert len(once.channel.sent) == 1
    rows = [SignalRepository(world.table).range()[0] for world in (once, often)]
    assert [replace(row, owner="") for row in rows[0]] == [replace(row, owner="") for row in rows[1]]


@pytest.mark.parametrize(
    ("late_ms", "sent", "held"),
    [(1_000, 1, {}), (59_000, 1, {}), (5 * MINUTE_MS, 1, {}), (6 * HOUR_MS, 0, {"too_late": 1})],
)
def test_f402_a_late_run_computes_its_own_bar_and_what_is_too_late_is_for_the_feed(late_ms, sent, held):
    world = spiky()
    world.clock.advance(late_ms)
    told = volume_job.run(world.deps, minute_ms=MINUTE)
    assert (len(world.channel.sent), dict(told.held)) == (sent, held)
    (row,) = SignalRepository(world.table).range()[0]
    assert row.signal.event_ms == MINUTE


def test_f405_and_f403_minutes_out_of_order_never_shorten_a_cooldown():
    world = World(NOON_MS + 10 * MINUTE_MS)
    service = world.service()
    for minute in (3, 2, 5, 1):
        service.handle(initiator(NOON_MS + minute * MINUTE_MS))
    assert world.pager.notifications == 1
    world.clock.set(NOON_MS + 64 * MINUTE_MS)
    assert service.handle(initiator(NOON_MS + 62 * MINUTE_MS)).held == "cooldown"
    assert service.handle(initiator(NOON_MS + 63 * MINUTE_MS)).alert is not None


def test_f406_after_half_an_hour_without_runs_one_summary_at_most(capsys):
    """F406: every symbol spikes while nothing runs; then all thirty runs come at once.

    What is too old is in the feed only, counted, and told in one summary; it is told once.
    """
    symbols = tuple(f"S{number}USDT" for number in range(12))
    settings = Settings(universe=UniverseSettings(spot_symbols=symbols), sector=SectorSettings(enabled=False))
    world = World(START_MS + 10 * HOUR_MS, settings)
    market = FakeMarketData(world.clock)
    for number, symbol in enumerate(symbols):
        market.fill(Market.SPOT, symbol, START_MS, START_MS + 11 * HOUR_MS)
        at_ms = START_MS + 10 * HOUR_MS + (2 + number) * MINUTE_MS
        market.change(Market.SPOT, symbol, at_ms, volume=900.0)
    deps = Dependencies(world.settings, market, world.state, world.service(), world.clock)
    watchdog.run(deps, scheduled_ms=world.clock.now_ms())
    world.clock.set(START_MS + 10 * HOUR_MS + 30 * MINUTE_MS + 2_000)
    signals, held = 0, 0
    for minute in range(30):
        told = volume_job.run(deps, minute_ms=START_MS + 10 * HOUR_MS + minute * MINUTE_MS)
        signals, held = signals + told.spikes, held + told.held.get("too_late", 0)
    stored = BarRepository(world.state).have(
        Market.SPOT, START_MS + 10 * HOUR_MS, START_MS + 10 * HOUR_MS + HOUR_MS // 2
    )
    assert len(stored) == 30
    for _ in range(6):
        for name in ("volume-spike", "order-book", "streamer"):
            beat(deps, name, {})
        watchdog.run(deps, scheduled_ms=world.clock.now_ms())
        world.pass_minutes(1)
    assert (signals, held) == (12, 12)
    (summary,) = world.pager.got
    assert world.pager.digests == []
    assert (summary.symbol, summary.values["too_late"]) == ("catch-up", 12)
    assert "Nothing ran for 30 min" in summary.text
    assert "12 events of that time came too late to be sent" in summary.text
    with capsys.disabled():
        print(f"\nF406 30 minutes without a run, 12 events: notices 1, bars {len(stored)} of 30, too_late {held}")


def test_f509_a_feed_that_flaps_fifty_times_an_hour_is_told_at_most_twice():
    """F509: one notice of trouble and one of recovery an hour, whatever happens in between."""
    world = FakeWorld()
    for step in range(100):
        now_ms = START_MS + step * 36_000
        world.clock.set(now_ms)
        for name in ("volume-spike", "order-book", "kline-bars", "sector"):
            beat(world.deps, name, {})
        if step % 2:
            beat(world.deps, "streamer", {})
        watchdog.run(world.deps, scheduled_ms=now_ms)
    assert len([one for one in world.channel.sent if one.symbol == "streamer"]) <= 2


def test_f509_a_feed_that_is_gone_for_minutes_again_and_again_too():
    world = FakeWorld()
    for minute in range(60):
        now_ms = START_MS + minute * MINUTE_MS
        world.clock.set(now_ms)
        for name in ("volume-spike", "order-book", "kline-bars", "sector"):
            beat(world.deps, name, {})
        if minute % 5 == 0:
            beat(world.deps, "streamer", {})
        watchdog.run(world.deps, scheduled_ms=now_ms)
    assert len([one for one in world.channel.sent if one.symbol == "streamer"]) <= 2


def test_the_budget_and_what_it_held_are_counted():
    world = World(NOON_MS, Settings(alerts=AlertSettings(budget_per_day=3)))
    service = world.service()
    held = [service.handle(trade_spike(NOON_MS, f"S{n}USDT")).held for n in range(10)]
    assert held.count("budget") == 7
    world.clock.advance(DAY_MS)
    alert = service.handle(trade_spike(NOON_MS + DAY_MS, "S9USDT")).alert
    assert alert is not None
    assert "1 more held since 2026-01-13 12:00:00 UTC" in alert.text


def test_a_redelivery_whose_note_fails_repeats_at_most_that_notification():
    """P3: each call of a digest's run fails once; duplicates only where it had left and could not be noted."""

    def late_world() -> tuple[World, FaultyTable]:
        world = World(NOON_MS)
        world.pager.error = down()
        service = world.service()
        for symbol in ("A", "B", "C"):
            service.handle(trade_spike(NOON_MS, symbol))
        world.pager.error = None
        world.clock.advance(15 * MINUTE_MS)
        return world, FaultyTable(world.state)

    world, table = late_world()
    AlertService.on_table(table, world.channels, world.settings, world.clock).redeliver(world.clock.now_ms())
    assert len(world.pager.digests) == 1
    for after in (False, True):
        for at in range(table.calls):
            world, faulty = late_world()
            faulty.at, faulty.after = at, after
            service = AlertService.on_table(faulty, world.channels, world.settings, world.clock)
            with suppress(StorageUnavailable):
                service.redeliver(world.clock.now_ms())
            world.pass_minutes(3)
            assert set(world.pager.heard()) == {a.alert_id for a in AlertRepository(world.state).range()[0]}
            assert len(world.pager.digests) == 1
    assert isinstance(world.pager, PagingChannel)
