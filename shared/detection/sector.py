"""Who moved first in a sector, and whether the rest of the sector follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from shared.detection.features import SymbolFeatures
from shared.detection.follower_rates import FollowerRates
from shared.detection.market_wide import MarketMove, MarketWide
from shared.detection.reading import Direction
from shared.market.universe import Universe
from shared.settings import SectorSettings
from shared.times import MINUTE_MS


def is_learning(reading: SymbolFeatures, settings: SectorSettings) -> bool:
    """Tell whether a symbol is scored against less than its full history: it stays out of its sector's share."""
    windows = settings.windows
    return reading.bars < windows.min_coverage * windows.zscore_lookback_bars


def bars_learnt(reading: SymbolFeatures, settings: SectorSettings) -> tuple[int, int]:
    """Return how many of the bars of a full answer a symbol has had, and how many those are (n of 960)."""
    windows = settings.windows
    full = windows.zscore_lookback_bars + windows.beta_lookback_bars
    return (min(full, reading.bars + windows.beta_lookback_bars) if reading.bars else 0), full


@dataclass(frozen=True, slots=True)
class InitiatorHit:
    """A coin that left its benchmark, on volume, with one-sided takers."""

    symbol: str
    sector: str
    direction: Direction
    features: SymbolFeatures


def find_initiators(
    features: Mapping[str, SymbolFeatures], universe: Universe, settings: SectorSettings
) -> list[InitiatorHit]:
    """Return the initiators of one bar, in the order of the features. The benchmark can be none."""
    thresholds = settings.thresholds
    takers_high = thresholds.taker_dominance_min
    takers_low = float(1 - Decimal(str(takers_high)))
    hits = []
    least_volume = thresholds.volume_z_initiator
    for symbol, reading in features.items():
        if reading.z_volume is None or reading.z_volume < least_volume:
            continue  # nearly every symbol of nearly every minute
        sector = universe.sector_of(symbol)
        share = reading.taker_buy_share
        if sector is None or symbol == universe.benchmark or share is None:
            continue
        direction = _beyond(reading, thresholds.excess_return_z_initiator, thresholds.volume_z_initiator)
        if direction is None or takers_low < share < takers_high:
            continue
        if settings.takers_agree and (share >= takers_high) != (direction is Direction.UP):
            continue
        hits.append(InitiatorHit(symbol, sector, direction, reading))
    return hits


@dataclass(frozen=True, slots=True)
class Follower:
    """`open_ms` is the first bar at which the coin followed."""

    symbol: str
    z_excess_return: float
    z_volume: float
    open_ms: int


@dataclass(frozen=True, slots=True)
class DiffusionEvent:
    """Enough of a sector followed an initiator. `open_ms` is the bar that completed it, `others` the coins asked."""

    initiator: str
    direction: Direction
    initiator_ms: int
    sector: str
    followers: tuple[Follower, ...]
    others: int
    share: float
    open_ms: int
    p_value: float | None = None  # the chance that so many follow by themselves; None where it is not asked or known


@dataclass(frozen=True, slots=True)
class Decision:
    """What one closed bar has shown."""

    hits: list[InitiatorHit]
    events: list[DiffusionEvent]
    move: MarketMove | None = None


@dataclass(slots=True)
class _Pending:
    initiator: str
    direction: Direction
    initiator_ms: int
    done: bool  # kept until its time is over, so that a repeated minute cannot emit it again
    followers: dict[str, Follower]


