"""Weights, limits and bans as the exchange documents them."""

from __future__ import annotations

import pytest

from local.exchange.weights import BAN_AFTER, BAN_MS, Meter, weight_of
from shared.market.model import Market


@pytest.mark.parametrize(
    ("market", "name", "params", "weight"),
    [
        (Market.SPOT, "klines", {"limit": "1000"}, 2),
        (Market.SPOT, "depth", {}, 5),
        (Market.SPOT, "depth", {"limit": "5000"}, 250),
        (Market.SPOT, "aggTrades", {}, 4),
        (Market.SPOT, "ticker/24hr", {}, 80),
        (Market.USDM, "klines", {"limit": "99"}, 1),
        (Market.USDM, "klines", {"limit": "499"}, 2),
        (Market.USDM, "klines", {}, 5),
        (Market.USDM, "klines", {"limit": "1500"}, 10),
        (Market.USDM, "depth", {"limit": "20"}, 2),
        (Market.USDM, "premiumIndex", {}, 10),
        (Market.USDM, "openInterestHist", {}, 0),
    ],
)
def test_weights(market: Market, name: str, params: dict[str, str], weight: int) -> None:
    assert weight_of(market, name, params) == weight


def test_going_on_after_429_is_a_ban() -> None:
    meter = Meter(10)
    assert meter.take(10, 60_000) == (200, 0)
    assert meter.take(1, 90_500) == (429, 30)
    answers = [meter.take(1, 91_000)[0] for _ in range(BAN_AFTER)]
    assert answers == [429] * (BAN_AFTER - 1) + [418]
    assert meter.take(1, 91_000 + BAN_MS - 1) == (418, 1)
    assert meter.take(1, 91_000 + BAN_MS) == (200, 0)
