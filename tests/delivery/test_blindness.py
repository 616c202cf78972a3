"""A detector that cannot see is an alert of its own kind: once, with the reason and the cure, and once when it is over.

P7; F202, F203 (418, 403, 451 are told with their reason), F509 (flapping: at most two notices an hour).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fakes import START_MS, FakeWorld

from shared.clock import HOUR_MS, MINUTE_MS, iso_utc
from shared.detection.reading import Direction
from shared.errors import Banned, Blocked, ExchangeError, ExchangeUnavailable, RateLimited, RestrictedLocation
from shared.jobs import kline_bars, order_book, volume_spike, watchdog
from shared.jobs.common import beat
from shared.jobs.health import health
from shared.market.model import Market
from shared.settings import StreamerSettings
from shared.storage.blindness import BlindnessRepository
from streamer.service import StreamerService

BEGIN = START_MS + 4 * HOUR_MS
BAN_END_MS = BEGIN + 40 * MINUTE_MS
REFUSALS: list[tuple[ExchangeError, str, str]] = [
    (Banned("banned", until_ms=BAN_END_MS), f"HTTP 418, spot) until {iso_utc(BAN_END_MS)}", "exchange.weight_share"),
    (RestrictedLocation("no", status=451), "does not serve this location (HTTP 451, spot)", "exchange.spot_rest_url"),
    (Blocked("no", status=403), "firewall refuses this address (HTTP 403, spot)", "use another address"),
]


@pytest.fixture
def world() -> FakeWorld:
    world = FakeWorld()
    for symbol in world.settings.universe.spot_symbols:
        world.market.fill(Market.SPOT, symbol, START_MS, BEGIN + 3 * HOUR_MS)
        world.market.book(symbol, 1.0, 1.0)
    for symbol in world.settings.futures_symbols:
        world.market.fill(Market.USDM, symbol, START_MS, BEGIN + 3 * HOUR_MS)
    return world


def refuse(world: FakeWorld, market: Market, error: Exception | None) -> None:
    """Every call to one market's host is answered so."""
    if error is None:
        world.market.errors.clear()
        return
    names = ("depth", "klines:spot") if market is Market.SPOT else ("klines:usdm",)
    world.market.errors |= dict.fromkeys((*names, f"server_time_ms:{market.value}"), error)


def minutes(world: FakeWorld, first: int, last: int, each: Callable[[int], None] = lambda minute: None) -> None:
    """Let the schedules run for the minutes [first, last); the streamer and the sector's chain are alive throughout."""
    for minute in range(first, last):
        each(minute)
        minute_ms = world.at(BEGIN + minute * MINUTE_MS + 1_500)
        for name in ("streamer", "sector"):
            beat(world.deps, name, {})
        for job in (volume_spike.run, kline_bars.run):
            try_run(job, world, minute_ms=minute_ms)
        try_run(order_book.run, world, scheduled_ms=world.clock.now_ms())
        world.clock.set(BEGIN + minute * MINUTE_MS + 20_000)
        watchdog.run(world.deps, scheduled_ms=world.clock.now_ms())


def try_run(job: Any, world: FakeWorld, **when: int) -> None:
    try:
        job(world.deps, **when)
    except ExchangeError:
        return  # the schedule goes on


def told(world: FakeWorld) -> list[tuple[str, Direction | None]]:
    return [(one.symbol, one.direction) for one in world.channel.sent if one.detector.value == "system"]


@pytest.mark.parametrize(("error", "reason", "cure"), REFUSALS)
def test_f202_f203_a_refusing_exchange_is_told_once_with_reason_and_cure_and_so_is_its_end(
    world: FakeWorld, error: ExchangeError, reason: str, cure: str, capsys: Any
) -> None:
    minutes(world, 0, 5)
    refuse(world, Market.SPOT, error)
    minutes(world, 5, 35)
    (down,) = [one for one in world.channel.sent if one.detector.value == "system"]
    assert (down.symbol, down.direction, down.severity.value) == ("exchange-spot", Direction.DOWN, "critical")
    assert reason in down.text
    assert cure in down.text.partition("What to do:")[2]
    assert down.values["state"] == error.code
    assert down.event_ms <= BEGIN + 6 * MINUTE_MS  # within two runs of the watchdog
    row = health(world.deps)["detectors"]["volume_spike"]
    assert row["state"] == "silent"
    assert reason in row["reason"]
    refuse(world, Market.SPOT, None)
    minutes(world, 35, 45)
    down, up = [one for one in world.channel.sent if one.detector.value == "system"]
    assert (up.symbol, up.direction) == ("exchange-spot", Direction.UP)
    assert "is back after 30 min" in up.text
    assert health(world.deps)["detectors"]["volume_spike"]["state"] != "silent"
    with capsys.disabled():
        print(f"\nF202/F203 {error.code}: notices 2, first after {(down.detected_ms - BEGIN) / 1000 - 301.5} s")