class DiffusionTracker:
    """Watch each initiator for `diffusion_minutes` after its bar; emit at most one event for each.

    Minutes are stepped in ascending order; the same minute twice changes nothing more.
    """

    def __init__(self, settings: SectorSettings, universe: Universe) -> None:
        self.settings = settings
        self.universe = universe
        self._pending: list[_Pending] = []
        self._rates = FollowerRates(settings.windows.return_bars) if settings.diffusion_p_max is not None else None
        self._market = MarketWide(settings, universe)

    @property
    def watches_market(self) -> bool:
        """Tell whether moves of the whole market are looked for: a share is set, and there is more than one sector."""
        return self._market.on

    def decide(self, minute_ms: int, features: Mapping[str, SymbolFeatures]) -> Decision:
        """Decide one closed bar: the market as a whole first, then initiators, then who follows whom.

        In a market-wide move nothing of a sector is found, new or followed.
        """
        wide, move = self._market.step(minute_ms, features)
        hits = [] if wide else find_initiators(features, self.universe, self.settings)
        events = self.step(minute_ms, {} if wide else features, hits)
        return Decision(hits, events, move)

    def step(
        self, minute_ms: int, features: Mapping[str, SymbolFeatures], new_initiators: Iterable[InitiatorHit]
    ) -> list[DiffusionEvent]:
        """Look for followers at one closed bar, then start watching its own initiators."""
        span_ms = self.settings.windows.diffusion_minutes * MINUTE_MS
        self._pending = [one for one in self._pending if minute_ms <= one.initiator_ms + span_ms]
        events = []
        for one in self._pending:
            if not one.done and one.initiator_ms < minute_ms:
                event = self._follow(one, minute_ms, features)
                if event is not None:
                    events.append(event)
        watched = {(one.initiator, one.direction, one.initiator_ms) for one in self._pending}
        for hit in new_initiators:
            if (hit.symbol, hit.direction, minute_ms) not in watched:
                self._pending.append(_Pending(hit.symbol, hit.direction, minute_ms, False, {}))
        if self._rates is not None and features:
            self._rates.learn(minute_ms, self._looks(features))
        return events

    def _looks(self, features: Mapping[str, SymbolFeatures]) -> dict[str, Direction | None]:
        """Return every scored coin with the direction in which it looks like a follower."""
        least = self.settings.thresholds
        return {
            symbol: _beyond(one, least.excess_return_z_follower, least.volume_z_follower)
            for symbol, one in features.items()
            if one.z_excess_return is not None and one.z_volume is not None
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the pending initiators, ready for JSON."""
        return {
            "version": 1,
            "pending": [
                {
                    "initiator": one.initiator,
                    "direction": one.direction.value,
                    "initiator_ms": one.initiator_ms,
                    "done": one.done,
                    "followers": [[f.symbol, f.z_excess_return, f.z_volume, f.open_ms] for f in one.followers.values()],
                }
                for one in self._pending
            ],
            **({} if self._rates is None else {"rates": self._rates.snapshot()}),
            **({} if self._market.snapshot() is None else {"market_wide_ms": self._market.snapshot()}),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            ValueError: the snapshot is of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of a diffusion snapshot")
        self._pending = [
            _Pending(
                one["initiator"],
                Direction(one["direction"]),
                one["initiator_ms"],
                one["done"],
                {symbol: Follower(symbol, z_er, z_volume, at) for symbol, z_er, z_volume, at in one["followers"]},
            )
            for one in state["pending"]
        ]
        if self._rates is not None:
            self._rates.restore(state.get("rates"))
        self._market.restore(state.get("market_wide_ms"))

    def moved_to(self, universe: Universe) -> DiffusionTracker:
        """Return a tracker over another universe that goes on with the same pending initiators."""
        other = DiffusionTracker(self.settings, universe)
        other.restore(self.snapshot())
        return other

    def _follow(self, one: _Pending, minute_ms: int, features: Mapping[str, SymbolFeatures]) -> DiffusionEvent | None:
        thresholds = self.settings.thresholds
        peers = self.universe.peers(one.initiator)
        for symbol in peers:
            reading = features.get(symbol)
            if reading is None or symbol in one.followers or self._learning(reading):
                continue
            direction = _beyond(reading, thresholds.excess_return_z_follower, thresholds.volume_z_follower)
            if direction is one.direction and reading.z_excess_return is not None and reading.z_volume is not None:
                one.followers[symbol] = Follower(symbol, reading.z_excess_return, reading.z_volume, minute_ms)
        count = len(one.followers)
        asked = sum(symbol in one.followers or not self._learning(features.get(symbol)) for symbol in peers)
        enough = Fraction(Decimal(str(thresholds.sector_share_min))) * asked
        if not asked or count < thresholds.sector_k_min or count < enough:
            return None
        p_value = None
        if self._rates is not None:
            candidates = [symbol for symbol in peers if not self._learning(features.get(symbol))]
            minutes = max(1, (minute_ms - one.initiator_ms) // MINUTE_MS)
            p_value = self._rates.p_value(candidates, one.direction, minutes, count)
            if p_value is not None and p_value > (self.settings.diffusion_p_max or 1.0):
                return None
        one.done = True
        return DiffusionEvent(
            initiator=one.initiator,
            direction=one.direction,
            initiator_ms=one.initiator_ms,
            sector=self.universe.sector_of(one.initiator) or "",
            followers=tuple(one.followers.values()),
            others=asked,
            share=count / asked,
            open_ms=minute_ms,
            p_value=p_value,
        )

    def _learning(self, reading: SymbolFeatures | None) -> bool:
        return reading is not None and is_learning(reading, self.settings)


def _beyond(reading: SymbolFeatures, least_z_return: float, least_z_volume: float) -> Direction | None:
    """Return the direction of a coin whose excess return and volume both stand out, else None."""
    z_er, z_volume, excess = reading.z_excess_return, reading.z_volume, reading.excess_return
    if z_er is None or z_volume is None or excess is None or abs(z_er) < least_z_return or z_volume < least_z_volume:
        return None
    return Direction.UP if excess > 0 else Direction.DOWN
