"""A minute whose volume dwarfs the minutes just before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from shared.detection.calibration import TrailingRarity
from shared.detection.reading import Detector, Signal, Status
from shared.errors import NotEnoughData
from shared.market.model import UNITS_PER_COIN, Bar, Market, units
from shared.settings import VolumeSpikeSettings
from shared.times import HOUR_MS, MINUTE_MS, iso_utc

RARITY_CAPACITY = 720  # hours: a month of the same minute of the hour
_MOST = 1e18  # no volume lies beyond; such a number is bad, not large


@dataclass(frozen=True, slots=True)
class VolumeSpikeReading:
    """`timestamp_ms` is the bar's close instant (open + 60 s). `ratio` None: no scale or bad numbers (unscorable).

    `rarity`: of this symbol's earlier bars at the same minute of the hour, the share whose own ratio (volume over
    the mean of the 20 before it) was at least this large; None while too few of them are known. `surprise`: of a
    spike, the robust z of its log ratio among theirs; a share cannot tell the largest of 100 from one far beyond.
    """

    symbol: str
    timestamp_ms: int
    open_ms: int
    volume_current: float | None
    ma20: float | None
    ratio: float | None
    spike: bool
    threshold: float
    status: Status
    closed: bool = True
    rarity: float | None = None
    surprise: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the product's output object; `closed` appears only for a running bar."""
        out: dict[str, Any] = {
            "symbol": self.symbol,
            "timestamp": iso_utc(self.timestamp_ms),
            "volume_current": self.volume_current,
            "ma20": self.ma20,
            "ratio": self.ratio,
            "spike": self.spike,
            "threshold": self.threshold,
            "rarity": self.rarity,
            "status": self.status.value,
        }
        if not self.closed:
            out["closed"] = False
        return out


def read_volume_spike(
    bars: Sequence[Bar],
    *,
    threshold: float,
    ma_bars: int = 20,
    rarity_history: Sequence[float] = (),
    rarity_min_history: int = 24,
    closed: bool = True,
) -> VolumeSpikeReading:
    """Judge the last bar against the mean volume of the `ma_bars` bars before it, which do not include it.

    Bars are ascending; more than needed may be given. `rarity_history` holds the ratios of earlier bars at the same
    minute of the hour (`same_phase_ratios`). Decided in integers: equality counts and nothing is rounded.

    Raises:
        NotEnoughData: fewer than `ma_bars` + 1 bars came.
    """
    needed = ma_bars + 1
    if len(bars) < needed:
        raise NotEnoughData(f"{needed} closed bars are needed for this reading, {len(bars)} came")
    amounts = [_amount(bar.volume) for bar in bars[-needed:]]
    rarity = TrailingRarity(max(1, len(rarity_history)), max(1, rarity_min_history))
    for ratio in rarity_history:
        rarity.learn(ratio)
    return _read(
        bars[-1],
        amounts[-1],
        _total(amounts[:-1]),
        ma_bars,
        Fraction(Decimal(str(threshold))),
        threshold,
        rarity,
        closed,
    )


def same_phase_ratios(bars: Sequence[Bar], *, open_ms: int, ma_bars: int = 20) -> list[float]:
    """Return the ratios of the bars before `open_ms` that share its minute of the hour, oldest first."""
    amounts = [_amount(bar.volume) for bar in bars]
    ratios = []
    for i in range(ma_bars, len(bars)):
        if bars[i].open_ms < open_ms and _phase(bars[i].open_ms) == _phase(open_ms):
            ratio = _ratio(amounts[i], _total(amounts[i - ma_bars : i]), ma_bars)
            if ratio is not None:
                ratios.append(ratio)
    return ratios[-RARITY_CAPACITY:]


