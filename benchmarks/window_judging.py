"""Scores of windows to verdicts and verdicts to figures, for `benchmarks.window_choices`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
import numpy.typing as npt

from local.evaluation.outcomes import Difference, Outcomes, Path, difference, lift, outcomes
from local.evaluation.stored_windows import WindowFile, note_windows
from local.evaluation.units import UnitResult
from shared.detection.calibration import TrailingQuantile
from shared.detection.forest_fit import fit_forest
from shared.detection.window_anomaly import SCORE_OFFSET, WindowAnomalyDetector
from shared.market.model import Market, Window
from shared.settings import WindowAnomalySettings

Floats = npt.NDArray[np.float64]

Said = list[bool | None]
"""What is said of each window, None of one that is not judged."""

HORIZON_MS = 5 * 60_000


def live_scores(windows: Sequence[Window], settings: WindowAnomalySettings) -> Floats:
    """Return the live detector's scores (n,), NaN before the first model; the asked rate plays no part in them."""
    detector = WindowAnomalyDetector(settings, Market.SPOT, "")
    scores = np.full(len(windows), np.nan)
    for number, window in enumerate(windows):
        score = detector.step(window).score
        if score is not None:
            scores[number] = score
        detector.fit_now()
    return scores


def forest_scores(features: Floats, settings: WindowAnomalySettings) -> Floats:
    """Return the same for features (n, k) that no live detector makes: its forest, on its schedule."""
    scores = np.full(len(features), np.nan)
    for at in range(settings.first_fit, len(features), settings.refit_every):
        model = fit_forest(features[max(0, at - settings.buffer) : at], settings.trees, settings.seed)
        scores[at : at + settings.refit_every] = model.score(features[at : at + settings.refit_every]) + SCORE_OFFSET
    return scores


def said_of(scores: Floats, quantile: TrailingQuantile, most_of_last: tuple[int, int] | None = None) -> Said:
    """Judge scores in order; NaN is not judged. `most_of_last` (m, n): at most m of the last n windows are flagged."""
    said: Said = []
    for score in scores.tolist():
        flagged = quantile.flags(score)
        if flagged and most_of_last is not None:
            most, last = most_of_last
            flagged = sum(map(bool, said[-(last - 1) :])) < most
        said.append(flagged)
    return said


def with_flags(wanted: int, judge: Callable[[float], Said]) -> Said:
    """Return the verdicts with about as many flags, by the rate that `judge` is asked for: choices that realise
    different shares of the same rate are compared at the same number of flags.
    """
    low, high = log(0.001), log(0.1)
    best: Said = []
    for _ in range(12):
        middle = (low + high) / 2
        said = judge(exp(middle))
        count = sum(map(bool, said))
        if not best or abs(count - wanted) < abs(sum(map(bool, best)) - wanted):
            best = said
        if count == wanted:
            break
        low, high = (middle, high) if count < wanted else (low, middle)
    return best


@dataclass(frozen=True, slots=True)
class Worth:
    """`realised` is the share of the judged windows that was flagged; the lift is None where nothing was."""

    flagged: int
    judged: int
    lift: float | None
    low: float | None
    high: float | None
    outcomes: Outcomes | None

    @property
    def realised(self) -> float:
        return self.flagged / max(self.judged, 1)


class Judged:
    """The windows of one file, and what came after them."""

    def __init__(self, file: WindowFile, windows: Sequence[Window], settings: WindowAnomalySettings) -> None:
        self._file = file
        self._windows = windows
        self._settings = settings

    def worth(self, said: Said, part: slice = slice(None)) -> Worth:
        """Measure verdicts, as `tapewatch evaluate` does, or those of a part of the judged windows."""
        judged = [number for number, one in enumerate(said) if one is not None]
        if not judged:
            return Worth(0, 0, None, None, None, None)
        chosen = list(range(judged[0], len(said)))[part]
        late_ms = round(self._settings.lateness_seconds * 1000)
        told = [(self._windows[n].end_ms + late_ms, 0) for n in chosen if said[n]]
        paths, alarms = {"": self._path(chosen)}, {"": told}
        measured, after = lift(paths, alarms, HORIZON_MS), outcomes(paths, alarms, HORIZON_MS)
        counted = sum(said[n] is not None for n in chosen)
        if measured is None:
            return Worth(len(told), counted, None, None, None, None)
        return Worth(len(told), counted, measured.lift, measured.low, measured.high, after)

    def halves(self, said: Said) -> tuple[Worth, Worth]:
        """Measure the first and the second half of the judged windows apart."""
        first = next((number for number, one in enumerate(said) if one is not None), len(said))
        middle = (len(said) - first) // 2
        return self.worth(said, slice(None, middle)), self.worth(said, slice(middle, None))

    def _path(self, chosen: Sequence[int]) -> Path:
        result = UnitResult()
        note_windows([self._windows[n] for n in chosen], self._file, self._settings, result)
        return result.paths[0][2]


def lead(ours: Worth, theirs: Worth) -> Difference | None:
    """Return how much more lift the first has, None where one of them has none.

    Both must have been judged from the same window on: blocks are numbered from there.
    """
    if ours.outcomes is None or theirs.outcomes is None:
        return None
    a, b = ours.outcomes, theirs.outcomes
    return difference(a.moved, a.blocks, b.moved, b.blocks)
