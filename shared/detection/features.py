"""Sector features of every symbol, minute by minute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.detection.reading import Status
from shared.times import iso_utc, parse_utc_ms


@dataclass(frozen=True, slots=True)
class SymbolFeatures:
    """The features of one symbol at one closed bar; None wherever there is no answer.

    `bars` is how many excess returns the bar was scored against. `status`: WARMING with too few of them, UNSCORABLE
    when any of the three figures the initiator rule needs is missing, NORMAL otherwise.
    """

    symbol: str
    open_ms: int
    r_1m: float | None
    r_15m: float | None
    beta: float | None
    excess_return: float | None
    z_excess_return: float | None
    z_volume: float | None
    taker_buy_share: float | None
    status: Status
    bars: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values: `open_time` as ISO text beside `open_ms`."""
        return {**asdict(self), "status": self.status.value, "open_time": iso_utc(self.open_ms)}
