"""F601: windows and signals come from the exchange's time alone, whatever this machine's clock shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.detection.reading import Signal
from tests.streamer.streams import START_MS, frame
from tests.streamer.test_session import GOLDEN, STREAM, new_session, take

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
HALF = len(STREAM) // 2
YEAR_2038_MS = 2**31 * 1000


@pytest.mark.parametrize(
    "shown",
    [
        lambda at, ms: ms - 5 * MINUTE_MS,
        lambda at, ms: ms + 5 * MINUTE_MS,
        lambda at, ms: ms if at < HALF else ms - HOUR_MS,
        lambda at, ms: ms if at < HALF else ms + HOUR_MS,
        lambda at, ms: ms - 1000 if at == HALF else ms,
        lambda at, ms: ms - START_MS + YEAR_2038_MS - 30_000,
    ],
    ids=["slow", "fast", "an hour back", "an hour on", "leap second", "2038"],
)
def test_f601_our_clock_decides_nothing(shown: Callable[[int, int], int]) -> None:
    session, facts = new_session(), ([], [])
    for at, trade in enumerate(STREAM):
        take(session, session.receive(frame(trade), shown(at, trade.recv_ms)), facts)
    assert session.trades == len(STREAM)
    assert [said(one) for one in facts[0]] == [said(one) for one in GOLDEN[0]]
    assert facts[1] == GOLDEN[1]


def said(signal: Signal) -> tuple[object, ...]:
    return signal.detector, signal.symbol, signal.event_ms, signal.values
