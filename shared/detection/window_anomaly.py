"""Windows that look like nothing in the last hours: an Isolation Forest with its own calibrated threshold."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from shared.detection.calibration import PacedQuantile
from shared.detection.forest import FlatForest, FloatArray
from shared.detection.forest_fit import fit_forest
from shared.detection.reading import Detector, Signal, Status
from shared.detection.records import Record
from shared.market.model import Market, Window
from shared.settings import WindowAnomalySettings
from shared.times import iso_utc

FEATURES = ("trade_count", "volume", "avg_trade_size", "return", "volatility")
SCORE_OFFSET = 0.5
"""Added to `score_samples`, as scikit-learn's `decision_function` does by default (contamination "auto")."""


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    """A window and what is said of it.

    `score` is scikit-learn's `decision_function` with its default offset, `score_samples` + 0.5: in [-0.5, 0.5),
    lower is more anomalous, as in the recorded windows file. None before the first model and for windows that
    cannot be scored. `record_hours`: of an anomaly, the hours since a score as low; None where none is remembered.
    `threshold` and `prediction` (-1 anomaly, 1 normal) are None while warming as well.
    """

    window: Window
    score: float | None
    threshold: float | None
    prediction: Literal[-1, 1] | None
    status: Status
    record_hours: float | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the exported columns; the timestamp is the window's end, missing values are empty text."""
        window = self.window
        return {
            "timestamp": iso_utc(window.end_ms),
            "trade_count": window.trade_count,
            "volume": window.volume,
            "avg_trade_size": window.avg_trade_size,
            "return": window.return_,
            "volatility": window.volatility,
            "score": "" if self.score is None else self.score,
            "prediction": "" if self.prediction is None else self.prediction,
        }


@dataclass(frozen=True, slots=True, eq=False)
class FitRequest:
    """What a fit needs, detached from the stream: `features` (n, 5) is a copy; `after_n` windows had been learnt."""

    market: Market
    symbol: str
    features: FloatArray
    after_n: int
    trees: int
    seed: int

    def fit(self) -> FlatForest:
        """Fit the model; some hundredths of a second, meant for another thread or process."""
        return fit_forest(self.features, self.trees, self.seed)


def window_features(window: Window) -> tuple[float, float, float, float, float]:
    """Return the five features in the order of `FEATURES`."""
    return (
        float(window.trade_count), window.volume, window.avg_trade_size, window.return_, window.volatility,
    )  # fmt: skip


