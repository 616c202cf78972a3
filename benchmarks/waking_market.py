"""A simulated market whose activity doubles within an hour: what a threshold that trails behind gets wrong."""

from __future__ import annotations

import numpy as np

from shared.market.model import Market, Window

START_MS = 1_767_225_600_000


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
