"""The alert path on one state: once each, every channel for itself, nothing lost."""

from __future__ import annotations

import threading

import pytest
from alert_examples import NOON_MS, initiator, trade_spike, volume_spike
from alert_faults import World, broken

from shared.alerts.service import DeliveryState, RedeliveryReport
from shared.clock import DAY_MS, MINUTE_MS
from shared.detection.reading import Detector, Direction
from shared.settings import AlertSettings, Settings
from shared.storage.alerts import AlertRepository
from shared.storage.mutes import MuteRepository
from shared.storage.signals import SignalRepository

SENT, PENDING, TOO_LATE, DEAD = (
    DeliveryState.SENT,
    DeliveryState.PENDING,
    DeliveryState.TOO_LATE,
    DeliveryState.DEAD,
)


@pytest.fixture
def world() -> World:
    return World(NOON_MS + MINUTE_MS + 500)


def test_an_allowed_signal_is_sent_stored_and_confirmed(world):
    outcome = world.service().handle(volume_spike())
    assert outcome.alert is not None
    assert (outcome.held, outcome.created) == (None, True)
    assert outcome.deliveries == {"console": SENT, "sns": SENT}
    assert [channel.got for channel in world.channels] == [[outcome.alert], [outcome.alert]]
    alerts = AlertRepository(world.state)
    assert alerts.get(outcome.alert_id) == outcome.alert
    assert alerts.range() == ([outcome.alert], None)
    assert {note.state for note in alerts.deliveries(outcome.alert_id).values()} == {"sent"}
    assert alerts.pending("console") == alerts.pending("sns") == []
    stored = SignalRepository(world.state).latest(Detector.VOLUME_SPIKE, "BTCUSDT")
    assert stored is not None
    assert (stored.signal, stored.alert_id, stored.held_reason) == (volume_spike(), outcome.alert_id, None)


def test_the_same_signal_again_changes_nothing(world):
    first = world.service().handle(volume_spike())
    for service in (world.service(), world.service()):
        again = service.handle(volume_spike())
        assert (again.alert, again.created, again.deliveries) == (first.alert, False, first.deliveries)
        assert service.counters == {"repeated": 1}
    assert len(world.channels[0].got) == 1


def test_a_held_signal_is_stored_with_its_reason_and_counted_once(world):
    service = world.service()
    service.handle(volume_spike())
    world.clock.advance(5 * MINUTE_MS)
    later = volume_spike(NOON_MS + 5 * MINUTE_MS)
    for created in (True, False):
        held = service.handle(later)
        assert (held.alert, held.held, held.held_until_ms, held.created) == (
            None,
            "cooldown",
            NOON_MS + 60 * MINUTE_MS,
            created,
        )
    world.clock.set(NOON_MS + 61 * MINUTE_MS)
    allowed = service.handle(volume_spike(NOON_MS + 60 * MINUTE_MS))
    assert allowed.alert is not None
    assert allowed.alert.suppressed_since_last == 1
    assert allowed.alert.text.endswith("1 more held since 2026-01-13 12:05:00 UTC")
    rows, _ = SignalRepository(world.state).range()
    assert [row.held_reason for row in rows] == [None, "cooldown", None]


def test_no_news_is_stored_and_sent_to_nobody(world):
    service = world.service()
    gated = service.handle(volume_spike(rarity=0.5))
    assert (gated.held, gated.created) == ("gate", True)
    assert service.handle(volume_spike(rarity=0.5)).created is False
    assert service.counters == {"gate": 1, "repeated": 1}
    assert world.channels[0].got == []


def test_a_stored_mute_holds_until_it_ends(world):
    service, mutes = world.service(), MuteRepository(world.state)
    until_ms = world.clock.now_ms() + MINUTE_MS
    mute_id = mutes.put("btcusdt", until_ms, "maintenance")
    held = service.handle(volume_spike())
    assert (held.held, held.held_until_ms) == ("muted", until_ms)
    assert mutes.remove(mute_id)
    assert service.handle(volume_spike(NOON_MS + 1)).alert is not None


