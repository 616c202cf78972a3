from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.order_book import OrderBookReading, OrderBookRule, read_order_book
from shared.detection.reading import Direction
from shared.market.model import BookLevel, Market, OrderBook
from shared.settings import OrderBookSettings

AT = 1_698_400_800_000


def book(bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> OrderBook:
    return OrderBook(
        Market.SPOT, "BTCUSDT", 1, tuple(BookLevel(*one) for one in bids), tuple(BookLevel(*one) for one in asks)
    )


def read(bids: list[tuple[float, float]], asks: list[tuple[float, float]], levels: int = 5) -> OrderBookReading:
    return read_order_book(book(bids, asks), levels=levels, timestamp_ms=AT)


def test_the_output_object() -> None:
    reading = read([(100.0, 3.0), (99.0, 1.0)], [(101.0, 1.0), (102.0, 9.0)], levels=1)
    assert reading.to_json() == {
        "timestamp": "2023-10-27T10:00:00Z", "symbol": "BTCUSDT", "obi": 0.496259, "notional_bid": 300.0,
        "notional_ask": 101.0, "levels": 1, "status": "ok",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bids", "asks", "reason"),
    [
        ([], [], "empty"),
        ([(1.0, 1.0)], [], "no asks"),
        ([(math.nan, 1.0)], [(1.0, 1.0)], "no bids"),
        ([(1.0, 0.0)], [(1.0, 0.0)], "no quantity"),
    ],
)
def test_an_empty_or_malformed_book_is_no_balance(
    bids: list[tuple[float, float]], asks: list[tuple[float, float]], reason: str
) -> None:
    reading = read(bids, asks)
    assert (reading.obi, reading.status, reading.reason) == (0.0, "no_data", reason)


def test_unreadable_levels_are_skipped_and_counted() -> None:
    reading = read([(math.nan, 1.0), (100.0, -1.0), (99.0, 1.0), (98.0, 5.0)], [(101.0, math.inf), (102.0, 1.0)], 1)
    assert (reading.notional_bid, reading.notional_ask, reading.skipped_levels) == (99.0, 102.0, 3)


levels = st.lists(st.tuples(st.floats(), st.floats()), max_size=8)


@given(levels, levels, st.integers(1, 6))
def test_survives_every_float(bids: list[tuple[float, float]], asks: list[tuple[float, float]], n: int) -> None:
    """F210, F602: empty, crossed and poisoned books."""
    reading = read(bids, asks, n)
    assert -1.0 <= reading.obi <= 1.0
    json.dumps(reading.to_json(), allow_nan=False)


def samples(rule: OrderBookRule, values: list[float | None]) -> list[int]:
    """Return which samples fired; None stands for a sample without data."""
    fired = []
    for i, value in enumerate(values):
        status = "no_data" if value is None else "ok"
        reading = OrderBookReading(Market.SPOT, "BTCUSDT", AT + i, value or 0.0, 1.0, 1.0, 5, status)  # type: ignore[arg-type]
        if rule.step(reading) is not None:
            fired.append(i)
    return fired


@pytest.mark.parametrize(
    ("values", "fired"),
    [
        ([0.7, 0.6, 0.9, 0.9, 0.9], [2]),  # once, at the threshold too
        ([0.7, 0.7, 0.59, 0.7, 0.7, 0.7], [5]),  # the row was broken
        ([0.7, 0.7, None, 0.7, 0.7, 0.7], [5]),
        ([0.7, 0.7, 0.7, 0.55, 0.7, 0.7, 0.7], [2]),  # not released above 0.5
        ([0.7, 0.7, 0.7, 0.49, 0.7, 0.7, 0.7], [2, 6]),
        ([0.7, 0.7, 0.7, -0.7, -0.7, -0.7], [2, 5]),  # the other side is another event
        ([0.7, -0.7, 0.7, -0.7], []),
    ],
)
def test_fires_after_samples_in_a_row_with_hysteresis(values: list[float | None], fired: list[int]) -> None:
    assert samples(OrderBookRule(OrderBookSettings()), values) == fired


def test_a_restored_rule_goes_on() -> None:
    rule, other = OrderBookRule(OrderBookSettings()), OrderBookRule(OrderBookSettings())
    samples(rule, [0.7, 0.7])
    other.restore(json.loads(json.dumps(rule.snapshot())))
    assert samples(other, [0.7]) == [0]
    signal_rule = OrderBookRule(OrderBookSettings(alert_samples=1))
    signal = signal_rule.step(OrderBookReading(Market.SPOT, "X", AT, -0.9, 1.0, 19.0, 5, "ok"))
    assert signal is not None
    assert (signal.direction, signal.event_ms) == (Direction.DOWN, AT)
    assert signal.strength == pytest.approx(1.5)


@pytest.mark.recorded
def test_recorded_depth_equals_exact_decimals(recorded_dir: Path) -> None:
    paths = list((recorded_dir / "rest").glob("*depth*.json"))
    assert len(paths) >= 8
    for path in paths:
        body = json.loads(path.read_text())
        sides = [[(Decimal(p), Decimal(q)) for p, q in body[side]] for side in ("bids", "asks")]
        for n in (1, 5, 20, 1000):
            bid, ask = (sum((p * q for p, q in side[:n]), Decimal(0)) for side in sides)
            bids, asks = ([(float(p), float(q)) for p, q in side] for side in sides)
            reading = read(bids, asks, n)
            assert reading.status == "ok"
            assert abs(Decimal(reading.obi) - (bid - ask) / (bid + ask)) < Decimal("1e-9")
            assert reading.to_json()["notional_bid"] == round(float(bid), 6)
            assert reading.to_json()["notional_ask"] == round(float(ask), 6)
