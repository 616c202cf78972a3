"""The one figure of the alarms: every condition by itself, all together, and none."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import msgspec
import pytest
from fakes import START_MS, FakeWorld

from shared.clock import MINUTE_MS
from shared.errors import StorageUnavailable
from shared.jobs import watchdog
from shared.jobs.troubles import count_dead_letters, judge
from shared.observability import Trouble
from shared.storage.failures import FailureRepository


def test_every_combination_of_conditions_is_told() -> None:
    seen = set()
    for age, silent, errors, dead in product(
        (None, 0, 60, 61, 180, 181), ((), ("streamer",), ("sector",)), (0, 1, 2), (None, 0, 3)
    ):
        found = judge(data_age_s=age, silent=silent, errors=errors, dead_letters=dead)
        assert (Trouble.STREAMER_SILENT in found) == (age is None or age > 180)
        assert (Trouble.FEED_LAG in found) == (age is None or age > 60)
        assert (Trouble.MINUTE_MISSED in found) == (silent == ("sector",))
        assert (Trouble.FUNCTION_ERRORS in found) == (errors > 1)
        assert (Trouble.DEAD_LETTERS in found) == (dead != 0)
        seen.add(int(found))
        streamless = judge(data_age_s=age, silent=silent, errors=errors, dead_letters=dead, streamed=False)
        assert streamless == found & ~(Trouble.STREAMER_SILENT | Trouble.FEED_LAG)
    assert {0, 31} <= seen


def test_queues_that_do_not_answer_are_trouble_and_none_are_not() -> None:
    def broken() -> int:
        raise StorageUnavailable("no answer")

    assert [count_dead_letters(one) for one in (None, lambda: 4, broken)] == [0, 4, None]


def test_a_deployment_without_a_streamer_is_not_missing_one(world: FakeWorld) -> None:
    rules = world.settings
    streamless = msgspec.structs.replace(
        rules,
        trade_spike=msgspec.structs.replace(rules.trade_spike, enabled=False),
        window_anomaly=msgspec.structs.replace(rules.window_anomaly, enabled=False),
    )
    wanted = Trouble.STREAMER_SILENT | Trouble.FEED_LAG
    for settings, found in ((rules, wanted), (streamless, Trouble(0))):
        report = watchdog.run(replace(world.deps, settings=settings), scheduled_ms=START_MS)
        assert report.trouble is not None
        assert report.trouble & wanted == found


@pytest.mark.parametrize(("minutes_ago", "counted"), [((0, 1), 2), ((1, 6), 1), ((6, 7), 0)])
def test_the_watchdog_counts_recent_failures(world: FakeWorld, minutes_ago: tuple[int, ...], counted: int) -> None:
    failures = FailureRepository(world.table)
    for ago in minutes_ago:
        failures.note("sector", START_MS - ago * MINUTE_MS, "storage_unavailable")
    report = watchdog.run(replace(world.deps, dead_letters=lambda: 2), scheduled_ms=START_MS)
    assert (report.errors, report.dead_letters) == (counted, 2)
    assert report.trouble is not None
    assert bool(report.trouble & Trouble.FUNCTION_ERRORS) == (counted > 1)
    assert report.trouble & Trouble.DEAD_LETTERS
