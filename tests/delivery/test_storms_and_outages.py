"""Not too many, none lost: storms, long outages, dead destinations, and a channel that hangs."""

from __future__ import annotations

import threading
import time

import pytest
from alert_examples import NOON_MS, system, trade_spike, volume_spike
from alert_faults import KeepingChannel
from delivery_world import PagingChannel, World, down

from shared.alerts.lanes import Threads
from shared.alerts.service import DeliveryState
from shared.clock import HOUR_MS, MINUTE_MS, SystemClock
from shared.settings import AlertSettings, Settings
from shared.storage.alerts import AlertRepository


def feed(world: World, limit: int = 3000) -> list[str]:
    found, cursor = [], None
    while True:
        page, cursor = AlertRepository(world.state).range(limit=500, cursor=cursor)
        found += [alert.alert_id for alert in page]
        if cursor is None:
            return found


@pytest.mark.parametrize("begins_s", [0, 17, 59])
@pytest.mark.parametrize("spread_ms", [10, 299])
def test_200_symbols_in_a_minute_are_at_most_three_notifications(begins_s, spread_ms, capsys):
    """F508: wherever in the minute the storm begins; all 200 are in the feed, none is lost, none comes twice."""
    world = World(NOON_MS + begins_s * 1000)
    service = world.service()
    next_job = NOON_MS + MINUTE_MS
    for number in range(200):
        world.clock.advance(spread_ms)
        if world.clock.now_ms() >= next_job:
            service.redeliver(world.clock.now_ms())
            next_job += MINUTE_MS
        service.handle(trade_spike(world.clock.now_ms(), f"S{number}USDT"))
    world.pass_minutes(4)
    heard = world.pager.heard()
    assert world.pager.notifications <= 3
    assert len(heard) == len(set(heard)) == 200
    assert len(feed(world)) == 200
    (digest,) = world.pager.digests
    assert digest.title.startswith("198 alerts, ")
    assert "and 173 more in the feed" in digest.text
    assert AlertRepository(world.state).pending("pager") == []
    with capsys.disabled():
        print(f"\nF508 storm of 200: notifications {world.pager.notifications}, in the feed {len(feed(world))}, lost 0")


def test_after_a_storm_alerts_leave_one_by_one_again():
    world = World(NOON_MS)
    service = world.service()
    for number in range(5):
        service.handle(trade_spike(NOON_MS, f"S{number}USDT"))
    world.pass_minutes(3, service)
    assert (len(world.pager.got), len(world.pager.digests)) == (2, 1)
    service.handle(trade_spike(world.clock.now_ms(), "LATERUSDT"))
    assert world.pager.got[-1].symbol == "LATERUSDT"


def test_two_processes_share_one_pace():
    world = World(NOON_MS)
    services = [world.service() for _ in range(5)]
    for number, service in enumerate(services):
        service.handle(trade_spike(NOON_MS, f"S{number}USDT"))
    assert len(world.pager.got) == 2


def test_a_system_alert_is_never_gathered():
    world = World(NOON_MS)
    service = world.service()
    for number in range(4):
        service.handle(trade_spike(NOON_MS, f"S{number}USDT"))
    service.handle(system(NOON_MS))
    assert world.pager.got[-1].symbol == "feed"


def test_a_channel_down_for_an_hour_returns_with_one_digest_and_delays_nobody(capsys):
    """F507, and the issue's proof: one digest on return, the other channel has had everything at once."""
    other = KeepingChannel("console")
    world = World(NOON_MS, channels=[PagingChannel(), other])
    service = world.service()
    world.pager.error = down()
    for minute in range(60):
        service.handle(trade_spike(world.clock.now_ms(), f"S{minute}USDT"))
        assert sum(alert.detector.value == "trade_spike" for alert in other.got) == minute + 1
        world.pass_minutes(1, service)
    assert world.pager.notifications == 0
    world.pager.error = None
    world.pass_minutes(6, service)
    told = [alert for alert in world.pager.got if alert.detector.value == "system"]
    (digest,) = world.pager.digests
    assert len(digest.alerts) >= 60
    assert "while this channel was down" in digest.title
    assert len(world.pager.got) == len(told)  # beside the digest only the recovery message
    with capsys.disabled():
        print(f"\nF507 down for an hour: digests 1 with {len(digest.alerts)} alerts, late on the other channel 0")
    assert len(world.pager.heard()) == len(set(world.pager.heard()))


