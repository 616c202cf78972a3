from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from shared.detection.records import Record
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
    assert one.step(float("nan"), 4 * HOUR_MS) == 0.0
    assert one.step(4.5, 5 * HOUR_MS) == 5.0
