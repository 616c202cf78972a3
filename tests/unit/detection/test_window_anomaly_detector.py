from __future__ import annotations

import csv
import gzip
import json
import math
import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.reading import Status
from shared.detection.window_anomaly import WindowAnomalyDetector, window_features
from shared.market.model import Market, Window
from shared.settings import WindowAnomalySettings

START = 1_700_000_000_000
SMALL = WindowAnomalySettings(
    trees=10,
    first_fit=20,
    refit_every=10,
    buffer=30,
    alert_rate=0.05,
    calibration_scores=60,
    calibration_min=19,
    smoothing=1.0,
)


def window(i: int, source: random.Random | None = None, **changes: object) -> Window:
    source = source or random.Random(i)
    count = source.randint(1, 2000)
    volume = source.lognormvariate(0, 1)
    start = START + i * 20_000
    values: dict[str, object] = {
        "market": Market.SPOT, "symbol": "BTCUSDT", "start_ms": start, "end_ms": start + 20_000,
        "trade_count": count, "volume": volume, "avg_trade_size": volume / count, "return_": source.gauss(0, 1e-3),
        "volatility": source.lognormvariate(1, 1), "first_price": 1.0, "last_price": 1.0, **changes,
    }  # fmt: skip
    return Window(**values)  # type: ignore[arg-type]


def detector(settings: WindowAnomalySettings = SMALL) -> WindowAnomalyDetector:
    return WindowAnomalyDetector(settings, Market.SPOT, "BTCUSDT")


def test_fits_on_schedule_and_scores_only_with_older_models() -> None:
    rule, fitted_after = detector(), []
    for i in range(100):
        verdict = rule.step(window(i))
        assert (verdict.score is None) == (i < 20)
        assert (verdict.prediction is None) == (i < 39)
        assert (verdict.status is Status.WARMING) == (i < 39)
        if rule.fit_now():
            fitted_after.append(rule.fitted_after)
    assert fitted_after == [20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_a_request_stands_until_it_is_installed_or_given_up() -> None:
    rule = detector()
    for i in range(20):
        rule.step(window(i))
    request = rule.fit_due()
    assert request is not None
    assert request.features.shape == (20, 5)
    assert tuple(request.features[3]) == window_features(window(3))
    assert rule.fit_due() is None
    rule.give_up(request)
    again = rule.fit_due()
    assert again is not None
    rule.step(window(20))
    assert rule.step(window(21)).score is None  # the stream goes on meanwhile
    rule.install(again.fit(), again)
    assert rule.step(window(22)).score is not None
    assert rule.fitted_after == 20


def test_incomplete_and_bad_windows_are_neither_scored_nor_learnt() -> None:
    rule = detector()
    for bad in (window(0, complete=False), window(1, volatility=math.nan), window(2, trade_count=0)):
        verdict = rule.step(bad)
        assert (verdict.status, verdict.score, verdict.prediction) == (Status.UNSCORABLE, None, None)
    assert (rule.learnt, rule.skipped) == (0, 3)


@given(st.lists(st.floats(), min_size=4, max_size=4))
def test_survives_every_float(values: list[float]) -> None:
    """F602."""
    rule = ready()
    volume, average, return_, volatility = values
    verdict = rule.step(window(0, volume=volume, avg_trade_size=average, return_=return_, volatility=volatility))
    assert verdict.score is None or math.isfinite(verdict.score)
    assert (verdict.status is Status.UNSCORABLE) == (not all(map(math.isfinite, values)))


_READY: list[tuple[dict[str, object], bytes, int]] = []


def ready() -> WindowAnomalyDetector:
    """A detector with a model and a threshold, restored from what one such stored."""
    if not _READY:
        rule = detector()
        for i in range(60):
            rule.step(window(i))
            rule.fit_now()
        assert rule.model is not None
        _READY.append((rule.snapshot(), rule.model.to_bytes(), rule.fitted_after))
    state, blob, fitted_after = _READY[0]
    rule = detector()
    rule.restore(json.loads(json.dumps(state)))
    rule.load_model(blob, fitted_after)
    return rule


def test_a_restored_detector_goes_on_as_if_nothing_had_happened() -> None:
    whole = detector()
    for i in range(60):
        whole.step(window(i))
        whole.fit_now()
    restored = ready()
    for i in range(60, 95):
        assert restored.step(window(i)) == whole.step(window(i))
        assert restored.fit_now() == whole.fit_now()


def test_a_damaged_model_is_refused_and_the_old_one_stays() -> None:
    rule = ready()
    before = rule.model
    with pytest.raises(ValueError):
        rule.load_model(b"TWF1 nonsense", 60)
    assert rule.model is before


def test_an_odd_window_becomes_a_signal() -> None:
    rule = ready()
    usual = rule.step(window(100, trade_count=900, volume=1.0, avg_trade_size=0.001, return_=0.0, volatility=2.0))
    assert (usual.prediction, rule.signal(usual)) == (1, None)
    odd = rule.step(window(101, trade_count=90_000, volume=900.0, return_=0.2, volatility=900.0))
    assert odd.prediction == -1
    signal = rule.signal(odd)
    assert signal is not None
    assert (signal.event_ms, signal.known_ms) == (odd.window.start_ms, odd.window.end_ms + 2_000)
    assert signal.strength >= 1
    assert list(odd.to_row()) == [
        "timestamp", "trade_count", "volume", "avg_trade_size", "return", "volatility", "score", "prediction",
    ]  # fmt: skip


def recorded_windows(folder: Path) -> list[tuple[Window, float | None]]:
    out = []
    with gzip.open(next(folder.glob("*.csv.gz")), "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            end = round(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp() * 1000)
            out.append(
                (
                    Window(
                        Market.SPOT, "BTCUSDT", end - 20_000, end, int(row["trade_count"]), float(row["volume"]),
                        float(row["avg_trade_size"]), float(row["return"]), float(row["volatility"]), 1.0, 1.0,
                    ),
                    float(row["score"]) if row["score"] else None,
                )
            )  # fmt: skip
    return out


@pytest.mark.recorded
@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.005, 0.01, 0.05])
def test_the_alert_rate_is_met_on_recorded_windows(rate: float, recorded_dir: Path) -> None:
    rule = detector(WindowAnomalySettings(alert_rate=rate, trees=100))
    mine, theirs, predictions = [], [], []
    for one, recorded in recorded_windows(recorded_dir / "windows"):
        verdict = rule.step(one)
        rule.fit_now()
        if verdict.score is not None and recorded is not None:
            mine.append(verdict.score)
            theirs.append(recorded)
        if verdict.prediction is not None:
            predictions.append(verdict.prediction)
    share = predictions.count(-1) / len(predictions)
    assert len(predictions) == 5593 - 500 - 300
    assert 0.6 * rate < share < 1.4 * rate
    # The recorded project's scores point the same way: lower is more anomalous.
    assert np.corrcoef(mine, theirs)[0, 1] > 0.5
