"""Closed windows wait here for their symbols' next flush: each transaction is paid for, and holds a hundred writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.detection.window_anomaly import WindowVerdict


class Gathering:
    """Windows that are closed, judged and told, but not stored. Nothing of a symbol may be stored before them.

    With `every_s` 0 they are due at once. What a kill takes from here is closed again by the next run: the stored
    position lies before it. Times are any clock's seconds.
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._since_s: float | None = None
        self._waiting: dict[str, list[WindowVerdict]] = {}

    def add(self, verdicts: Iterable[WindowVerdict], now_s: float) -> None:
        for verdict in verdicts:
            self._waiting.setdefault(verdict.window.symbol, []).append(verdict)
        if self._waiting and self._since_s is None:
            self._since_s = now_s

    def due(self, now_s: float) -> bool:
        """Tell whether the oldest of them has waited long enough."""
        return self._since_s is not None and now_s - self._since_s >= self.every_s

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._waiting)

    def take(self, symbols: Iterable[str] | None = None) -> Sequence[WindowVerdict]:
        """Return and forget the windows of these symbols (None: all)."""
        names = self.symbols if symbols is None else tuple(symbols)
        taken = [verdict for name in names for verdict in self._waiting.pop(name, ())]
        if not self._waiting:
            self._since_s = None
        return taken
