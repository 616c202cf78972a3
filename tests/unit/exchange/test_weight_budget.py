from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exchange.binance.endpoints import Endpoint
from shared.exchange.binance.limits import WeightBudget, weight_of
from shared.market.model import Market

SPOT, USDM = Market.SPOT, Market.USDM


@pytest.mark.parametrize(
    ("market", "endpoint", "params", "weight"),
    [
        (SPOT, Endpoint.KLINES, {"limit": "1000"}, 2),
        (USDM, Endpoint.KLINES, {"limit": "99"}, 1),
        (USDM, Endpoint.KLINES, {"limit": "499"}, 2),
        (USDM, Endpoint.KLINES, {"limit": "500"}, 5),
        (USDM, Endpoint.KLINES, {"limit": "1000"}, 5),
        (USDM, Endpoint.KLINES, {"limit": "1500"}, 10),
        (USDM, Endpoint.KLINES, {}, 5),
        (SPOT, Endpoint.DEPTH, {"limit": "100"}, 5),
        (SPOT, Endpoint.DEPTH, {"limit": "101"}, 25),
        (SPOT, Endpoint.DEPTH, {"limit": "1000"}, 50),
        (SPOT, Endpoint.DEPTH, {"limit": "5000"}, 250),
        (USDM, Endpoint.DEPTH, {"limit": "5"}, 2),
        (USDM, Endpoint.DEPTH, {"limit": "100"}, 5),
        (USDM, Endpoint.DEPTH, {"limit": "1000"}, 20),
        (SPOT, Endpoint.EXCHANGE_INFO, {}, 20),
        (USDM, Endpoint.EXCHANGE_INFO, {}, 1),
        (SPOT, Endpoint.AGG_TRADES, {}, 4),
        (USDM, Endpoint.AGG_TRADES, {}, 20),
        (SPOT, Endpoint.HISTORICAL_TRADES, {}, 25),
        (USDM, Endpoint.HISTORICAL_TRADES, {}, 200),
        (USDM, Endpoint.PREMIUM_INDEX, {}, 10),
        (USDM, Endpoint.PREMIUM_INDEX, {"symbol": "A"}, 1),
        (USDM, Endpoint.OPEN_INTEREST, {}, 1),
        (USDM, Endpoint.OPEN_INTEREST_HISTORY, {}, 0),
    ],
)
def test_weights(market: Market, endpoint: Endpoint, params: dict[str, str], weight: int) -> None:
    assert weight_of(market, endpoint, params) == weight


def test_the_budget_waits_for_the_next_full_minute() -> None:
    budget = WeightBudget(100, share=0.8)
    assert budget.reserve(80, 60_000 + 5_000) == 0
    assert budget.reserve(1, 60_000 + 5_000) == 55_000
    assert budget.reserve(1, 120_000) == 0


def test_the_count_of_the_exchange_overrules_ours() -> None:
    budget = WeightBudget(100)
    budget.reserve(2, 63_000)
    budget.observe(99, 63_000, 63_100)
    assert budget.reserve(2, 63_200) > 0
    budget.observe(1, 63_200, 63_300)
    assert budget.used == 99


@pytest.mark.parametrize("entered_ms", [59_000, 60_000, 61_999])
def test_a_count_of_the_minute_before_is_not_booked_on_the_new_one(entered_ms: int) -> None:
    budget = WeightBudget(2400, 0.8)
    budget.reserve(1800, 58_000)
    if entered_ms >= 60_000:
        budget.reserve(10, entered_ms)
    budget.observe(1900, entered_ms, entered_ms + 1_050)
    assert budget.reserve(200, entered_ms + 1_100) == 0
    budget.observe(1900, entered_ms + 3_000, entered_ms + 3_100)
    assert budget.reserve(200, entered_ms + 3_200) > 0


def test_a_count_at_the_turn_that_cannot_be_of_the_minute_before_is_honoured() -> None:
    fresh = WeightBudget(100)  # a function that starts on the full minute knows of no minute before
    fresh.reserve(1, 60_100)
    fresh.observe(100, 60_100, 60_200)
    assert fresh.reserve(1, 60_300) > 0
    busy = WeightBudget(100)
    busy.reserve(90, 59_000)
    busy.reserve(1, 60_100)
    busy.observe(44, 60_100, 60_200)
    assert busy.used == 44


@pytest.mark.parametrize("ahead_ms", [-1_500, -50, 0, 50, 200, 1_000, 1_900])
def test_a_clock_that_is_not_the_exchange_s_costs_no_minute_and_breaks_no_limit(ahead_ms: int) -> None:
    budget, exchange_ms, counted = WeightBudget(6000, 0.8), 0, dict[int, int]()
    while exchange_ms < 10 * 60_000:
        if wait_ms := budget.reserve(25, exchange_ms + ahead_ms + 60_000):
            exchange_ms += wait_ms
            continue
        minute = (exchange_ms + 50) // 60_000
        counted[minute] = counted.get(minute, 0) + 25
        entered_ms, exchange_ms = exchange_ms + ahead_ms + 60_000, exchange_ms + 100
        budget.observe(counted[minute], entered_ms, exchange_ms + ahead_ms + 60_000)
    assert max(counted.values()) <= 6000
    assert all(used >= 4000 for minute, used in counted.items() if 1 <= minute < 9)


@pytest.mark.parametrize("back_ms", [61_000, 90_000, 3_600_000, 86_400_000])
def test_a_clock_set_back_shuts_nothing_for_longer_than_two_windows(back_ms: int) -> None:
    budget, now_ms = WeightBudget(100, share=0.8), 1_790_000_040_000
    assert budget.reserve(80, now_ms) == 0
    waited_ms = 0
    now_ms -= back_ms
    while wait_ms := budget.reserve(80, now_ms):
        assert wait_ms <= 60_000
        now_ms, waited_ms = now_ms + wait_ms, waited_ms + wait_ms
    assert waited_ms <= 120_000


def test_a_clock_that_trembles_at_the_turn_gets_no_minute_twice() -> None:
    budget = WeightBudget(100, share=0.8)
    assert budget.reserve(80, 60_000) == 0
    for now_ms in (59_990, 60_010, 59_995, 60_100):
        assert budget.reserve(80, now_ms) > 0


def test_a_stop_holds_until_it_ends_and_never_shrinks() -> None:
    budget = WeightBudget(100)
    budget.stop_until(90_000)
    budget.stop_until(70_000)
    assert budget.reserve(1, 60_000) == 30_000
    assert budget.reserve(1, 90_000) == 0


def test_a_call_heavier_than_the_share_is_not_held_for_ever() -> None:
    assert WeightBudget(100, share=0.1).reserve(50, 0) == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20_000)), max_size=60))
def test_no_minute_exceeds_the_share(calls: list[tuple[int, int]]) -> None:
    budget, now_ms, per_minute = WeightBudget(100, share=0.8), 0, dict[int, int]()
    for weight, pause_ms in calls:
        now_ms += pause_ms
        while (wait_ms := budget.reserve(weight, now_ms)) > 0:
            now_ms += wait_ms
        per_minute[now_ms // 60_000] = per_minute.get(now_ms // 60_000, 0) + weight
    assert all(used <= 80 for used in per_minute.values())
