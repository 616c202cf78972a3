"""Prices that can be asked for at any time without walking there: anchors on the hour, bridges in between."""

from __future__ import annotations

import zlib
from functools import lru_cache
from math import sqrt

import numpy as np

from local.exchange.effects import Floats, Ints
from shared.clock import HOUR_MS

GRID_MS = 10_000
STEPS = HOUR_MS // GRID_MS
_OCTAVES = (1, 4, 16, 64, 256)  # hours
_TAIL = 4.0  # degrees of freedom of the steps: heavy tails, finite variance


def generator(seed: int, *words: str | int) -> np.random.Generator:
    """Return the generator that belongs to these words: the same words, the same numbers, in any order of asking."""
    key = [seed & 0xFFFFFFFF] + [zlib.crc32(str(word).encode()) for word in words]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


class Path:
    """One asset's own log price around 0: slow waves of several lengths, and a bridge of heavy-tailed 10 s steps."""

    def __init__(self, seed: int, name: str, sigma: float) -> None:
        self._seed, self._name = seed, name
        self._step = sigma / sqrt(60_000 / GRID_MS) / sqrt(_TAIL / (_TAIL - 2))
        self._wave = sigma * sqrt(60)
        self._block = lru_cache(maxsize=512)(self._build)
        self._noise = lru_cache(maxsize=4096)(self._draw)

    def at(self, times: Ints) -> Floats:
        """Return the log price at each time (ascending, milliseconds)."""
        if not len(times):
            return np.zeros(0)
        first, last = int(times[0]) // HOUR_MS, int(times[-1]) // HOUR_MS
        knots = np.concatenate([self._block(hour)[:-1] for hour in range(first, last + 1)] + [self._block(last)[-1:]])
        where = (times - first * HOUR_MS) / GRID_MS
        return np.interp(where, np.arange(len(knots)), knots)

    def activity(self, hour: int) -> float:
        """Return how lively an hour is: about 1, clustered over hours; scales both the steps and the volume."""
        return float(np.exp(0.35 * (self._level(f"{self._name}:activity", hour, (3, 12)))))

    def _build(self, hour: int) -> Floats:
        rng = generator(self._seed, self._name, "steps", hour)
        # Calm and lively stretches inside the hour: the steps' scale wanders slowly.
        scale = np.exp(0.4 * np.interp(np.arange(STEPS), np.arange(0, STEPS + 1, 30), rng.standard_normal(13)))
        steps = rng.standard_t(_TAIL, STEPS) * self._step * scale * self.activity(hour)
        walk = np.concatenate([[0.0], np.cumsum(steps)])
        start, end = self._anchor(hour), self._anchor(hour + 1)
        bridge = np.linspace(start, end - walk[-1], STEPS + 1)
        return walk + bridge

    def _anchor(self, hour: int) -> float:
        return self._wave * self._level(f"{self._name}:anchor", hour, _OCTAVES)

    def _level(self, name: str, hour: int, octaves: tuple[int, ...]) -> float:
        """Value noise: each octave interpolates between independent draws; longer waves are higher."""
        total = 0.0
        for octave in octaves:
            knot, rest = divmod(hour, octave)
            a, b = self._noise(name, octave, knot), self._noise(name, octave, knot + 1)
            total += sqrt(octave) * (a + (b - a) * rest / octave) * 0.5
        return total / sqrt(octaves[0])

    def _draw(self, name: str, octave: int, knot: int) -> float:
        return float(generator(self._seed, name, octave, knot).standard_normal())
