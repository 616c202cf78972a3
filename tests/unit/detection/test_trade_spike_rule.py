from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.trade_spike import TradeSpikeDetector
from shared.errors import ConfigurationError
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import TradeSpikeSettings


def trade(quantity: float, *, price: float = 100.0, event_ms: int = 1_698_400_800_000, trade_id: int = 1) -> Trade:
    return Trade(Market.SPOT, "BTCUSDT", TradeKind.TRADE, trade_id, price, quantity, Side.SELL, event_ms, event_ms)


def detector(window: int = 200, multiple: float = 10.0, include_current: bool = False) -> TradeSpikeDetector:
    settings = TradeSpikeSettings(window_trades=window, multiple=multiple, include_current=include_current)
    return TradeSpikeDetector(settings, Market.SPOT, "BTCUSDT")


def spikes_by_hand(quantities: list[Decimal], window: int, multiple: Decimal, include_current: bool) -> list[int]:
    """Recompute every window from nothing."""
    found = []
    for i, quantity in enumerate(quantities):
        end = i + 1 if include_current else i
        if (
            end >= window
            and Fraction(quantity) >= Fraction(multiple) * Fraction(sum(quantities[end - window : end])) / window
        ):
            found.append(i)
    return found


sizes = st.integers(1, 10**12).map(lambda n: Decimal(n).scaleb(-8))


@given(
    st.lists(st.one_of(sizes, st.sampled_from([Decimal(1), Decimal(10), Decimal("0.00000001")])), max_size=60),
    st.integers(2, 7),
    st.sampled_from([Decimal("0.5"), Decimal(1), Decimal("2.5"), Decimal(10)]),
    st.booleans(),
)
def test_fires_exactly_where_the_definition_does(
    quantities: list[Decimal], window: int, multiple: Decimal, include_current: bool
) -> None:
    rule = detector(window, float(multiple), include_current)
    fired = [i for i, quantity in enumerate(quantities) if rule.step(trade(float(quantity)))]
    assert fired == spikes_by_hand(quantities, window, multiple, include_current)


def test_equality_counts_and_warming_says_nothing() -> None:
    rule = detector()
    assert all(rule.step(trade(1000.0 if i == 0 else 0.1)) is None for i in range(200))
    assert not rule.warming
    rule = detector()
    for _ in range(200):
        rule.step(trade(0.1))
    reading = rule.step(trade(1.0))
    assert reading is not None
    assert (reading.ratio, reading.mean, reading.rarity) == (10.0, 0.1, None)
    assert rule.step(trade(0.99)) is None


@given(st.floats(), st.floats())
def test_survives_every_float(price: float, quantity: float) -> None:
    """F602."""
    rule = detector(window=2, multiple=1.0)
    for _ in range(3):
        reading = rule.step(trade(quantity, price=price))
        if reading is not None:
            assert math.isfinite(reading.ratio)
            assert math.isfinite(reading.mean)
    assert rule.trades + rule.refused == 3


def test_refuses_poison_and_goes_on() -> None:
    rule = detector(window=2)
    for poison in (math.nan, math.inf, -1.0, 0.0, 1e308, 5e-324):
        assert rule.step(trade(poison)) is None
    assert (rule.refused, rule.trades) == (6, 0)
    assert rule.step(trade(1.0, price=-1.0)) is None
    assert [rule.step(trade(q)) is not None for q in (1.0, 1.0, 10.0)] == [False, False, True]


@given(st.lists(sizes, max_size=30), st.lists(sizes, max_size=30), st.booleans())
def test_a_restored_detector_goes_on_as_if_nothing_had_happened(
    before: list[Decimal], after: list[Decimal], include_current: bool
) -> None:
    rule = detector(5, 2.0, include_current)
    for quantity in before:
        rule.step(trade(float(quantity)))
    other = detector(5, 2.0, include_current)
    other.restore(json.loads(json.dumps(rule.snapshot())))
    assert [other.step(trade(float(q))) for q in after] == [rule.step(trade(float(q))) for q in after]
    assert other.snapshot() == rule.snapshot()


def test_refuses_a_snapshot_of_another_window() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        detector(5).restore(detector(6).snapshot())
    with pytest.raises(ConfigurationError):
        detector(1, include_current=True)


def test_signal_holds_the_output_object() -> None:
    rule = detector(window=2)
    rule.step(trade(1.0))
    rule.step(trade(1.0))
    reading = rule.step(trade(20.0, trade_id=77))
    assert reading is not None
    signal = rule.signal(reading)
    assert signal.values == {
        "signal_type": "VolumeSpike", "symbol": "BTCUSDT", "price": 100.0, "volume": 20.0,
        "timestamp": "2023-10-27T10:00:00Z", "ratio": 20.0, "mean": 1.0, "trade_id": 77, "side": "SELL",
    }  # fmt: skip
    assert (signal.trade_id, signal.strength, signal.snapshot["quote_notional"]) == (77, 2.0, 2000.0)


def _check_recorded(trades: Iterator[Trade], expected: dict[str, object]) -> None:
    exclusive, inclusive = detector(), detector(include_current=True)
    fired, fired_inclusive, count = [], 0, 0
    windows = set()
    for i, one in enumerate(trades):
        count += 1
        windows.add(one.event_ms // 20_000)
        if exclusive.step(one) is not None:
            fired.append(i)
        if inclusive.step(one) is not None:
            fired_inclusive += 1
    assert count == expected["n_trades"]
    assert len(fired) == expected["n_spikes_10x_prev200"]
    assert fired[:20] == expected["first_spikes_index"]
    assert hashlib.sha256(",".join(map(str, fired)).encode()).hexdigest() == expected["spikes_index_sha256"]
    assert fired_inclusive == expected["n_spikes_if_current_trade_is_in_the_200"]


@pytest.mark.recorded
@pytest.mark.parametrize("folder", ["trades", pytest.param("pump/trades", marks=pytest.mark.slow)])
def test_finds_the_recorded_spikes(
    folder: str, recorded_dir: Path, read_trades: Callable[[Path], Iterator[Trade]]
) -> None:
    expected = json.loads((recorded_dir / "expected.json").read_text())["trades"]
    names = [name for name in expected if name.startswith(folder + "/")]
    assert names
    for name in names:
        _check_recorded(read_trades(recorded_dir / name), expected[name])
