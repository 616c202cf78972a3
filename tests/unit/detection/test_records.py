from __future__ import annotations

import json
import math
import random

from hypothesis import given
from hypothesis import strategies as st

from shared.detection.records import Record, tail_share
from shared.detection.trade_spike import SpikePast
from shared.settings import TradeSpikeSettings
from shared.times import HOUR_MS


def oracle(values: list[tuple[float, int]], horizon_hours: float) -> list[float | None]:
    out: list[float | None] = []
    for i, (value, at) in enumerate(values):
        past = [t for v, t in values[:i] if v >= value and at - t <= horizon_hours * HOUR_MS]
        out.append((at - max(past)) / HOUR_MS if past else None)
    return out


@given(st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 2 * HOUR_MS)), max_size=60))
def test_equals_looking_back_through_everything(steps: list[tuple[float, int]]) -> None:
    at, values = 0, []
    for value, gap in steps:
        at += gap
        values.append((value, at))
    record = Record(5.0)
    assert [record.step(value, at) for value, at in values] == oracle(values, 5.0)


def test_a_record_of_a_day_comes_once_a_day_however_many_values_there_are() -> None:
    for per_day in (20, 2000):
        source, record, days = random.Random(per_day), Record(24.0), 200
        alarms = 0
        for n in range(days * per_day):
            hours = record.step(source.paretovariate(1.1), n * 24 * HOUR_MS // per_day)
            alarms += n > 2 * per_day and (hours is None or hours >= 24.0)
        assert 0.75 * days < alarms < 1.3 * days


def test_continues_from_a_snapshot_and_ignores_what_is_no_number() -> None:
    one, two = Record(24.0), Record(24.0)
    for n, value in enumerate([5.0, 1.0, 3.0]):
        one.step(value, n * HOUR_MS)
    two.restore(json.loads(json.dumps(one.snapshot())))
    assert one.step(4.0, 3 * HOUR_MS) == two.step(4.0, 3 * HOUR_MS) == 3.0
    assert one.watched_hours(4 * HOUR_MS) == two.watched_hours(4 * HOUR_MS) == 4.0
    assert one.seen == two.seen == 4
    assert one.step(float("nan"), 4 * HOUR_MS) == 0.0
    assert one.step(4.5, 5 * HOUR_MS) == 5.0


def test_a_record_of_an_earlier_version_is_taken_for_old_enough() -> None:
    record = Record(24.0)
    record.restore({"version": 1, "larger": [[5.0, 1_000 * HOUR_MS]]})
    assert record.watched_hours(1_001 * HOUR_MS) > 24.0


def test_the_tail_share_is_careful_with_few_and_exact_with_many() -> None:
    assert tail_share(5.0, []) == 1.0
    assert tail_share(1.0, [1.0]) == 0.5
    assert tail_share(0.0, [0.0, 0.0]) == 1.0
    assert tail_share(1.0, [0.0, 0.0]) == 0.0
    source = random.Random(1)
    many = [source.expovariate(2.0) for _ in range(20_000)]
    assert abs(tail_share(3.0, many) / math.exp(-6.0) - 1.0) < 0.1


def alarms_by_day(source: random.Random, per_day: int, days: int) -> list[int]:
    """Return a young watch's records, and what is expected as rarely as one, of spikes with a Pareto tail."""
    past, alarms = SpikePast(TradeSpikeSettings()), [0] * days
    for n in range(days * per_day):
        _, since, returns = past.step(10.0 * source.paretovariate(2.0), n * 24 * HOUR_MS // per_day)
        alarms[n // per_day] += since >= 24.0 if since is not None else returns is None or returns >= 24.0
    return alarms


def test_the_first_day_of_a_watch_has_no_more_alarms_than_the_others() -> None:
    source, days = random.Random(7), [0] * 4
    for _ in range(200):
        for day, alarms in enumerate(alarms_by_day(source, 60, 4)):
            days[day] += alarms
    assert 0.3 < days[0] / 200 < 1.2
    assert all(0.8 < later / 200 < 1.2 for later in days[2:])


def test_a_huge_spike_of_the_first_day_is_told() -> None:
    past = SpikePast(TradeSpikeSettings())
    assert past.step(30.0, 0) == (None, None, 0.0)  # nothing to compare it with
    for n in range(1, 12):
        past.step(10.0 + n % 4, n * HOUR_MS // 3)
    _, since, returns = past.step(100.0, 4 * HOUR_MS)
    assert since is None
    assert returns is not None
    assert returns > 24.0
