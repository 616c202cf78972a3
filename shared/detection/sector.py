"""Who moved first in a sector, what else confirms it, and whether the rest of the sector follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from shared.detection.features import SymbolFeatures
from shared.detection.follower_rates import FollowerRates
from shared.detection.market_wide import MarketMove, MarketWide
from shared.detection.reading import Detector, Direction, Signal
from shared.detection.robust import robust_z
from shared.market.model import Market
from shared.market.universe import Universe
from shared.settings import SectorSettings
from shared.times import HOUR_MS, MINUTE_MS, iso_utc

Judgement = Literal["confirmed", "not_confirmed", "unknown"]
Label = Literal["CONFIRMED", "PARTIAL", "UNCONFIRMED"]

MIN_CONFIRMATION_HISTORY = 24  # earlier values needed before a robust z is stated
_STALE_MS = 15 * MINUTE_MS  # the exchange publishes open interest every 5 minutes, now and then late


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What three independent sources say of an initiator. Unknown is never counted as no."""

    open_interest: Judgement = "unknown"
    open_interest_z: float | None = None
    liquidations: Judgement = "unknown"
    liquidation_z: float | None = None
    funding: Judgement = "unknown"
    funding_rate: float | None = None
    funding_hours: float | None = None
    failed: tuple[str, ...] = ()  # sources that were asked and did not answer in time

    def to_json(self) -> dict[str, Any]:
        return {
            "open_interest": {"state": self.open_interest, "z": self.open_interest_z},
            "liquidations": {"state": self.liquidations, "z": self.liquidation_z},
            "funding": {
                "state": self.funding,
                **({} if self.funding_hours is None else {"hours": self.funding_hours}),
            },
        }


def label(confirmation: Confirmation) -> Label:
    """Return CONFIRMED for two or more confirmed sources, PARTIAL for one, UNCONFIRMED for none."""
    sources = (confirmation.open_interest, confirmation.liquidations, confirmation.funding)
    confirmed = sum(source == "confirmed" for source in sources)
    return "CONFIRMED" if confirmed >= 2 else "PARTIAL" if confirmed == 1 else "UNCONFIRMED"


def confirm_open_interest(
    points: Sequence[tuple[int, float]], at_ms: int, settings: SectorSettings
) -> tuple[Judgement, float | None]:
    """Judge the relative change of open interest over the last hour against the symbol's own earlier changes.

    `points` are (epoch ms, open interest); those after `at_ms` are left out. Unknown when the newest point is more
    than 15 minutes old, has no partner an hour before, or too few earlier changes are known.
    """
    known = {time_ms: value for time_ms, value in points if time_ms <= at_ms and 0.0 < value < float("inf")}
    if not known or at_ms - max(known) > _STALE_MS:
        return "unknown", None
    changes = [
        (time_ms, known[time_ms] / known[time_ms - HOUR_MS] - 1.0)
        for time_ms in sorted(known)
        if time_ms - HOUR_MS in known
    ]
    if not changes or changes[-1][0] != max(known):
        return "unknown", None
    return _judge(changes[-1][1], [change for _, change in changes[:-1]], settings.thresholds.open_interest_z)


def confirm_liquidations(
    notional: float | None, history: Sequence[float], settings: SectorSettings
) -> tuple[Judgement, float | None]:
    """Judge the notional liquidated in the last 15 minutes against earlier 15-minute sums of the symbol.

    The exchange shows at most one liquidation a second: a lower bound. None means that nobody listened: unknown.
    """
    if notional is None:
        return "unknown", None
    return _judge(notional, history, settings.thresholds.liquidation_z)


FUNDING_HOURS = 8.0
"""The funding interval that `funding_rate_abs` is meant for, and that of every symbol without one of its own."""


def confirm_funding(rate: float | None, settings: SectorSettings, hours: float | None = FUNDING_HOURS) -> Judgement:
    """Judge the latest funding rate, a fraction (0.001 = 0.1 %) of either sign, by what it costs in an hour.

    `hours` is the symbol's funding interval: 0.05 % every 4 hours is as much as 0.1 % every 8. None: not known.
    """
    if rate is None or rate != rate or hours is None or not hours > 0:
        return "unknown"
    enough = abs(rate) * (FUNDING_HOURS / hours) >= settings.thresholds.funding_rate_abs
    return "confirmed" if enough else "not_confirmed"


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