class WindowAnomalyDetector:
    """Score one symbol's windows by the model that existed before they came, then learn them.

    Fitting is asked for, not done: after each step, take `fit_due()`, fit it anywhere, `install` the outcome. A
    request stands until it is installed or given up; a replay calls `fit_now()` after each step, and a stream that
    installs before the next window says exactly the same.

    With `smoothing` below 1 the model sees each feature's exponential mean, and the size of the return without its
    sign: a window then stands out by the state of the market that it ends, which foretells the next minutes better
    than the window alone (docs/evaluation.md). With 1 it sees the bare features.
    """

    def __init__(self, settings: WindowAnomalySettings, market: Market, symbol: str) -> None:
        self.settings = settings
        self.market = market
        self.symbol = symbol
        self.model: FlatForest | None = None
        self.fitted_after = 0  # windows learnt when the present model was asked for
        self.skipped = 0  # windows neither scored nor learnt
        self._learnt = 0
        self._asked_after: int | None = None
        self._record = Record(settings.alert_record_hours)
        self._level: tuple[float, ...] | None = None
        self._buffer = array("d")  # the newest windows' features, row by row: a fifth of what tuples would take
        self._quantile = PacedQuantile(settings.alert_rate, settings.calibration_scores, settings.calibration_min)

    @property
    def learnt(self) -> int:
        return self._learnt

    @staticmethod
    def scorable(window: Window) -> bool:
        """Tell whether a window is judged and learnt at all: complete, not empty, with numbers that are numbers."""
        return window.complete and window.trade_count >= 1 and all(map(isfinite, window_features(window)))

    def step(self, window: Window) -> WindowVerdict:
        """Judge a window, then learn it; an incomplete one or one with bad numbers is neither scored nor learnt."""
        seen = self.see(window)
        raw_score = None if seen is None or self.model is None else float(self.model.score((seen,))[0])
        return self.judge(window, seen, raw_score)

    def see(self, window: Window) -> tuple[float, ...] | None:
        """Return what the model sees of a window, None of one that is not scored; the first half of `step`.

        Whoever judges many symbols at once calls it for each window in order, asks `score_many`, and calls `judge`.
        """
        if not self.scorable(window):
            return None
        return self._smooth(window_features(window))

    def judge(self, window: Window, seen: tuple[float, ...] | None, raw_score: float | None) -> WindowVerdict:
        """Judge a window that was seen, by what the present model's `score` says of it; the second half of `step`."""
        if seen is None:
            self.skipped += 1
            return WindowVerdict(window, None, None, None, Status.UNSCORABLE)
        score = threshold = flagged = None
        if raw_score is not None:
            score = raw_score + SCORE_OFFSET
            threshold = self._quantile.threshold()
            flagged = self._quantile.flags(score)
        self._keep(seen)
        self._learnt += 1
        if flagged is None:
            return WindowVerdict(window, score, None, None, Status.WARMING)
        if flagged and score is not None:
            hours = self._record.step(-score, window.end_ms)
            return WindowVerdict(window, score, threshold, -1, Status.ANOMALY, hours)
        return WindowVerdict(window, score, threshold, 1, Status.NORMAL)

    def would_flag(self, window: Window) -> bool:
        """Tell whether the window would be called an anomaly if it were judged now; nothing is learnt."""
        level = self._level
        seen = self.see(window)
        self._level = level
        threshold = self._quantile.threshold()
        if seen is None or self.model is None or threshold is None:
            return False
        return float(self.model.score((seen,))[0]) + SCORE_OFFSET < threshold

    def _keep(self, seen: tuple[float, ...]) -> None:
        self._buffer.extend(seen)
        if len(self._buffer) > self.settings.buffer * len(FEATURES):
            del self._buffer[: len(FEATURES)]

    def _smooth(self, features: tuple[float, ...]) -> tuple[float, ...]:
        """Return what the model sees of a window, and remember it."""
        weight = self.settings.smoothing
        if weight >= 1.0:
            return features
        count, volume, size, return_, volatility = features
        new = (count, volume, size, abs(return_), volatility)
        old = self._level
        self._level = new if old is None else tuple(a + weight * (b - a) for a, b in zip(old, new, strict=True))
        return self._level

    def fit_due(self) -> FitRequest | None:
        """Return what is to be fitted now, once; None while nothing is due or a request is still out."""
        if self._asked_after is not None:
            return None
        if self.model is None:
            due = self._learnt >= self.settings.first_fit
        else:
            due = self._learnt - self.fitted_after >= self.settings.refit_every
        if not due:
            return None
        self._asked_after = self._learnt
        features = np.array(self._buffer, dtype=np.float64).reshape(-1, len(FEATURES))
        return FitRequest(self.market, self.symbol, features, self._learnt, self.settings.trees, self.settings.seed)

    def install(self, model: FlatForest, request: FitRequest) -> None:
        """Use a fitted model from the next window on; one older than the present model is dropped."""
        if request.after_n == self._asked_after:
            self._asked_after = None
        if self.model is None or request.after_n >= self.fitted_after:
            self.model, self.fitted_after = model, request.after_n

    def give_up(self, request: FitRequest) -> None:
        """Note that a request was not fitted; it is asked for again."""
        if request.after_n == self._asked_after:
            self._asked_after = None

    def fit_now(self) -> bool:
        """Fit and install what is due; return whether anything was."""
        request = self.fit_due()
        if request is None:
            return False
        self.install(request.fit(), request)
        return True

    def load_model(self, blob: bytes, fitted_after: int) -> None:
        """Install a stored model (`FlatForest.to_bytes`).

        Raises:
            ValueError: the blob is damaged or of other features.
        """
        model = FlatForest.from_bytes(blob)
        if model.features != len(FEATURES):
            raise ValueError("the stored forest has other features")
        self.model, self.fitted_after = model, fitted_after

    def signal(self, verdict: WindowVerdict) -> Signal | None:
        """Return the stored fact of an anomalous window, None for anything else."""
        window, score, threshold = verdict.window, verdict.score, verdict.threshold
        if verdict.prediction != -1 or score is None or threshold is None:
            return None
        return Signal(
            detector=Detector.WINDOW_ANOMALY,
            market=window.market,
            symbol=window.symbol,
            event_ms=window.start_ms,
            known_ms=window.end_ms + round(self.settings.lateness_seconds * 1000),
            values={**verdict.to_row(), "start": iso_utc(window.start_ms)},
            thresholds={"score": threshold, "alert_rate": self.settings.alert_rate},
            snapshot={"record_hours": verdict.record_hours, "alert_record_hours": self.settings.alert_record_hours},
            strength=max(1.0, (SCORE_OFFSET - score) / max(SCORE_OFFSET - threshold, 1e-9)),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return buffer, calibration and counters, ready for JSON; the model is stored beside it, as bytes."""
        return {
            "version": 1,
            "learnt": self._learnt,
            "fitted_after": self.fitted_after,
            "skipped": self.skipped,
            "level": None if self._level is None else list(self._level),
            "buffer": np.array(self._buffer).reshape(-1, len(FEATURES)).tolist(),
            "calibration": self._quantile.snapshot(),
            "record": self._record.snapshot(),
        }

    def counters(self) -> dict[str, int]:
        """Return what cannot be worked out from the stored windows."""
        return {"version": 1, "learnt": self._learnt, "fitted_after": self.fitted_after, "skipped": self.skipped}

    def restore_counters(self, state: Mapping[str, Any]) -> None:
        """Take over the counters of a later moment than the snapshot's, once its windows have been relearnt.

        Raises:
            ValueError: they are of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of a window-anomaly snapshot")
        self._learnt, self.fitted_after, self.skipped = state["learnt"], state["fitted_after"], state["skipped"]

    def relearn(self, features: tuple[float, ...], score: float | None, end_ms: int | None = None) -> None:
        """Learn a window that was judged before, from its stored row: the state is as the window had left it."""
        if score is not None and self._quantile.flags(score) and end_ms is not None:
            self._record.step(-score, end_ms)
        self._keep(self._smooth(tuple(float(value) for value in features)))
        self._learnt += 1

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot; without a stored model the next fit is due as soon as the buffer allows.

        Raises:
            ValueError: the snapshot is of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of a window-anomaly snapshot")
        self._learnt = state["learnt"]
        self.fitted_after = state["fitted_after"]
        self.skipped = state["skipped"]
        self._asked_after = None
        level = state.get("level")
        self._level = None if level is None else tuple(float(value) for value in level)
        self._buffer = array("d")
        for features in state["buffer"]:
            if len(features) != len(FEATURES):
                raise ValueError("the snapshot's windows have other features")
            self._keep(tuple(float(value) for value in features))
        self._quantile.restore(state["calibration"])
        if "record" in state:
            self._record.restore(state["record"])
