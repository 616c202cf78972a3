"""Sweeps over every call to the state: refused, answer lost, killed, another run in between.

Rows F301, F302, F403, F404 and F405 of the fault matrix, on the path of an alert.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from alert_examples import NOON_MS, initiator, volume_spike
from alert_faults import FaultyTable, Killed, World, broken

from shared.clock import MINUTE_MS
from shared.detection.reading import Signal
from shared.errors import StorageUnavailable
from shared.settings import AlertSettings, Settings
from shared.storage.alerts import AlertRepository
from shared.storage.signals import SignalRepository

BUDGET = Settings(alerts=AlertSettings(budget_per_day=5))
FAULTS = [
    ("refused", False, None),
    ("lost after", True, None),
    ("kill before", False, Killed),
    ("kill after", True, Killed),
]


def world_with_a_held_past() -> World:
    """A cooldown that has run out and held one signal, so that every kind of write occurs."""
    world = World(NOON_MS + MINUTE_MS, BUDGET)
    world.service().handle(volume_spike())
    world.service().handle(volume_spike(NOON_MS + MINUTE_MS))
    for channel in world.channels:
        channel.got.clear()
    world.clock.set(NOON_MS + 62 * MINUTE_MS)
    return world


SIGNAL = volume_spike(NOON_MS + 61 * MINUTE_MS)


def calls_of_handle() -> int:
    world = world_with_a_held_past()
    table = world.faulty()
    world.service(table).handle(SIGNAL)
    return table.calls


def recover(world: World, signal: Signal) -> None:
    """What the jobs do after a fault: the same event again, and redelivery once the leases have ended."""
    world.service().handle(signal)
    for _ in range(3):
        world.clock.advance(70_000)
        world.service().redeliver(world.clock.now_ms())


@pytest.mark.parametrize(("fault", "after", "error"), FAULTS)
def test_no_call_may_fail_so_that_an_alert_is_lost(fault, after, error, capsys):
    """F301, F302, F405: lost 0; a duplicate only where the fault falls between accepted and noted."""
    calls, duplicates = calls_of_handle(), 0
    for at in range(calls):
        world = world_with_a_held_past()
        table = world.faulty()
        table.at, table.after = at, after
        if error is not None:
            table.error = error
        with suppress(StorageUnavailable, Killed):
            world.service(table).handle(SIGNAL)
        recover(world, SIGNAL)
        for channel in world.channels:
            assert len(channel.got) >= 1, f"{fault} at call {at}: lost on {channel.name}"
            assert len(set(channel.ids())) == 1
            duplicates += len(channel.got) - 1
            assert AlertRepository(world.state).pending(channel.name) == []
            assert channel.got[0].suppressed_since_last == 1
        rows, _ = SignalRepository(world.state).range(limit=10)
        assert len(rows) == 3
    allowed = 2 if fault == "kill before" else 0  # one per channel: killed after sending, before noting
    assert duplicates <= allowed
    with capsys.disabled():
        print(f"\nhandle, {fault}: cases {calls}, lost 0, duplicates {duplicates}")


def test_a_lost_answer_of_the_claim_is_recognised_and_sent_at_once():
    """F302: no false loser; the alert leaves in the same call, without waiting for redelivery."""
    seen = 0
    for at in range(calls_of_handle()):
        world = world_with_a_held_past()
        table = world.faulty()
        table.at, table.after = at, True
        outcome = world.service(table).handle(SIGNAL)
        assert outcome.created
        assert outcome.alert is not None
        assert [len(channel.got) for channel in world.channels] == [1, 1]
        seen += 1
    assert seen >= 6


def test_another_run_at_every_call_sends_once():
    """F404: run B from start to end at each call of run A, with the same signal and with a rival of the same key."""
    rival = volume_spike(NOON_MS + 61 * MINUTE_MS + 1)
    for other in (SIGNAL, rival):
        for at in range(calls_of_handle()):
            world = world_with_a_held_past()
            table = world.faulty()
            table.at = at
            table.instead = lambda world=world, other=other: (
                world.service().handle(other),
                world.service().redeliver(world.clock.now_ms()),
            )
            world.service(table).handle(SIGNAL)
            recover(world, SIGNAL)
            for channel in world.channels:
                assert len(channel.got) == 1, f"rival at call {at}"


@pytest.mark.parametrize(("fault", "after", "error"), FAULTS)
def test_no_call_of_the_redelivery_may_fail_so_that_an_alert_is_lost(fault, after, error):
    def pending_world() -> tuple[World, FaultyTable]:
        world = World(NOON_MS + 2 * MINUTE_MS)
        for channel in world.channels:
            channel.error = broken()
        world.service().handle(initiator(NOON_MS))
        for channel in world.channels:
            channel.error = None
        world.clock.advance(10_000)
        return world, world.faulty()

    world, table = pending_world()
    world.service(table).redeliver(world.clock.now_ms())
    calls = table.calls
    assert [len(channel.got) for channel in world.channels] == [1, 1]
    duplicates = 0
    for at in range(calls):
        world, table = pending_world()
        table.at, table.after = at, after
        if error is not None:
            table.error = error
        with suppress(StorageUnavailable, Killed):
            world.service(table).redeliver(world.clock.now_ms())
        for _ in range(2):
            world.clock.advance(70_000)
            world.service().redeliver(world.clock.now_ms())
        assert all(len(channel.got) >= 1 for channel in world.channels), f"{fault} at call {at}"
        duplicates += sum(len(channel.got) - 1 for channel in world.channels)
    assert duplicates <= (2 if fault == "kill before" else 0)


def test_an_outage_of_the_state_is_told_to_the_caller():
    world = World(NOON_MS + MINUTE_MS)
    table = world.faulty()

    class Down(FaultyTable):
        def __getattr__(self, name):
            raise StorageUnavailable("down")

    with pytest.raises(StorageUnavailable):
        world.service(Down(table)).handle(volume_spike())
    assert world.channels[0].got == []
    assert world.service().handle(volume_spike()).alert is not None


def test_runs_out_of_order_keep_the_cooldown():
    """F403: minute 3 before minute 2; the older one is held and counted, the cooldown is not shortened."""
    world = World(NOON_MS + 5 * MINUTE_MS)
    service = world.service()
    assert service.handle(initiator(NOON_MS + 3 * MINUTE_MS)).alert is not None
    assert service.handle(initiator(NOON_MS + 2 * MINUTE_MS)).held == "cooldown"
    world.clock.set(NOON_MS + 63 * MINUTE_MS)
    assert service.handle(initiator(NOON_MS + 62 * MINUTE_MS)).held == "cooldown"
    assert service.handle(initiator(NOON_MS + 63 * MINUTE_MS)).alert is not None
