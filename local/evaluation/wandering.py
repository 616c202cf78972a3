"""The autoregression that the market without events is made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def wander(rng: np.random.Generator, n: int, keep: float, spread: float) -> npt.NDArray[np.float64]:
    """Return a stationary autoregression of order one with this standard deviation, shape (n,)."""
    steps = rng.standard_normal(n) * spread * np.sqrt(1 - keep * keep)
    out = np.empty(n)
    value = rng.standard_normal() * spread
    for i, step in enumerate(steps.tolist()):
        value = keep * value + step
        out[i] = value
    return out
