"""Trade windows with their verdicts, one item each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from shared.market.model import Window
from shared.storage.schema import time_key, windows_partition
from shared.storage.table import Item, Table, Value

_FLOATS = frozenset(
    {"volume", "avg_trade_size", "return", "volatility", "first_price", "last_price", "score", "threshold"}
)


class Scored(NamedTuple):
    """What was said of one window: `score` and `threshold` None while warming, `prediction` -1 for an anomaly."""

    start_ms: int
    score: float | None
    threshold: float | None
    prediction: float | None
    status: str


class Verdict(Protocol):
    """What a window detector says of one window."""

    @property
    def window(self) -> Window: ...
    @property
    def score(self) -> float | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def prediction(self) -> int | None: ...
    @property
    def status(self) -> str: ...


def window_row(verdict: Verdict) -> Item:
    """Return a verdict as a stored row: the window's fields, and score, threshold, prediction, status."""
    window = verdict.window
    return {
        "market": window.market.value,
        "symbol": window.symbol,
        "start_ms": window.start_ms,
        "end_ms": window.end_ms,
        "trade_count": window.trade_count,
        "volume": window.volume,
        "avg_trade_size": window.avg_trade_size,
        "return": window.return_,
        "volatility": window.volatility,
        "first_price": window.first_price,
        "last_price": window.last_price,
        "first_id": window.first_id,
        "last_id": window.last_id,
        "complete": window.complete,
        "late_trades": window.late_trades,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "prediction": verdict.prediction,
        "status": str(verdict.status),
    }


class WindowRepository:
    """`retention_s` sets when a window may be deleted, counted from its start."""

    def __init__(self, table: Table, *, retention_s: int | None = None) -> None:
        self._table = table
        self._retention_s = retention_s

    def put_many(self, rows: Iterable[Verdict | Mapping[str, Value]]) -> None:
        """Store verdicts, or rows with at least market, symbol and start_ms. The same window again replaces itself."""
        self._table.batch_put(self.item(row) for row in rows)

    def range(
        self,
        market: str,
        symbol: str,
        start_ms: int,
        end_ms: int,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[dict[str, Any]]:
        """Return the rows whose start lies in [start_ms, end_ms), ascending, or newest first with `reverse`."""
        if end_ms <= max(0, start_ms):
            return []
        items = self._table.query(
            windows_partition(market, symbol),
            start=time_key(max(0, start_ms)),
            end=time_key(end_ms - 1),
            limit=limit,
            reverse=reverse,
        )
        return [_row(item) for item in items]

    def scores(self, market: str, symbol: str, end_ms: int, *, limit: int, start_ms: int = 0) -> list[Scored]:
        """Return what was said of the newest `limit` windows that start in [start_ms, end_ms), ascending."""
        start, end = time_key(max(0, start_ms)), time_key(max(0, end_ms - 1))
        if start > end:
            return []
        items = self._table.query(windows_partition(market, symbol), start=start, end=end, limit=limit, reverse=True)
        return [
            Scored(
                int(str(item["sk"])),
                _number(item.get("score")),
                _number(item.get("threshold")),
                _number(item.get("prediction")),
                str(item.get("status", "")),
            )
            for item in reversed(items)
        ]

    def item(self, verdict: Verdict | Mapping[str, Value]) -> Item:
        """Return what `put_many` would store, for a transaction with other writes."""
        row = verdict if isinstance(verdict, Mapping) else window_row(verdict)
        start_ms = row["start_ms"]
        if not isinstance(start_ms, int):
            raise ValueError("start_ms must be an int of epoch milliseconds")
        pk = windows_partition(str(row["market"]), str(row["symbol"]))
        item: Item = {**row, "pk": pk, "sk": time_key(start_ms)}
        if self._retention_s is not None:
            item["expires_at"] = start_ms // 1000 + self._retention_s
        return item


def _row(item: Item) -> dict[str, Any]:
    """Drop what is only storage's; give whole floats their type back."""
    return {
        name: float(value) if name in _FLOATS and isinstance(value, int) else value
        for name, value in item.items()
        if name not in ("pk", "sk", "expires_at")
    }


def _number(value: Value) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
