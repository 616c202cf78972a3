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
    budget.reserve(2, 60_000)
    budget.observe(99, 60_100)
    assert budget.reserve(2, 60_200) > 0
    budget.observe(1, 60_300)
    assert budget.used == 99


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
