from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.reading import Status
from shared.detection.volume_spike import VolumeSpikeDetector, VolumeSpikeReading, read_volume_spike, same_phase_ratios
from shared.errors import NotEnoughData
from shared.market.model import Bar, Market
from shared.settings import VolumeSpikeSettings

MINUTE = 60_000
NINE_59 = 1_698_400_740_000  # 2023-10-27T09:59:00Z


def bar(volume: float, open_ms: int = NINE_59) -> Bar:
    return Bar(Market.SPOT, "BTCUSDT", open_ms, open_ms + 59_999, 1.0, 1.0, 1.0, 1.0, volume)


def bars(volumes: list[float]) -> list[Bar]:
    return [bar(volume, NINE_59 + (i - len(volumes) + 1) * MINUTE) for i, volume in enumerate(volumes)]


def test_the_output_object() -> None:
    reading = read_volume_spike(bars([1.0] * 20 + [3.0]), threshold=2.0)
    assert reading.to_json() == {
        "symbol": "BTCUSDT", "timestamp": "2023-10-27T10:00:00Z", "volume_current": 3.0, "ma20": 1.0, "ratio": 3.0,
        "spike": True, "threshold": 2.0, "rarity": None, "status": "anomaly",
    }  # fmt: skip
    running = read_volume_spike(bars([1.0] * 20 + [3.0]), threshold=2.0, closed=False)
    assert running.to_json()["closed"] is False


def test_equality_counts_without_rounding() -> None:
    assert read_volume_spike(bars([0.1] * 20 + [0.3]), threshold=3.0).spike
    assert not read_volume_spike(bars([0.1] * 20 + [0.29999999]), threshold=3.0).spike


def test_no_volume_before_is_unscorable() -> None:
    reading = read_volume_spike(bars([0.0] * 20 + [3.0]), threshold=2.0)
    assert (reading.ratio, reading.spike, reading.status, reading.ma20) == (None, False, Status.UNSCORABLE, 0.0)


def test_says_how_many_bars_came() -> None:
    with pytest.raises(NotEnoughData, match=r"21 closed bars are needed.* 20 came"):
        read_volume_spike(bars([1.0] * 20), threshold=2.0)


def test_rarity_is_the_share_of_earlier_ratios_at_least_as_large() -> None:
    history = [1.0] * 20 + [3.0, 4.0, 5.0, 6.0]
    given_bars = bars([1.0] * 20 + [4.0])
    assert read_volume_spike(given_bars, threshold=2.0, rarity_history=history).rarity == 3 / 24
    assert read_volume_spike(given_bars, threshold=2.0, rarity_history=history[1:]).rarity is None


volumes = st.lists(st.one_of(st.integers(0, 3).map(float), st.floats(0, 1e6), st.floats()), min_size=1, max_size=50)


@given(volumes, st.sampled_from([1.0, 1.1, 2.0]), st.integers(1, 6))
def test_bar_by_bar_equals_reading_from_scratch(values: list[float], threshold: float, ma_bars: int) -> None:
    settings = VolumeSpikeSettings(threshold=threshold, ma_bars=ma_bars, rarity_min_history=1)
    detector = VolumeSpikeDetector(settings, Market.SPOT, "BTCUSDT")
    # Every tenth minute only, so that phases of the hour come back within a short series.
    series = [bar(value, i * 10 * MINUTE) for i, value in enumerate(values)]
    for i, one in enumerate(series):
        reading = detector.step(one)
        if i < ma_bars:
            assert reading is None
            continue
        past = same_phase_ratios(series[:i], open_ms=one.open_ms, ma_bars=ma_bars)
        assert reading == read_volume_spike(
            series[: i + 1], threshold=threshold, ma_bars=ma_bars, rarity_history=past, rarity_min_history=1
        )
        assert reading is not None
        _check_by_hand(reading, values[i - ma_bars : i + 1], threshold, ma_bars)


def _check_by_hand(reading: VolumeSpikeReading, values: list[float], threshold: float, ma_bars: int) -> None:
    *before, current = values
    bad = [value for value in values if not 0 <= value <= 1e18]
    exact = [Decimal(repr(value)).quantize(Decimal("1e-8")) for value in before] if not bad else []
    if bad or sum(exact) == 0:
        assert (reading.status, reading.ratio, reading.spike) == (Status.UNSCORABLE, None, False)
        return
    v = Decimal(repr(current)).quantize(Decimal("1e-8"))
    assert reading.ratio == pytest.approx(float(v * ma_bars / sum(exact)), rel=1e-12)
    assert reading.spike == (v * ma_bars >= Decimal(str(threshold)) * sum(exact))
    json.dumps(reading.to_json(), allow_nan=False)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -1.0, 1e308])
def test_a_bad_number_is_unscorable_until_it_has_left_the_window(poison: float) -> None:
    detector = VolumeSpikeDetector(VolumeSpikeSettings(ma_bars=2), Market.SPOT, "BTCUSDT")
    readings = [detector.step(bar(value)) for value in (1.0, 1.0, poison, 1.0, 1.0, 2.0)]
    statuses = [reading.status for reading in readings if reading is not None]
    assert statuses == [Status.UNSCORABLE, Status.UNSCORABLE, Status.UNSCORABLE, Status.ANOMALY]


def test_signal_names_the_bar_and_when_it_could_be_known() -> None:
    detector = VolumeSpikeDetector(VolumeSpikeSettings(), Market.SPOT, "BTCUSDT")
    *_, quiet, loud = [detector.step(one) for one in bars([1.0] * 21 + [8.4])]
    assert quiet is not None
    assert loud is not None
    assert detector.signal(quiet) is None
    signal = detector.signal(loud)
    assert signal is not None
    assert (signal.event_ms, signal.known_ms, signal.strength) == (NINE_59, NINE_59 + MINUTE, 4.2)
    assert signal.values == loud.to_json()


@pytest.mark.recorded
def test_finds_the_recorded_spikes(recorded_dir: Path, read_bars: Callable[[Path], list[Bar]]) -> None:
    expected = json.loads((recorded_dir / "expected.json").read_text())["klines"]
    fired_share = []
    for name, facts in expected.items():
        detector = VolumeSpikeDetector(VolumeSpikeSettings(), Market.USDM, "X")
        readings = [detector.step(one) for one in read_bars(recorded_dir / name)]
        spikes = [one.open_ms for one in readings if one is not None and one.spike]
        assert facts["n_ties_prev20"] == 0  # the file counts > where the rule says >=
        assert len(readings) == facts["n_bars"]
        assert len(spikes) == facts["n_vol_gt_2x_mean_prev20"]
        assert spikes[:10] == facts["first_open_times"]
        assert hashlib.sha256(",".join(map(str, spikes)).encode()).hexdigest() == facts["open_times_sha256"]
        fired_share.append(len(spikes) / len(readings))
    assert 0.09 < sum(fired_share) / len(fired_share) < 0.16
