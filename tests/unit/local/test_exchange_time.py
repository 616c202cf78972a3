"""The exchange's clock leads: schedules follow it whatever this machine's clock says."""

from __future__ import annotations

import pytest

from local.exchange_time import follow, measure_offset_ms
from shared.clock import ManualClock, OffsetClock
from shared.errors import ExchangeUnavailable
from shared.market.model import Market
from tests.fakes import FakeMarketData


class SlowExchange(FakeMarketData):
    """Each answer takes its own time to arrive, all of it on the way back."""

    delays = (400, 20, 900)

    def server_time_ms(self, market: Market) -> int:
        told = super().server_time_ms(market)
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(self.delays[self.calls["server_time_ms"] - 1])
        return told


@pytest.mark.parametrize("ahead_ms", [0, 37_000, -5_400_000])
def test_the_offset_is_that_of_the_quickest_answer(ahead_ms: int) -> None:
    base = ManualClock(1_000_000_000)
    market_data = SlowExchange(base, offset_ms=ahead_ms)
    assert measure_offset_ms(market_data, base) == pytest.approx(ahead_ms, abs=10)
    assert market_data.calls["server_time_ms"] == 3


def test_following_moves_the_clock_and_says_when_it_is_far_off() -> None:
    base = ManualClock(1_000_000_000)
    clock = OffsetClock(base)
    assert follow(clock, FakeMarketData(base, offset_ms=300), base) is None
    assert clock.now_ms() == 1_000_000_300
    said = follow(clock, FakeMarketData(base, offset_ms=61_000), base)
    assert said == "this machine's clock is 61.0 s behind the exchange's: the exchange's time is used"
    assert "ahead of" in (follow(clock, FakeMarketData(base, offset_ms=-61_000), base) or "")


def test_an_exchange_that_does_not_answer_leaves_the_clock_alone() -> None:
    base = ManualClock(5_000)
    clock = OffsetClock(base, 123)
    silent = FakeMarketData(base, errors={"server_time_ms": ExchangeUnavailable("no answer")})
    assert follow(clock, silent, base) is None
    assert clock.offset_ms == 123
