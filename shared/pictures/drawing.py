"""An alert's picture from beginning to end: its snapshot (stored once), its SVG, its PNG."""

from __future__ import annotations

from dataclasses import dataclass

from shared.alerts.model import Alert
from shared.detection.reading import Detector
from shared.errors import TapewatchError
from shared.exchange.market_data import MarketData
from shared.market.model import Bar
from shared.pictures.chart import chart
from shared.pictures.png import png_of
from shared.pictures.snapshot import MINUTES, Snapshot, make_snapshot, span_of
from shared.storage.bars import BarRepository
from shared.storage.snapshots import SnapshotRepository
from shared.storage.table import Table

_ENOUGH = 100  # of 120 stored bars: a few holes are not worth a call


@dataclass(frozen=True, slots=True)
class Drawing:
    """Bars come from the table; where it has too few of them, from the exchange."""

    table: Table
    market_data: MarketData | None = None
    retention_days: int = 14

    def snapshot(self, alert: Alert) -> Snapshot | None:
        """Return the alert's snapshot, made and stored when it is asked for first; None when there are no bars."""
        if alert.detector is Detector.SYSTEM:
            return None
        repository = SnapshotRepository(self.table, self.retention_days)
        known = repository.get(alert.alert_id)
        if known is not None:
            return known
        made = make_snapshot(alert, self._bars(alert))
        return None if made is None else repository.put(alert.alert_id, made)

    def svg(self, alert: Alert) -> str | None:
        snapshot = self.snapshot(alert)
        return None if snapshot is None else chart(snapshot)

    def png(self, alert: Alert) -> bytes | None:
        svg = self.svg(alert)
        return None if svg is None else png_of(svg)

    def _bars(self, alert: Alert) -> list[Bar]:
        start_ms, end_ms = span_of(alert)
        stored = BarRepository(self.table).one(alert.market, alert.symbol, start_ms, end_ms, consistent=False)
        if len(stored) >= _ENOUGH or self.market_data is None:
            return stored
        try:
            asked = self.market_data.klines(alert.market, alert.symbol, limit=MINUTES + 1, end_ms=end_ms - 1)
        except TapewatchError:
            return stored  # a picture of little is better than none
        return asked if len(asked) > len(stored) else stored
