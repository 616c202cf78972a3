"""What a warm process remembers of past volume ratios, so that each run reads one stored minute and not a week."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

_NONE = float("nan")


class Stored(Protocol):
    """The part of `RatioRepository` that is used."""

    def phase(self, first_ms: int, last_ms: int) -> Mapping[int, Mapping[str, float]]: ...


class PastRatios:
    """Ratios by minute for a fixed set of symbols: 40 MB for 500 symbols and a week. Not thread-safe.

    A stored minute is asked for once: what is an hour old does not change any more. One that is not stored is asked
    for again, because a backfill may bring it.
    """

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._rows: dict[int, array[float]] = {}

    def load(self, stored: Stored, symbols: Iterable[str], times_ms: Sequence[int]) -> None:
        """Make sure that these minutes, whole hours apart, are known, where they are stored.

        A symbol that was not asked for before begins everything anew.
        """
        names = tuple(symbols)
        if any(name not in self._place for name in names):
            self._place = {name: at for at, name in enumerate(names)}
            self._rows = {}
        lacking = [at_ms for at_ms in times_ms if at_ms not in self._rows]
        if lacking:
            found = stored.phase(min(lacking), max(lacking))
            self._rows |= {at_ms: self._packed(row) for at_ms, row in found.items() if at_ms not in self._rows}

    def forget_before(self, oldest_ms: int) -> None:
        self._rows = {at_ms: row for at_ms, row in self._rows.items() if at_ms >= oldest_ms}

    def of(self, symbol: str, times_ms: Iterable[int]) -> list[float]:
        """Return one symbol's ratios of loaded minutes, oldest first; minutes without a usable one are left out."""
        at = self._place[symbol]
        rows = (self._rows.get(at_ms) for at_ms in sorted(times_ms))
        return [row[at] for row in rows if row is not None and row[at] == row[at]]  # NaN is not itself

    def _packed(self, ratios: Mapping[str, float]) -> array[float]:
        return array("d", (ratios.get(name, _NONE) for name in self._place))