def test_a_channel_down_for_a_day_returns_with_one_digest():
    """F507: an alert each five minutes; what is older than `dead_after_hours` is given up, the rest is one digest."""
    world = World(NOON_MS, Settings(alerts=AlertSettings(dead_after_hours=24)))
    service = world.service()
    world.pager.error = down()
    for minute in range(0, 1440 + 30, 5):
        world.clock.set(NOON_MS + minute * MINUTE_MS)
        service.handle(trade_spike(world.clock.now_ms(), f"S{minute}USDT"))
    world.clock.advance(MINUTE_MS)
    report = service.redeliver(world.clock.now_ms())
    assert report.dead == 6
    world.pager.error = None
    world.pass_minutes(6, service)
    assert len(world.pager.digests) == 1
    assert len(world.pager.heard()) == len(set(world.pager.heard())) >= 288
    assert len(world.pager.got) <= 2


def test_a_dead_destination_is_told_once_and_not_tried_again():
    """F502, F505: red with the cure, no more tries, events stay pending, told once on the others, and once healed."""
    other = KeepingChannel("console")
    world = World(NOON_MS, channels=[PagingChannel(), other])
    world.pager.error = down(fatal=True)
    tries = []
    world.pager.before = lambda: tries.append(1)
    service = world.service()
    assert service.handle(volume_spike()).deliveries["pager"] is DeliveryState.PENDING
    for minute in range(30):
        world.pass_minutes(1, service)
        service.handle(trade_spike(world.clock.now_ms(), f"S{minute}USDT"))
    assert len(tries) == 1
    told = [alert for alert in other.got if alert.detector.value == "system"]
    assert len(told) == 1
    assert "not today" in told[0].text
    world.pager.error = None
    service.revive("pager")
    world.pass_minutes(2, service)
    assert len(world.pager.digests) == 1
    told = [alert for alert in other.got if alert.detector.value == "system"]
    assert [alert.direction.value for alert in told if alert.direction] == ["DOWN", "UP"]
    assert "works again" in told[1].text


def test_a_corrected_setting_revives_a_dead_destination():
    world = World(NOON_MS)
    world.pager.error = down(fatal=True)
    service = world.service()
    service.handle(volume_spike(NOON_MS))
    world.pager.error, world.pager.fingerprint = None, "elsewhere"
    world.pass_minutes(1, service)
    assert world.pager.notifications == 1


def test_what_nobody_took_for_a_day_is_dead_and_counted():
    """F502: dead after 24 h, counted."""
    world = World(NOON_MS)
    world.pager.error = down()
    service = world.service()
    outcome = service.handle(volume_spike(NOON_MS))
    world.clock.advance(25 * HOUR_MS)
    assert service.redeliver(world.clock.now_ms()).dead == 1
    note = AlertRepository(world.state).deliveries(outcome.alert_id)["pager"]
    assert (note.state, note.error) == ("dead", "not delivered within 24 h")


def test_a_channel_is_not_told_to_work_before_it_has_taken_something():
    """What is given up leaves nothing pending, and shows nothing."""
    other = KeepingChannel("console")
    world = World(NOON_MS, Settings(alerts=AlertSettings(dead_after_hours=2)), [PagingChannel(), other])

    def told() -> list[str]:
        return [alert.direction.value for alert in other.got if alert.detector.value == "system" and alert.direction]

    world.pager.error = down()
    service = world.service()
    service.handle(volume_spike(NOON_MS))
    world.pass_minutes(6 * 60, service)
    assert AlertRepository(world.state).pending("pager") == []
    assert told() == ["DOWN"]
    world.pager.error = None
    world.service().handle(trade_spike(world.clock.now_ms(), "BACKUSDT"))  # another process
    assert [alert.symbol for alert in world.pager.got] == ["BACKUSDT"]
    world.pass_minutes(1, service)
    assert told() == ["DOWN", "UP"]


def test_a_channel_that_hangs_delays_no_other_by_a_second(capsys):
    """F504: each channel has its own thread; the caller waits for an idle lane only, and only half a second."""
    hung = threading.Event()
    slow, quick = PagingChannel("slow", before=lambda: hung.wait(20)), KeepingChannel("console")
    world = World(SystemClock().now_ms(), channels=[slow, quick])
    service = world.service(lanes=Threads())
    worst = 0.0
    for number in range(8):
        began = time.monotonic()
        outcome = service.handle(trade_spike(world.clock.now_ms(), f"S{number}USDT"))
        worst = max(worst, time.monotonic() - began)
        assert outcome.deliveries == {"slow": DeliveryState.PENDING, "console": DeliveryState.SENT}
    assert len(quick.got) == 8
    assert worst < 1.0
    with capsys.disabled():
        print(f"\nF504 a channel that hangs: the others at most {worst:.2f} s later")
    began = time.monotonic()
    hung.set()
    assert service.settle(5.0)
    assert slow.notifications == 2  # two by themselves; six are gathered
    assert time.monotonic() - began < 5