def test_f203_both_markets_are_told_apart(world: FakeWorld) -> None:
    minutes(world, 0, 5)
    refuse(world, Market.USDM, RestrictedLocation("no", status=451))
    minutes(world, 5, 20)
    assert told(world) == [("exchange-usdm", Direction.DOWN)]
    assert "sector.enabled: false" in world.channel.sent[-1].text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ExchangeUnavailable("HTTP 503 after 3 attempts"), "exchange_unavailable: HTTP 503"),
        (RateLimited("the host asks for a pause", retry_after_s=600.0), "rate_limited: the host asks for a pause"),
    ],
)
def test_no_data_is_told_with_its_reason(world: FakeWorld, error: ExchangeError, reason: str) -> None:
    """P7: an exchange that answers with nothing usable; each minute job says so once, after its limit."""
    minutes(world, 0, 5)
    refuse(world, Market.SPOT, error)
    minutes(world, 5, 25)
    assert sorted(told(world)) == [("order-book", Direction.DOWN), ("volume-spike", Direction.DOWN)]
    for alert in world.channel.sent:
        assert reason in alert.text
        assert "What to do:" in alert.text
    refuse(world, Market.SPOT, None)
    minutes(world, 25, 28)
    assert sorted(told(world)[2:]) == [("order-book", Direction.UP), ("volume-spike", Direction.UP)]
    assert "is back after" in world.channel.sent[-1].text


def test_f509_a_host_that_refuses_every_other_minute_is_told_at_most_twice_an_hour(
    world: FakeWorld, capsys: Any
) -> None:
    def flap(minute: int) -> None:
        refuse(world, Market.SPOT, RestrictedLocation("no", status=451) if minute % 2 else None)

    minutes(world, 0, 120, flap)
    hours = [[one for one in world.channel.sent if one.event_ms // HOUR_MS == BEGIN // HOUR_MS + n] for n in (0, 1)]
    assert all(len(one) <= 2 for one in hours)
    with capsys.disabled():
        print(f"\nF509 60 refusals in two hours: notices {[len(one) for one in hours]}")


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (RestrictedLocation("not from here (451 on the stream)", status=451), "exchange.spot_ws_url"),
        (Blocked("the firewall refused the stream (403)", status=403), "use another address"),
    ],
)
def test_f203_a_refused_streamer_is_told_by_the_next_watchdog_with_its_reason(
    world: FakeWorld, error: ExchangeError, cure: str
) -> None:
    """F118, P7: through the streamer itself, whose connections are refused, and the watchdog."""

    async def refused(url: str, on_messages: object) -> Any:
        raise error

    settings = msgspec.structs.replace(world.settings, streamer=StreamerSettings(heartbeat_seconds=0.05))
    others = [one.name for one in watchdog.watched(settings) if one.name != "streamer"]
    watchdog.run(world.deps, scheduled_ms=world.clock.now_ms())
    world.clock.advance(MINUTE_MS)
    streamer = StreamerService(settings, world.market, world.deps.alerts, world.table, world.clock, connector=refused)
    streamer.run_in_thread()
    try:
        for _ in range(400):
            world.clock.advance(60)
            if BlindnessRepository(world.table).all():
                break
            time.sleep(0.02)
        for minute in (1, 2):
            world.clock.set(START_MS + minute * MINUTE_MS + 59_000)
            for name in others:
                beat(world.deps, name, {})
            watchdog.run(world.deps, scheduled_ms=world.clock.now_ms())
    finally:
        streamer.stop()
    assert told(world) == [("streamer", Direction.DOWN)]
    (alert,) = world.channel.sent
    assert str(error) in alert.text
    assert cure in alert.text.partition("What to do:")[2]
    assert alert.severity.value == "critical"


def test_guard_without_the_reason_a_ban_is_mere_silence(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlindnessRepository, "note", lambda self, blind: None)
    minutes(world, 0, 5)
    refuse(world, Market.SPOT, REFUSALS[0][0])
    minutes(world, 5, 20)
    assert ("exchange-spot", Direction.DOWN) not in told(world)
    assert all("418" not in one.text for one in world.channel.sent)
