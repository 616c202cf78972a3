"""The window detector's promises: its realised rate, and what the market does after its anomalies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from local.evaluation.outcomes import lift
from local.evaluation.stored_windows import judge_windows, read_windows, window_file
from local.evaluation.units import UnitResult
from shared.detection.calibration import PacedQuantile, TrailingQuantile
from shared.detection.window_anomaly import WindowAnomalyDetector
from shared.market.model import Market, Window
from shared.settings import WindowAnomalySettings

RATES = (0.005, 0.01, 0.05)
START_MS = 1_767_225_600_000


def scores_of(windows: list[Window]) -> list[float | None]:
    """Return the live detector's scores; the asked rate plays no part in them."""
    detector, scores = WindowAnomalyDetector(WindowAnomalySettings(), Market.SPOT, "BTCUSDT"), []
    for window in windows:
        scores.append(detector.step(window).score)
        detector.fit_now()
    return scores


def realised(scores: list[float | None], rate: float) -> float:
    """Return the share flagged from the first 300 scores on."""
    quantile = PacedQuantile(rate)
    said = [quantile.flags(score) for score in scores if score is not None]
    assert said[:300] == [None] * 300
    return sum(map(bool, said)) / len(said[300:])


def waking_market(seed: int, n: int = 7000) -> list[Window]:
    """Windows whose activity doubles within an hour, at window 3,000, and stays so."""
    rng = np.random.default_rng(seed)
    level = np.interp(np.arange(n), [3000, 3180], [0.0, np.log(2.0)])
    wander, steps = np.zeros(n), rng.standard_normal(n)
    for i in range(1, n):
        wander[i] = 0.97 * wander[i - 1] + 0.08 * steps[i]
    activity = np.exp(level + wander)
    counts = rng.poisson(300 * activity) + 1.0
    volumes = counts * rng.gamma(counts / 3, 3 / counts) * 0.005
    returns = rng.standard_t(4, n) * 2e-4 * np.sqrt(activity)
    volatility = 6 * np.sqrt(activity) * rng.lognormal(0, 0.4, n)
    return [
        Window(
            Market.SPOT, "BTCUSDT", START_MS + i * 20_000, START_MS + (i + 1) * 20_000, int(counts[i]),
            float(volumes[i]), float(volumes[i] / counts[i]), float(returns[i]), float(volatility[i]), 1.0, 1.0,
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 8])  # 8 is the hardest of 0 to 31 for the step that was used first
def test_the_realised_rate_holds_when_activity_doubles_within_an_hour(seed: int) -> None:
    scores = scores_of(waking_market(seed))
    for rate in RATES:
        assert realised(scores, rate) == pytest.approx(rate, rel=0.15)
        bare = TrailingQuantile(rate)
        plain = [bare.flags(score) for score in scores if score is not None]
        assert sum(map(bool, plain)) > 1.1 * rate * len(plain[300:])  # what the pacing is there for


@pytest.mark.slow
@pytest.mark.recorded
def test_rate_and_lift_on_the_recorded_windows(recorded_dir: Path) -> None:
    file = window_file(next((recorded_dir / "windows").glob("*.csv.gz")))
    assert file is not None
    scores = scores_of(read_windows(file))
    assert len(scores) == 5593
    for rate in RATES:
        assert realised(scores, rate) == pytest.approx(rate, rel=0.15)
    result = UnitResult()
    signals = list(judge_windows(file, WindowAnomalySettings(alert_rate=0.01), result))
    market, symbol, path = result.paths[0]
    measured = lift({symbol: path}, {symbol: [(signal.known_ms, 0) for signal in signals]}, 5 * 60_000)
    assert market is Market.SPOT
    assert measured is not None
    assert measured.lift >= 2.4
