"""The exchange's time on this machine: schedules and ages follow it, so a wrong local clock does no harm."""

from __future__ import annotations

from shared.clock import Clock, OffsetClock, SystemClock
from shared.errors import ExchangeError
from shared.exchange.market_data import MarketData
from shared.market.model import Market
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.table import Table

SAMPLES = 3
COMPONENT = "clock"
WORTH_SAYING_MS = 2_000


def measure_offset_ms(market_data: MarketData, base: Clock, *, samples: int = SAMPLES) -> int:
    """Return the exchange's time minus `base`'s, in milliseconds: of the sample with the shortest round trip.

    The answer is taken to have been written half-way between question and answer.
    Source: Cristian (1989), probabilistic clock synchronization.

    Raises:
        ExchangeError: no sample was answered.
    """
    best: tuple[int, int] | None = None
    for _ in range(samples):
        asked_ms = base.now_ms()
        told_ms = market_data.server_time_ms(Market.SPOT)
        answered_ms = base.now_ms()
        sample = (answered_ms - asked_ms, told_ms - (asked_ms + answered_ms) // 2)
        best = sample if best is None else min(best, sample)
    assert best is not None  # noqa: S101 - at least one sample was taken or an error raised
    return best[1]


def note_offset(table: Table, clock: OffsetClock, base: Clock) -> None:
    """Leave the offset in the state, for the commands that are asked beside a running system."""
    HeartbeatRepository(table).beat(COMPONENT, base.now_ms(), {"offset_ms": clock.offset_ms})


def state_clock(table: Table) -> OffsetClock:
    """Return the clock that the state was written by: this machine's, moved by the offset that `run` has measured."""
    noted = HeartbeatRepository(table).all().get(COMPONENT, {}).get("offset_ms")
    return OffsetClock(SystemClock(), noted if isinstance(noted, int) else 0)


def follow(clock: OffsetClock, market_data: MarketData, base: Clock) -> str | None:
    """Set the clock to the exchange's time; return a sentence when this machine's clock is far off.

    An exchange that does not answer leaves the clock as it was.
    """
    try:
        clock.offset_ms = measure_offset_ms(market_data, base)
    except ExchangeError:
        return None
    if abs(clock.offset_ms) < WORTH_SAYING_MS:
        return None
    side = "behind" if clock.offset_ms > 0 else "ahead of"
    off_s = abs(clock.offset_ms) / 1000
    return f"this machine's clock is {off_s:,.1f} s {side} the exchange's: the exchange's time is used"
