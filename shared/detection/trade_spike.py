"""One trade that dwarfs the trades just before it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import isfinite, log
from typing import Any

from msgspec import Struct

from shared.detection.calibration import TrailingRarity
from shared.detection.reading import Detector, Signal
from shared.detection.records import Record, tail_share
from shared.errors import ConfigurationError
from shared.market.model import UNITS_PER_COIN, Market, Side, Trade, units
from shared.settings import TradeSpikeSettings
from shared.times import iso_utc

_MOST = 1e15
_TAIL, _TAIL_LEAST = 0.05, 10  # of the known spikes: what the chance of a larger one is worked out from
_EXACT_BELOW = 2e7  # where rounding quantity x 1e8 is exact (see model.units)


class TradeSpikeReading(Struct, frozen=True):
    """A trade that fired. `mean` is that of the window, in base units; `ratio` = volume / mean.

    `rarity` is the share of this symbol's earlier spike ratios that were at least this large; None for the first.
    `record_hours`: how long ago one was; None where none is remembered. `return_hours`: where none is and the watch is
    younger than a record, in how many hours one as large is expected.
    """

    market: Market
    symbol: str
    trade_id: int | None
    price: float
    volume: float
    event_ms: int
    side: Side
    ratio: float
    mean: float
    rarity: float | None
    record_hours: float | None = None
    return_hours: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the product's output object."""
        return {
            "signal_type": "VolumeSpike",
            "symbol": self.symbol,
            "price": self.price,
            "volume": self.volume,
            "timestamp": iso_utc(self.event_ms),
            "ratio": self.ratio,
            "mean": self.mean,
            "trade_id": self.trade_id,
            "side": self.side.value,
        }


class SpikePast:
    """What a symbol's earlier spikes say about a new one."""

    __slots__ = ("_multiple", "_record_hours", "rarity", "record")

    def __init__(self, settings: TradeSpikeSettings) -> None:
        self.rarity, self.record = TrailingRarity(), Record(settings.alert_record_hours)
        self._multiple, self._record_hours = settings.multiple, settings.alert_record_hours

    def step(self, ratio: float, at_ms: int) -> tuple[float | None, float | None, float | None]:
        """Return rarity, record_hours and return_hours of a spike, then learn it."""
        seen, watched = self.record.seen, self.record.watched_hours(at_ms)
        hours, returns = self.record.step(ratio, at_ms), None
        if hours is None and watched < self._record_hours:
            returns = watched / seen / max(self._share(ratio), 1e-9) if seen else 0.0
        return self.rarity.step(ratio), hours, returns

    def _share(self, ratio: float) -> float:
        """Return the probability that the next spike is at least this large: its tail, in logarithms."""
        known = len(self.rarity)
        count = max(_TAIL_LEAST, round(_TAIL * known))
        largest = self.rarity.largest(count + 1)
        level = largest.pop() if known > count else self._multiple
        share = tail_share(log(ratio / level), [log(max(one / level, 1.0)) for one in largest])
        return share * len(largest) / known