class VolumeSpikeDetector:
    """The same reading bar by bar, for replay and warm processes: consecutive rows decide, as they come."""

    def __init__(self, settings: VolumeSpikeSettings, market: Market, symbol: str) -> None:
        self.settings = settings
        self._market = market
        self._symbol = symbol
        self._threshold = Fraction(Decimal(str(settings.threshold)))
        self._amounts: deque[int | None] = deque(maxlen=settings.ma_bars)
        self._sum = 0
        self._bad = 0  # bars of the window whose volume is no number
        self._rarity: dict[int, TrailingRarity] = {}

    def step(self, bar: Bar) -> VolumeSpikeReading | None:
        """Judge a bar against those before it, then learn it; None while warming."""
        amount = _amount(bar.volume)
        warm = len(self._amounts) == self.settings.ma_bars
        reading = None
        if warm:
            rarity = self._rarity_of(bar.open_ms)
            total = None if self._bad else self._sum
            reading = _read(
                bar, amount, total, self.settings.ma_bars, self._threshold, self.settings.threshold, rarity, True
            )
            if reading.ratio is not None:
                rarity.learn(reading.ratio)
            self._count(self._amounts[0], -1)
        self._amounts.append(amount)
        self._count(amount, 1)
        return reading

    def signal(self, reading: VolumeSpikeReading) -> Signal | None:
        """Return the stored fact of a spike, None for anything else."""
        if not reading.spike or reading.ratio is None:
            return None
        return volume_spike_signal(reading, self.settings, self._market)

    def _rarity_of(self, open_ms: int) -> TrailingRarity:
        phase = _phase(open_ms)
        if phase not in self._rarity:
            self._rarity[phase] = TrailingRarity(RARITY_CAPACITY, max(1, self.settings.rarity_min_history))
        return self._rarity[phase]

    def _count(self, amount: int | None, sign: int) -> None:
        if amount is None:
            self._bad += sign
        else:
            self._sum += sign * amount


def volume_spike_signal(reading: VolumeSpikeReading, settings: VolumeSpikeSettings, market: Market) -> Signal:
    """Return the signal of a reading that is a spike."""
    ratio = reading.ratio if reading.ratio is not None else reading.threshold
    return Signal(
        detector=Detector.VOLUME_SPIKE,
        market=market,
        symbol=reading.symbol,
        event_ms=reading.open_ms,
        known_ms=reading.timestamp_ms,
        values=reading.to_json(),
        thresholds={
            "threshold": reading.threshold,
            "ma_bars": settings.ma_bars,
            "gate": settings.gate,
            "rarity_max": settings.rarity_max,
        },
        snapshot={"surprise": reading.surprise, "alert_surprise_min": settings.alert_surprise_min},
        strength=max(1.0, ratio / reading.threshold),
    )


def _read(
    bar: Bar,
    amount: int | None,
    total: int | None,
    ma_bars: int,
    exact: Fraction,
    threshold: float,
    rarity: TrailingRarity,
    closed: bool,
) -> VolumeSpikeReading:
    ratio = _ratio(amount, total, ma_bars)
    spike = (
        ratio is not None
        and amount is not None
        and total is not None
        and amount * ma_bars * exact.denominator >= exact.numerator * total
    )
    answer = Status.ANOMALY if spike else Status.NORMAL
    status = Status.UNSCORABLE if ratio is None else answer
    return VolumeSpikeReading(
        symbol=bar.symbol,
        timestamp_ms=bar.open_ms + MINUTE_MS,
        open_ms=bar.open_ms,
        volume_current=None if amount is None else bar.volume,
        ma20=None if total is None else total / (UNITS_PER_COIN * ma_bars),
        ratio=ratio,
        spike=spike,
        threshold=threshold,
        status=status,
        closed=closed,
        rarity=None if ratio is None else rarity.rarity(ratio),
        surprise=rarity.surprise(ratio) if spike and ratio is not None else None,
    )


def _amount(volume: float) -> int | None:
    return units(volume) if 0.0 <= volume <= _MOST else None


def _total(amounts: Sequence[int | None]) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _ratio(amount: int | None, total: int | None, ma_bars: int) -> float | None:
    return None if amount is None or not total else amount * ma_bars / total


def _phase(open_ms: int) -> int:
    return open_ms % HOUR_MS // MINUTE_MS