def test_the_budget_counts_alerts_of_the_day():
    world = World(NOON_MS, Settings(alerts=AlertSettings(budget_per_day=2)))
    service = world.service()
    symbols = ["A", "B", "C", "D"]
    outcomes = [service.handle(trade_spike(NOON_MS, symbol)) for symbol in symbols]
    assert [outcome.held for outcome in outcomes] == [None, None, "budget", "budget"]
    world.clock.advance(DAY_MS)
    assert service.handle(trade_spike(NOON_MS + DAY_MS, "C")).held is None


def test_one_channel_fails_and_the_other_does_not_care(world):
    world.channels[0].error = broken()
    service = world.service()
    outcome = service.handle(volume_spike())
    assert outcome.deliveries == {"console": PENDING, "sns": SENT}
    (item,) = AlertRepository(world.state).pending("console")
    assert (item.attempts, item.claimed_until_ms, item.last_error) == (1, 0, "not today")
    assert item.next_attempt_ms == world.clock.now_ms() + 5_000
    assert service.redeliver(world.clock.now_ms()) == RedeliveryReport(waiting=1)
    world.clock.advance(5_000)
    assert service.redeliver(world.clock.now_ms()) == RedeliveryReport(failed=1)
    (item,) = AlertRepository(world.state).pending("console")
    assert (item.attempts, item.next_attempt_ms) == (2, world.clock.now_ms() + 10_000)
    world.channels[0].error = None
    world.clock.advance(10_000)
    assert service.redeliver(world.clock.now_ms()) == RedeliveryReport(sent=1)
    assert [len(channel.got) for channel in world.channels] == [1, 1]
    assert service.redeliver(world.clock.now_ms()) == RedeliveryReport()
    assert service.handle(volume_spike()).deliveries == {"console": SENT, "sns": SENT}


def test_a_channel_that_breaks_unexpectedly_stops_nothing(world):
    world.channels[0].error = ZeroDivisionError("a bug")
    assert world.service().handle(volume_spike()).deliveries == {"console": PENDING, "sns": SENT}


def test_a_channel_names_its_own_pause(world):
    world.channels[0].error = broken(retry_after_s=90.0)
    world.service().handle(volume_spike())
    (item,) = AlertRepository(world.state).pending("console")
    assert item.next_attempt_ms == world.clock.now_ms() + 90_000


def test_a_dead_destination_is_noted_and_not_tried_again(world):
    world.channels[0].error = broken(retryable=False)
    service = world.service()
    outcome = service.handle(volume_spike())
    assert outcome.deliveries["console"] is DEAD
    assert AlertRepository(world.state).pending("console") == []
    assert AlertRepository(world.state).deliveries(outcome.alert_id)["console"].error == "not today"


def test_what_is_too_old_is_not_sent_late(world):
    world.channels[0].error = broken()
    service = world.service()
    signal = volume_spike()
    outcome = service.handle(signal)
    world.channels[0].error = None
    assert service.redeliver(signal.known_ms + 10 * MINUTE_MS + 1) == RedeliveryReport(too_late=1)
    assert world.channels[0].got == []
    assert service.handle(signal).deliveries == {"console": TOO_LATE, "sns": SENT}
    assert AlertRepository(world.state).get(outcome.alert_id) == outcome.alert


def test_two_redeliveries_at_once_send_once(world):
    world.channels[0].error = broken()
    world.service().handle(volume_spike())
    world.channels[0].error = None
    world.clock.advance(MINUTE_MS)
    now_ms = world.clock.now_ms()
    reports = []
    world.channels[0].before = lambda: reports.append(world.service().redeliver(now_ms))
    assert world.service().redeliver(now_ms) == RedeliveryReport(sent=1)
    assert reports == [RedeliveryReport(waiting=1)]
    assert len(world.channels[0].got) == 1


