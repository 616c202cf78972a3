"""Is a feed silent or only quiet? Judged against each stream's own rate; pure, wall time (monotonic seconds) comes in.

A quiet market is not a broken feed: a symbol is judged only once its rate is known, its threshold grows with the
silences it usually has, and a silence that a new connection did not end is asked about again much later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp

EVERYTHING = "*"
"""The name under which a connection's streams are judged together."""

_MEMORY_S = 600.0  # how long a rate and a long silence are remembered
_KNOWN_TRADES = 20.0  # decayed count from which a rate is believed
_EXPECTED_TRADES = 20.0  # trades that should have come within the threshold: chance of none is e**-20
_LONGEST_FACTOR = 3.0  # trades come in clusters, so the silences of the recent past count too
_FIRST_S = 30.0  # patience with a connection whose rate is not known yet
_PAUSED_S = 2.0  # looks further apart than this: we slept, not the exchange
_AGAIN_S = 300.0  # a silence that a reconnect did not end is judged again after this
_ASK_AGAIN_S = 30.0  # a whole connection's silence that the exchange has confirmed: asking is cheap


@dataclass(frozen=True, slots=True)
class Silence:
    """`stream` (a symbol, or EVERYTHING) has been silent for longer than its own threshold allows."""

    stream: str
    silent_s: float
    threshold_s: float


class _Pulse:
    __slots__ = ("changed_s", "count", "longest_s", "observed_s", "patience_s", "seen")

    def __init__(self, now_s: float) -> None:
        self.count = 0
        self.changed_s = now_s
        self.seen = 0.0
        self.observed_s = 0.0
        self.longest_s = 0.0
        self.patience_s = 0.0

    def learn(self, count: int, dt: float, now_s: float) -> None:
        kept = exp(-dt / _MEMORY_S)
        self.seen = self.seen * kept + max(0, count - self.count)  # a state that took another's place counts anew
        self.observed_s = self.observed_s * kept + dt
        self.longest_s *= kept
        if count != self.count:
            self.longest_s = max(self.longest_s, now_s - self.changed_s)
            self.count = count
            self.changed_s = now_s
            self.patience_s = 0.0

    def threshold_s(self, base_s: float) -> float | None:
        if self.seen < _KNOWN_TRADES or self.observed_s <= 0:
            return None
        usual = max(_EXPECTED_TRADES * self.observed_s / self.seen, _LONGEST_FACTOR * self.longest_s)
        return max(base_s, usual, self.patience_s)


class Watchdog:
    """Watches the streams of one connection through their message counts."""

    def __init__(self, base_s: float, streams: Iterable[str], now_s: float) -> None:
        self._base_s = base_s
        self._pulses = {name: _Pulse(now_s) for name in (EVERYTHING, *streams)}
        self._looked_s = now_s

    def look(self, counts: Mapping[str, int], now_s: float) -> Silence | None:
        """Compare the counts (ever growing, by stream) with the last look; return the worst silence, if any.

        The caller replaces the connection when one is returned, and says so with `replaced`.
        """
        dt = now_s - self._looked_s
        self._looked_s = now_s
        if dt > _PAUSED_S:
            self.replaced(now_s)
            return None
        worst: Silence | None = None
        for name, pulse in self._pulses.items():
            pulse.learn(sum(counts.values()) if name == EVERYTHING else counts.get(name, 0), dt, now_s)
            silent = now_s - pulse.changed_s
            threshold = pulse.threshold_s(self._base_s)
            if threshold is None and name == EVERYTHING:
                threshold = max(_FIRST_S, 2 * self._base_s, pulse.patience_s)
            if threshold is not None and silent > threshold:
                pulse.patience_s = _AGAIN_S
                if worst is None or silent > worst.silent_s:
                    worst = Silence(name, silent, threshold)
        return worst

    def excuse(self, stream: str, now_s: float) -> None:
        """The exchange itself has no trades there: look again in a while."""
        pulse = self._pulses.get(stream)
        if pulse is not None:
            pulse.patience_s = now_s - pulse.changed_s + (_ASK_AGAIN_S if stream == EVERYTHING else _AGAIN_S)

    def convict(self, stream: str) -> None:
        """The exchange has trades there: the next silence is judged as if this one had not been."""
        pulse = self._pulses.get(stream)
        if pulse is not None:
            pulse.patience_s = 0.0

    def follow(self, streams: Iterable[str], now_s: float) -> None:
        """Watch these streams from now on; those that stay keep what is known of them."""
        self._pulses = {name: self._pulses.get(name) or _Pulse(now_s) for name in (EVERYTHING, *streams)}

    def replaced(self, now_s: float) -> None:
        """Start every silence anew: a new connection stands, or we ourselves were away."""
        for pulse in self._pulses.values():
            pulse.changed_s = now_s

    def quiet(self, now_s: float) -> list[str]:
        """Return the streams that are silent beyond the base threshold, broken or not; for the status line."""
        return [name for name, pulse in self._pulses.items() if now_s - pulse.changed_s > self._base_s]