def initiator_signal(hit: InitiatorHit, confirmation: Confirmation, settings: SectorSettings) -> Signal:
    """Return the stored fact of an initiator, with what confirms it and what was unknown."""
    reading, thresholds = hit.features, settings.thresholds
    z_er, z_volume = reading.z_excess_return or 0.0, reading.z_volume or 0.0
    return Signal(
        detector=Detector.SECTOR_INITIATOR,
        market=Market.USDM,
        symbol=hit.symbol,
        event_ms=reading.open_ms,
        known_ms=reading.open_ms + MINUTE_MS,
        values={
            "z_excess_return": z_er,
            "z_volume": z_volume,
            "taker_buy_share": reading.taker_buy_share,
            "beta": reading.beta,
            "excess_return": reading.excess_return,
            "r_15m": reading.r_15m,
            "funding_rate": confirmation.funding_rate,
            "status": label(confirmation),
            "confirmations": confirmation.to_json(),
            **({"sources_failed": list(confirmation.failed)} if confirmation.failed else {}),
        },
        thresholds={
            "excess_return_z_initiator": thresholds.excess_return_z_initiator,
            "volume_z_initiator": thresholds.volume_z_initiator,
            "taker_dominance_min": thresholds.taker_dominance_min,
        },
        direction=hit.direction,
        sector=hit.sector,
        strength=max(
            1.0, min(abs(z_er) / thresholds.excess_return_z_initiator, z_volume / thresholds.volume_z_initiator)
        ),
    )


def diffusion_signal(event: DiffusionEvent, settings: SectorSettings) -> Signal:
    """Return the stored fact of a diffusion; it is named by its initiator and dated by the bar that completed it."""
    thresholds = settings.thresholds
    return Signal(
        detector=Detector.SECTOR_DIFFUSION,
        market=Market.USDM,
        symbol=event.initiator,
        event_ms=event.open_ms,
        known_ms=event.open_ms + MINUTE_MS,
        values={
            "initiator": event.initiator,
            "initiator_time": iso_utc(event.initiator_ms),
            "direction": event.direction.value,
            "followers": [
                {
                    "symbol": one.symbol,
                    "z_excess_return": one.z_excess_return,
                    "z_volume": one.z_volume,
                    "time": iso_utc(one.open_ms),
                }
                for one in event.followers
            ],
            "followers_count": len(event.followers),
            "others": event.others,
            "share": event.share,
            **({} if event.p_value is None else {"p_value": event.p_value}),
        },
        thresholds={
            "excess_return_z_follower": thresholds.excess_return_z_follower,
            "volume_z_follower": thresholds.volume_z_follower,
            "sector_k_min": thresholds.sector_k_min,
            "sector_share_min": thresholds.sector_share_min,
            **({} if settings.diffusion_p_max is None else {"diffusion_p_max": settings.diffusion_p_max}),
        },
        direction=event.direction,
        sector=event.sector,
        strength=max(1.0, event.share / thresholds.sector_share_min),
    )


def _beyond(reading: SymbolFeatures, least_z_return: float, least_z_volume: float) -> Direction | None:
    """Return the direction of a coin whose excess return and volume both stand out, else None."""
    z_er, z_volume, excess = reading.z_excess_return, reading.z_volume, reading.excess_return
    if z_er is None or z_volume is None or excess is None or abs(z_er) < least_z_return or z_volume < least_z_volume:
        return None
    return Direction.UP if excess > 0 else Direction.DOWN


def _judge(value: float, history: Sequence[float], least: float) -> tuple[Judgement, float | None]:
    if len(history) < MIN_CONFIRMATION_HISTORY:
        return "unknown", None
    z = robust_z(value, history)
    if z is None:
        return "unknown", None
    return ("confirmed" if z >= least else "not_confirmed"), z
