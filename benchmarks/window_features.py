"""What a model of windows could be shown instead: each is an array (n, k) of the windows' features, transformed.

Columns are those of `FEATURES`: count, volume, mean size, return, volatility. Every row uses its own window and those
before it, never a later one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.detection.window_anomaly import window_features
from shared.market.model import Window

Floats = npt.NDArray[np.float64]

COUNT, VOLUME, SIZE, RETURN, VOLATILITY = range(5)
_TINY = 1e-12  # below any volatility that a price with 8 decimals can have


def bare(windows: Sequence[Window]) -> Floats:
    """Return the features as they are."""
    return np.array([window_features(window) for window in windows])


def unsigned(features: Floats) -> Floats:
    """Return them with the size of the return in place of the return."""
    out = features.copy()
    out[:, RETURN] = np.abs(out[:, RETURN])
    return out


def logarithms(features: Floats) -> Floats:
    """Return the logarithms of all but the return, which has a sign."""
    out = features.copy()
    others = [COUNT, VOLUME, SIZE, VOLATILITY]
    out[:, others] = np.log(np.maximum(out[:, others], _TINY))
    return out


def smoothed(features: Floats, weight: float) -> Floats:
    """Return exponential means; the first row is its own."""
    out = features.copy()
    for row in range(1, len(out)):
        out[row] = out[row - 1] + weight * (features[row] - out[row - 1])
    return out


def trailing_medians(features: Floats, span: int) -> Floats:
    """Return the medians of the `span` rows before each one; the first row's is itself."""
    out = features.copy()
    for row in range(1, len(out)):
        out[row] = np.median(features[max(0, row - span) : row], axis=0)
    return out


def relative(features: Floats, span: int) -> Floats:
    """Return the features over their trailing medians; the return, whose median is near 0, over that of its size."""
    return features / np.maximum(trailing_medians(unsigned(features), span), _TINY)


def one_sided(features: Floats, span: int) -> Floats:
    """Return how far each feature lies above its trailing median, as a share of it; 0 below: only more stands out."""
    return np.maximum(relative(unsigned(features), span) - 1.0, 0.0)


def busier(features: Floats, span: int) -> npt.NDArray[np.bool_]:
    """Tell the windows (n,) in which both count and volatility lie above their trailing medians."""
    above = features > trailing_medians(features, span)
    return np.asarray(above[:, COUNT] & above[:, VOLATILITY])
