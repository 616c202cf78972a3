"""One symbol's state machines, its position in the stream, and what waits for missing ids."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from shared.detection.pump import PumpDetector
from shared.detection.trade_spike import TradeSpikeDetector
from shared.detection.window_anomaly import WindowAnomalyDetector
from shared.exchange.binance.ids import IdFollower
from shared.market.model import Market, Trade
from shared.market.windows import WindowAggregator, WindowConfig
from shared.settings import Settings

SNAPSHOT_VERSION = 2
_MOST_NATIVE = 1 << 62
_NEVER = -1  # no trade's time is below it: the batch loop leaves such a symbol to the careful path


class SymbolState:
    """Detectors are given trades in the order of their ids, each once, whatever order they came in.

    `last_id` is the position: everything up to it has been given to the detectors or given up. Trades behind a hole
    wait in `waiting` (None: a poison value, whose id counts and whose content goes nowhere).

    `follower`, `window`, `lo` and `hi` are the batch loop's: a trade of the next id whose time lies in [lo, hi)
    belongs to `window` (and to the pump rule's open chunk), closes none and has nothing waiting before it. Whatever
    changes the state sets `hi` to -1.
    """

    __slots__ = (
        "add", "aggregator", "anomaly", "aside", "changes", "feed", "follower", "hi", "hole_from_ms", "last_id",
        "last_ms", "lo", "looked_ms", "lost", "opened", "proven_id", "proven_ms", "pump",
        "remembered", "restored", "row", "seen", "spike", "step", "symbol",
        "taken", "unsure", "waiting", "window",
    )  # fmt: skip

    def __init__(self, settings: Settings, market: Market, symbol: str) -> None:
        anomaly = settings.window_anomaly
        config = WindowConfig(
            window_ms=anomaly.window_seconds * 1000, lateness_ms=round(anomaly.lateness_seconds * 1000)
        )
        self.symbol = symbol
        self.aggregator = WindowAggregator(market, symbol, config)
        self.anomaly = WindowAnomalyDetector(anomaly, market, symbol) if anomaly.enabled else None
        self.spike = TradeSpikeDetector(settings.trade_spike, market, symbol) if settings.trade_spike.enabled else None
        self.pump = PumpDetector(settings.pump, market, symbol) if settings.pump.enabled else None
        self.add = self.aggregator.add  # bound once: they are called for every trade
        self.step = self.spike.step if self.spike is not None else None
        self.seen = 0  # trades used since the start
        self.aside = 0  # poison values: signs of life, of no use
        self.changes = 0  # everything else that changed the state
        self.taken = 0  # seen + changes when the last snapshot was taken
        self.remembered = 0  # windows learnt when the detector's memory was last taken
        self.last_id = -1  # -1: none yet
        self.last_ms = 0  # newest trade time, exchange
        self.waiting: dict[int, Trade | None] = {}
        self.lost: list[tuple[int, int]] = []  # ids given up and not yet passed, ascending
        self.hole_from_ms: int | None = None  # ids up to the position are lost; the next trade bounds the hole
        self.unsure = False  # the connection broke: trades may be missing that nothing has shown yet
        self.proven_ms, self.proven_id = 0, -1  # REST: nothing newer than this id up to this exchange time
        self.looked_ms = 0  # the window that closes at this exchange time has been looked at, and is not suspicious
        self.restored = False  # continues from a stored position: what came since then was never signalled
        self.follower: IdFollower | None = None
        self.window: Any = None
        self.lo, self.hi = 0, _NEVER
        self.feed: Any = None
        self.row, self.opened = -1, False

    # --- the native loop, where there is one --------------------------------------------------------------------
    def adopt(self, feed: Any, row: int) -> None:
        """Let a row of the native loop stand for this symbol. The quantities are kept where that loop has them,
        unless one of them is beyond 64 bits."""
        self.feed, self.row = feed, row
        feed.get(row)  # closes it, whoever had it before
        if self.spike is None:
            return
        if max(self.spike._ring) >= _MOST_NATIVE:
            self.row = -1
            return
        ring = self.feed.ring(self.row).cast("q")
        ring[:] = array("q", self.spike._ring)
        self.spike._ring = ring

    def detach(self) -> None:
        """A quantity beyond 64 bits has come: this symbol is Python's from now on."""
        self.own()
        if self.spike is not None:
            self.spike._ring = list(self.spike._ring)
        self.row = -1

    def open(self) -> None:
        """Let the native loop take this symbol's next trades; `refresh` has said which."""
        spike, window, follower = self.spike, self.window, self.follower
        if self.hi < 0 or self.row < 0 or follower is None:
            return
        total, at, laps, quantity, sums = (
            (0, 0, 0, 0, 0)
            if spike is None
            else (spike._sum, spike._at, spike._laps, spike._times_quantity, spike._times_sum)
        )
        if max(total, window.units, quantity, sums) >= _MOST_NATIVE:
            return
        self.feed.put(
            self.row, self.last_id + 1, self.lo, self.hi, follower.longest, self.last_ms, window.count, window.units,
            window.last_ms, window.base, window.sum, window.squares, window.last_price, at, laps, total, quantity, sums,
        )  # fmt: skip
        if self.pump is not None:
            self.feed.put_chunk(self.row, *self.pump.lend())
        self.opened = True

    def own(self) -> None:
        """Take the state back from the native loop; call it before anything else looks at the state."""
        if not self.opened:
            return
        self.opened = False
        self.hi = _NEVER
        window, spike, follower = self.window, self.spike, self.follower
        next_id, self.last_ms, seen, window.count, window.units, window.last_ms, *rest = self.feed.get(self.row)
        window.sum, window.squares, window.last_price, at, laps, total = rest
        self.seen += seen
        self.last_id = next_id - 1
        if seen:
            window.last_id = self.last_id
            if follower is not None:
                follower.newest = self.last_id
        if spike is not None:
            spike._at, spike._laps, spike._sum = at, laps, total
        if self.pump is not None and seen:
            self.pump.take_back(self.feed.chunk(self.row))

    @property
    def heard(self) -> int:
        """Messages since the start: what the watchdog looks at."""
        return self.used + self.aside + len(self.waiting)

    @property
    def used(self) -> int:
        """Trades used since the start, those that the native loop still has included."""
        return self.seen + (self.feed.seen(self.row) if self.opened else 0)

    def refresh(self, follower: IdFollower | None) -> None:
        """Work out when the batch loop may take this symbol's next trades itself."""
        self.lo, self.hi = 0, _NEVER
        aggregator, window = self.aggregator, self.aggregator._newest
        if (
            follower is None
            or window is None
            or window.last_id is None
            or self.waiting
            or self.unsure
            or self.hole_from_ms is not None
            or follower.newest != self.last_id
            or window.last_id > self.last_id
        ):
            return
        self.follower, self.window = follower, window
        lo, hi = window.start, min(window.end, aggregator._close_at)
        if self.pump is not None:
            if (chunk := self.pump.open_ms) is None:
                return
            lo, hi = max(lo, chunk[0]), min(hi, chunk[1])
        self.lo, self.hi = lo, hi

    def catch_up(self) -> None:
        """Tell the aggregator the time that the batch loop has kept for it."""
        self.own()
        self.hi = _NEVER
        if self.aggregator._horizon < self.last_ms:
            self.aggregator._horizon = self.last_ms

    def next_lost(self) -> int | None:
        """Return the last id of the lost stretch that begins at the position; None when the next id may still come."""
        for first, last in self.lost:
            if first <= self.last_id + 1 <= last:
                return last
        return None

    def give_up(self, first_id: int, last_id: int) -> None:
        self.lost.append((first_id, last_id))

    # --- kept across restarts -----------------------------------------------------------------------------------
    def snapshot(self, kind: str) -> dict[str, Any]:
        """Return everything but the anomaly detector's memory, which `memory` has; ready for msgpack, 1 to 3 KB."""
        self.own()
        if self.aggregator._horizon < self.last_ms:
            self.aggregator._horizon = self.last_ms
        return {
            "version": SNAPSHOT_VERSION,
            "kind": kind,
            "last_id": self.last_id,
            "last_ms": self.last_ms,
            "hole_from_ms": self.hole_from_ms,
            "aggregator": self.aggregator.snapshot(),
            "spike": self.spike.snapshot() if self.spike is not None else None,
            "anomaly": self.anomaly.counters() if self.anomaly is not None else None,
            "pump": self.pump.snapshot() if self.pump is not None else None,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot. Raises ValueError, KeyError, TypeError and their kin: it does not fit."""
        self.aggregator.restore(snapshot["aggregator"])
        if self.spike is not None and snapshot["spike"] is not None:
            self.spike.restore(snapshot["spike"])
        if self.pump is not None and snapshot.get("pump") is not None:
            with suppress(KeyError):  # left by an earlier version: only the pump rule warms up anew
                self.pump.restore(snapshot["pump"])
        self.last_id = int(snapshot["last_id"])
        self.last_ms = int(snapshot["last_ms"])
        hole = snapshot["hole_from_ms"]
        self.hole_from_ms = None if hole is None else int(hole)
        self.restored = self.unsure = self.last_id >= 0
