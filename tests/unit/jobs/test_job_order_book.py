"""The order-book job: one decision per sample, whoever repeats it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from fakes import START_MS, FakeWorld

from shared.clock import MINUTE_MS
from shared.errors import ExchangeUnavailable, StorageUnavailable
from shared.jobs import order_book
from shared.jobs.deps import Dependencies
from shared.settings import OrderBookSettings, Settings
from shared.storage.readings import ReadingRepository


@pytest.fixture
def lopsided() -> FakeWorld:
    settings = msgspec.structs.replace(Settings(), order_book=OrderBookSettings(alert_enabled=True))
    world = FakeWorld(settings=settings)
    world.market.book("BTCUSDT", 9.0, 1.0)
    world.market.book("ETHUSDT", 1.0, 1.0)
    return world


def sample(world: FakeWorld, number: int, deps: Dependencies | None = None) -> order_book.OrderBookReport:
    world.clock.set(START_MS + number * MINUTE_MS + 700)
    return order_book.run(deps or world.deps, scheduled_ms=START_MS + number * MINUTE_MS)


def test_three_samples_in_a_row_alert_once(lopsided: FakeWorld) -> None:
    signals = [sample(lopsided, number).signals for number in range(6)]
    assert signals == [0, 0, 1, 0, 0, 0]
    [alert] = lopsided.channel.sent
    assert (alert.symbol, alert.values["obi"]) == ("BTCUSDT", 0.8)


def test_a_repeated_sample_changes_nothing(lopsided: FakeWorld) -> None:
    for number in range(2):
        assert not sample(lopsided, number).repeated
        assert sample(lopsided, number).repeated
        assert sample(lopsided, number, lopsided.another()).repeated
    assert lopsided.channel.sent == []  # two samples, asked for six times, are not three in a row
    assert sample(lopsided, 2).alerts == 1
    again = sample(lopsided, 2, lopsided.another())
    assert (again.repeated, again.signals, again.alerts, len(lopsided.channel.sent)) == (True, 1, 0, 1)


def test_an_older_sample_is_late_and_leaves_the_state_alone(lopsided: FakeWorld) -> None:
    sample(lopsided, 0)
    sample(lopsided, 2)
    assert sample(lopsided, 1).skipped == "late: a newer sample has been taken"
    assert sample(lopsided, 3).signals == 1


class DiesBeforeTelling:
    def handle(self, signal: object) -> object:
        raise StorageUnavailable("killed")

    def redeliver(self, now_ms: int) -> object:
        raise StorageUnavailable("killed")


def test_a_run_killed_before_it_could_tell_loses_nothing(lopsided: FakeWorld) -> None:
    for number in range(2):
        sample(lopsided, number)
    with pytest.raises(StorageUnavailable):
        sample(lopsided, 2, replace(lopsided.deps, alerts=DiesBeforeTelling()))
    assert sample(lopsided, 2).alerts == 1
    assert len(lopsided.channel.sent) == 1


def test_an_empty_book_is_no_data_and_breaks_the_row(lopsided: FakeWorld) -> None:
    sample(lopsided, 0)
    sample(lopsided, 1)
    lopsided.market.book("BTCUSDT", 0.0, 0.0)
    assert sample(lopsided, 2).no_data == 1
    lopsided.market.book("BTCUSDT", 9.0, 1.0)
    assert [sample(lopsided, number).signals for number in (3, 4, 5)] == [0, 0, 1]


def test_a_symbol_without_an_answer_keeps_its_state(lopsided: FakeWorld) -> None:
    sample(lopsided, 0)
    sample(lopsided, 1)
    lopsided.market.errors["BTCUSDT"] = ExchangeUnavailable("no answer")
    assert sample(lopsided, 2).failed == {"BTCUSDT": "exchange_unavailable: no answer"}
    lopsided.market.errors.clear()
    assert sample(lopsided, 3).signals == 1


def test_readings_are_kept_by_sample(lopsided: FakeWorld) -> None:
    sample(lopsided, 0)
    latest = ReadingRepository(lopsided.table).latest(order_book.KIND)
    assert latest is not None
    assert latest[0] == START_MS
    assert latest[1]["BTCUSDT"]["obi"] == 0.8


def test_samples_follow_the_configured_interval() -> None:
    settings = msgspec.structs.replace(Settings(), order_book=OrderBookSettings(interval_seconds=10))
    world = FakeWorld(settings=settings)
    world.market.book("BTCUSDT", 9.0, 1.0)
    assert order_book.run(world.deps, scheduled_ms=START_MS + 19_999).sample_ms == START_MS + 10_000
