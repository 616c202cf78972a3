"""The window detector's promises: its realised rate, and what the market does after its anomalies."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.waking_market import waking_market
from local.evaluation.outcomes import lift
from local.evaluation.stored_windows import judge_windows, read_windows, window_file
from local.evaluation.units import UnitResult
from shared.detection.calibration import PacedQuantile, TrailingQuantile
from shared.detection.window_anomaly import WindowAnomalyDetector
from shared.market.model import Market, Window
from shared.settings import WindowAnomalySettings

RATES = (0.005, 0.01, 0.05)


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
