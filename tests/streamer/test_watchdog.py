"""Silent or quiet: judged by each stream's own rate."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from streamer.watchdog import EVERYTHING, Silence, Watchdog


def run(
    watchdog: Watchdog, rates: dict[str, float], seconds: float, start_s: float, counts: dict[str, int]
) -> list[tuple[float, Silence]]:
    """Let trades come at random at these rates; return every silence with its time."""
    rng, found, now_s = random.Random(1), [], start_s
    while now_s < start_s + seconds:
        now_s += 0.25
        for name, rate in rates.items():
            counts[name] = counts.get(name, 0) + sum(rng.random() < rate / 40 for _ in range(10))
        silence = watchdog.look(counts, now_s)
        if silence is not None:
            found.append((now_s, silence))
            watchdog.replaced(now_s)
    return found


def test_a_busy_feed_that_falls_silent_is_seen_within_the_threshold() -> None:
    watchdog, counts = Watchdog(5.0, ["A"], 0.0), {}
    assert run(watchdog, {"A": 30.0}, 60, 0.0, counts) == []
    ((at_s, silence), *_) = run(watchdog, {}, 8, 60.0, counts)
    assert silence.stream in ("A", EVERYTHING)
    assert at_s - 60.0 <= 5.5


def test_one_silent_symbol_among_busy_ones_is_seen() -> None:
    watchdog, counts = Watchdog(5.0, ["A", "B"], 0.0), {}
    assert run(watchdog, {"A": 30.0, "B": 20.0}, 60, 0.0, counts) == []
    ((at_s, silence), *_) = run(watchdog, {"A": 30.0}, 10, 60.0, counts)
    assert silence.stream == "B"
    assert at_s - 60.0 <= 5.5


@pytest.mark.parametrize("rate", [0.02, 0.2, 1.0])
def test_a_thin_symbol_is_not_taken_for_a_broken_one(rate: float) -> None:
    watchdog = Watchdog(5.0, ["thin", "busy"], 0.0)
    assert run(watchdog, {"thin": rate, "busy": 10.0}, 3600, 0.0, {}) == []


def test_a_market_that_stops_causes_no_storm() -> None:
    watchdog, counts = Watchdog(5.0, ["A", "B"], 0.0), {}
    run(watchdog, {"A": 30.0, "B": 30.0}, 60, 0.0, counts)
    # One symbol is halted for an hour, the other goes on.
    found = run(watchdog, {"B": 30.0}, 3600, 60.0, counts)
    assert 1 <= len(found) <= 13
    gaps = [b[0] - a[0] for a, b in pairwise(found)]
    assert all(gap >= 300 for gap in gaps)


def test_our_own_pause_is_not_the_exchanges_silence() -> None:
    watchdog, counts = Watchdog(5.0, ["A"], 0.0), {}
    run(watchdog, {"A": 30.0}, 60, 0.0, counts)
    assert watchdog.look(counts, 90.0) is None
    assert watchdog.look(counts, 90.25) is None


def test_a_feed_that_never_spoke_is_replaced_in_the_end() -> None:
    found = run(Watchdog(5.0, ["A"], 0.0), {}, 100, 0.0, {})
    assert [round(at_s) for at_s, _ in found] == [30]


def test_quiet_streams_are_named() -> None:
    watchdog, counts = Watchdog(5.0, ["A", "B"], 0.0), {}
    run(watchdog, {"A": 30.0}, 20, 0.0, counts)
    assert watchdog.quiet(20.0) == ["B"]