def test_a_redelivery_does_not_overtake_the_run_that_is_sending(world):
    reports = []
    world.channels[0].before = lambda: reports.append(world.service().redeliver(world.clock.now_ms()))
    world.service().handle(volume_spike())
    assert reports == [RedeliveryReport(waiting=2)]
    assert [len(channel.got) for channel in world.channels] == [1, 1]


def test_many_threads_race_for_one_cooldown(world):
    """F404, P4: instances with different hits of one key send exactly one alert; everything else is counted."""
    signals = [initiator(NOON_MS + i, Direction.UP) for i in range(8)]
    start, outcomes = threading.Barrier(8), []

    def run(signal):
        start.wait()
        outcomes.append(world.service().handle(signal))

    threads = [threading.Thread(target=run, args=(signal,)) for signal in signals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome.alert is not None for outcome in outcomes) == 1
    assert {outcome.held for outcome in outcomes} == {None, "cooldown"}
    assert len(world.channels[0].got) == 1
    world.clock.advance(60 * MINUTE_MS)
    later = world.service().handle(initiator(NOON_MS + 61 * MINUTE_MS))
    assert later.alert is not None
    assert later.alert.suppressed_since_last == 7


@pytest.mark.parametrize("threads", [4])
def test_many_threads_with_the_same_signal_send_it_once(world, threads):
    start, outcomes = threading.Barrier(threads), []

    def run():
        start.wait()
        outcomes.append(world.service().handle(volume_spike()))

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [outcome.created for outcome in outcomes].count(True) == 1
    assert len({outcome.alert_id for outcome in outcomes}) == 1
    assert [len(channel.got) for channel in world.channels] == [1, 1]


def test_a_channel_that_hangs_does_not_make_the_next_one_send_twice(world):
    """The lease ended while the first channel hung: the second is left to the redelivery, which sends it once."""
    world.channels[0].before = lambda: world.clock.advance(61_000)
    service = world.service()
    assert service.handle(volume_spike()).deliveries == {"console": SENT, "sns": PENDING}
    assert service.redeliver(world.clock.now_ms()) == RedeliveryReport(sent=1)
    assert [len(channel.got) for channel in world.channels] == [1, 1]


def test_a_channel_that_is_down_is_tried_three_times_a_run_and_loses_nothing(world):
    world.channels[0].error = broken()
    service = world.service()
    for i in range(6):
        service.handle(trade_spike(NOON_MS + MINUTE_MS, f"S{i}USDT"))
    world.clock.advance(MINUTE_MS)
    assert service.redeliver(world.clock.now_ms()) == RedeliveryReport(failed=3, waiting=3)
    world.channels[0].error = None
    world.clock.advance(MINUTE_MS)
    assert service.redeliver(world.clock.now_ms()) == RedeliveryReport(sent=6)


def test_what_another_run_is_sending_is_not_called_too_late(world):
    reports = []
    late_ms = NOON_MS + 12 * MINUTE_MS + 1
    signal = volume_spike(NOON_MS + MINUTE_MS)
    world.clock.set(late_ms - 30_000)
    world.channels[0].before = lambda: reports.append(world.service().redeliver(late_ms))
    assert world.service().handle(signal).deliveries == {"console": SENT, "sns": SENT}
    assert reports == [RedeliveryReport(waiting=2)]


def test_a_retry_refused_by_its_own_first_write_has_won(world):
    """F302: the client asked twice by itself, and its token is not remembered any more."""

    class AskingTwice:
        def __getattr__(self, name):
            return getattr(world.state, name)

        def transact(self, writes, *, token=None):
            world.state.transact(writes)
            return world.state.transact(writes)

    outcome = world.service(AskingTwice()).handle(volume_spike())
    assert outcome.created
    assert outcome.deliveries == {"console": SENT, "sns": SENT}