class TradeSpikeDetector:
    """Fire when a trade is at least `multiple` times the mean of the `window_trades` trades before it.

    Equality counts. Quantities are integers of 1e-8 and the running sum is exact, so nothing drifts: with
    multiple = num / den the rule reads  quantity x window x den >= num x sum. Under `include_current` the trade is
    itself one of the window, which subtracts num from the left factor.
    """

    __slots__ = (
        "_at", "_laps", "_market", "_past", "_ring", "_size", "_sum", "_symbol", "_times_quantity", "_times_sum",
        "refused", "settings",
    )  # fmt: skip

    def __init__(self, settings: TradeSpikeSettings, market: Market, symbol: str) -> None:
        self.settings = settings
        self._market = market
        self._symbol = symbol
        self._size = settings.window_trades - (1 if settings.include_current else 0)
        if self._size < 1:
            raise ConfigurationError("trade_spike.window_trades must be at least 2 when include_current is set")
        multiple = Fraction(Decimal(str(settings.multiple)))
        own = multiple.numerator if settings.include_current else 0
        self._times_quantity = settings.window_trades * multiple.denominator - own
        self._times_sum = multiple.numerator
        self._ring = [0] * self._size
        self._at = 0
        self._laps = 0  # how often the ring has been written round
        self._sum = 0
        self._past = SpikePast(settings)
        self.refused = 0

    @property
    def trades(self) -> int:
        """The trades learnt so far."""
        return self._laps * self._size + self._at

    @property
    def warming(self) -> bool:
        return self._laps == 0

    def step(self, trade: Trade) -> TradeSpikeReading | None:
        """Judge one trade against those before it, then learn it. None unless it fires.

        A trade without a usable price or quantity is counted in `refused` and otherwise ignored.
        """
        quantity = trade.quantity
        if 0.0 < quantity < _EXACT_BELOW and 0.0 < trade.price <= _MOST:
            size = round(quantity * 1e8)
        elif isfinite(quantity) and 0.0 < quantity <= _MOST and 0.0 < trade.price <= _MOST:
            size = units(quantity)
        else:
            size = 0
        if size == 0:
            self.refused += 1
            return None
        at, before, ring = self._at, self._sum, self._ring
        self._sum = before + size - ring[at]
        ring[at] = size
        at += 1
        if at == self._size:
            at = 0
            self._laps += 1
        self._at = at
        # The cheap comparison first: hardly any trade passes it, and only then must the window have been full.
        if size * self._times_quantity < before * self._times_sum or self.trades <= self._size:
            return None
        return self.fired(trade.trade_id, trade.price, quantity, trade.side, trade.event_ms, size, before)

    def fired(
        self,
        trade_id: int | None,
        price: float,
        quantity: float,
        side: Side,
        event_ms: int,
        size: int,
        before: int,
    ) -> TradeSpikeReading:
        """Return the reading of a trade that fires: of `size` in 1e-8, after a window of sum `before`."""
        window = self.settings.window_trades
        total = before + size if self.settings.include_current else before
        ratio = size * window / total
        rarity, record_hours, return_hours = self._past.step(ratio, event_ms)
        return TradeSpikeReading(
            market=self._market,
            symbol=self._symbol,
            trade_id=trade_id,
            price=price,
            volume=quantity,
            event_ms=event_ms,
            side=side,
            ratio=ratio,
            mean=total / (window * UNITS_PER_COIN),
            rarity=rarity,
            record_hours=record_hours,
            return_hours=return_hours,
        )

    def signal(self, reading: TradeSpikeReading) -> Signal:
        """Return the stored fact. What only the alert gates need stands in its `snapshot`."""
        return Signal(
            detector=Detector.TRADE_SPIKE,
            market=reading.market,
            symbol=reading.symbol,
            event_ms=reading.event_ms,
            known_ms=reading.event_ms,
            values=reading.to_json(),
            thresholds={"multiple": self.settings.multiple, "window_trades": self.settings.window_trades},
            trade_id=reading.trade_id,
            strength=max(1.0, reading.ratio / self.settings.multiple),
            snapshot={
                "rarity": reading.rarity,
                "record_hours": reading.record_hours,
                "return_hours": reading.return_hours,
                "quote_notional": reading.price * reading.volume,
            },
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the ring as it stands and the counters; quantities are text, for they may exceed 64 bits."""
        return {
            "version": 1,
            "units": [str(size) for size in self._ring],
            "at": self._at,
            "laps": self._laps,
            "refused": self.refused,
            "ratios": self._past.rarity.values(),
            "record": self._past.record.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot of a detector with the same window.

        Raises:
            ValueError: the snapshot is of another version or window.
        """
        if state.get("version") != 1 or len(state["units"]) != self._size:
            raise ValueError("the trade-spike snapshot does not fit this configuration")
        self._ring = [int(text) for text in state["units"]]
        self._sum = sum(self._ring)
        self._at, self._laps = state["at"], state["laps"]
        self.refused = state["refused"]
        self._past.rarity.restore({"version": 1, "values": state["ratios"]})
        if "record" in state:
            self._past.record.restore(state["record"])
