"""A move of the whole market: when most symbols trade heavily and go one way, no sector has moved by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from shared.detection.features import SymbolFeatures
from shared.detection.reading import Detector, Direction, Signal
from shared.market.model import Market
from shared.market.universe import Universe
from shared.settings import SectorSettings
from shared.times import MINUTE_MS


@dataclass(frozen=True, slots=True)
class MarketMove:
    """The minute at which a market-wide move began: how many of how many symbols, and their median 15-minute return."""

    open_ms: int
    direction: Direction
    moved: int
    symbols: int
    r_15m: float


class MarketWide:
    """Tell minutes of a market-wide move; the same minute twice changes nothing.

    A minute is one when at least `market_wide_share` of all symbols with a volume z have it at or beyond the
    followers' threshold and the same sign of their 15-minute return. It casts its shadow over the next `return_bars`
    minutes, whose excess returns still hold the move. Off without a share, and where the universe has one sector.
    """

    def __init__(self, settings: SectorSettings, universe: Universe) -> None:
        self.settings = settings
        self.on = settings.market_wide_share is not None and len(universe.sectors) > 1
        self._last_ms: int | None = None

    def step(self, minute_ms: int, features: Mapping[str, SymbolFeatures]) -> tuple[bool, MarketMove | None]:
        """Return whether the minute lies in a market-wide move, and the move when it begins here."""
        if not self.on:
            return False, None
        shadow_ms = self.settings.windows.return_bars * MINUTE_MS
        shadowed = self._last_ms is not None and 0 <= minute_ms - self._last_ms <= shadow_ms
        found = self._move(minute_ms, features)
        if found is None:
            return shadowed, None
        began = not shadowed
        self._last_ms = minute_ms if self._last_ms is None else max(minute_ms, self._last_ms)
        return True, found if began else None

    def snapshot(self) -> int | None:
        return self._last_ms

    def restore(self, last_ms: int | None) -> None:
        self._last_ms = last_ms

    def _move(self, minute_ms: int, features: Mapping[str, SymbolFeatures]) -> MarketMove | None:
        least_z, share = self.settings.thresholds.volume_z_follower, self.settings.market_wide_share or 1.0
        known = [one for one in features.values() if one.z_volume is not None and one.r_15m is not None]
        loud = [one.r_15m or 0.0 for one in known if (one.z_volume or 0.0) >= least_z]
        up, down = sum(moved > 0 for moved in loud), sum(moved < 0 for moved in loud)
        if not known or max(up, down) < share * len(known):
            return None
        direction = Direction.UP if up >= down else Direction.DOWN
        return MarketMove(minute_ms, direction, max(up, down), len(known), median(loud))


def market_signal(move: MarketMove, benchmark: str, settings: SectorSettings) -> Signal:
    """Return the stored fact of a market-wide move; it is named by the benchmark."""
    share = settings.market_wide_share or 1.0
    return Signal(
        detector=Detector.MARKET_WIDE,
        market=Market.USDM,
        symbol=benchmark,
        event_ms=move.open_ms,
        known_ms=move.open_ms + MINUTE_MS,
        values=_values(move),
        thresholds={"market_wide_share": share, "volume_z_follower": settings.thresholds.volume_z_follower},
        direction=move.direction,
        strength=max(1.0, move.moved / move.symbols / share),
    )


def _values(move: MarketMove) -> dict[str, Any]:
    return {
        "moved": move.moved,
        "symbols": move.symbols,
        "share": move.moved / move.symbols,
        "r_15m": move.r_15m,
        "direction": move.direction.value,
    }
