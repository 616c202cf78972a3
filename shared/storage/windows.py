"""Trade windows with their verdicts: one item each, or several of a symbol packed into one.

An item's sort key is the start of the newest window in it, so a range of starts finds every item that it touches by
asking a little beyond its end. A packed item holds at most `PACK_SPAN_MS` of starts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from shared.market.model import Window
from shared.storage.schema import time_key, windows_partition
from shared.storage.table import Item, Table, Value

PACK_SPAN_MS = 600_000
_PACK_MOST = 200  # windows; some 80 bytes each
_PACK_VERSION = 1
_PACKED = (
    "start_ms", "end_ms", "trade_count", "volume", "avg_trade_size", "return", "volatility", "first_price",
    "last_price", "first_id", "last_id", "complete", "late_trades", "score", "threshold", "prediction", "status",
)  # fmt: skip

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
        rows = self._rows(market, symbol, max(0, start_ms), end_ms, limit, reverse)
        return rows if reverse else rows[::-1]

    def scores(self, market: str, symbol: str, end_ms: int, *, limit: int, start_ms: int = 0) -> list[Scored]:
        """Return what was said of the newest `limit` windows that start in [start_ms, end_ms), ascending."""
        return [
            Scored(
                int(row["start_ms"]),
                _number(row.get("score")),
                _number(row.get("threshold")),
                _number(row.get("prediction")),
                str(row.get("status", "")),
            )
            for row in reversed(self._rows(market, symbol, max(0, start_ms), end_ms, limit, True))
        ]

    def _rows(
        self, market: str, symbol: str, start_ms: int, end_ms: int, limit: int | None, reverse: bool
    ) -> list[dict[str, Any]]:
        """Return the rows newest first: of the oldest `limit` of them, or with `reverse` of the newest."""
        if end_ms <= start_ms or (limit is not None and limit <= 0):
            return []
        asked = limit
        while True:
            items = self._table.query(
                windows_partition(market, symbol),
                start=time_key(start_ms),
                end=time_key(end_ms - 1 + PACK_SPAN_MS),
                limit=asked,
                reverse=reverse,
            )
            # A window that was stored twice (again after a kill, or with its past learnt, cut otherwise) is one.
            found: dict[int, dict[str, Any]] = {}
            newest_first = items if reverse else items[::-1]
            for row in (row for item in newest_first for row in _rows_of(item, market, symbol)):
                before = found.get(row["start_ms"])
                if before is None or _fullness(row) > _fullness(before):
                    found[row["start_ms"]] = row
            starts = sorted((at_ms for at_ms in found if start_ms <= at_ms < end_ms), reverse=True)
            if limit is None or asked is None or len(starts) >= limit or len(items) < asked:
                break
            asked *= 2  # items beyond the end were among them
        if limit is not None:
            starts = starts[:limit] if reverse else starts[-limit:]
        return [found[at_ms] for at_ms in starts]

    def items(self, verdicts: Sequence[Verdict]) -> list[Item]:
        """Return one symbol's windows, ascending, as few items: several of them are packed into one."""
        groups: list[list[Verdict]] = []
        for verdict in verdicts:
            group = groups[-1] if groups else []
            if group and len(group) < _PACK_MOST and verdict.window.start_ms - group[0].window.start_ms < PACK_SPAN_MS:
                group.append(verdict)
            else:
                groups.append([verdict])
        return [self.item(group[0]) if len(group) == 1 else self._pack(group) for group in groups]

    def _pack(self, verdicts: Sequence[Verdict]) -> Item:
        rows = [window_row(verdict) for verdict in verdicts]
        newest_ms = verdicts[-1].window.start_ms
        plain = msgspec.msgpack.encode([[row[name] for row in rows] for name in _PACKED])
        pk = windows_partition(verdicts[0].window.market.value, verdicts[0].window.symbol)
        item: Item = {"pk": pk, "sk": time_key(newest_ms), "v": _PACK_VERSION, "rows": zlib.compress(plain, 9)}
        if self._retention_s is not None:
            item["expires_at"] = newest_ms // 1000 + self._retention_s
        return item

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


def _fullness(row: Mapping[str, Any]) -> tuple[bool, bool]:
    """Order what is stored of one window: whole before cut off, judged by a model before learnt only."""
    return bool(row.get("complete", True)), row.get("score") is not None


def _rows_of(item: Item, market: str, symbol: str) -> list[dict[str, Any]]:
    packed = item.get("rows")
    if not isinstance(packed, bytes):
        return [_row(item)]
    if item.get("v") != _PACK_VERSION:
        return []  # written by a version that this one does not know: as good as not there
    columns = msgspec.msgpack.decode(zlib.decompress(packed), type=list[list[Any]])
    own = {"market": market, "symbol": symbol}
    return [own | dict(zip(_PACKED, values, strict=True)) for values in zip(*columns, strict=True)]


def _row(item: Item) -> dict[str, Any]:
    """Drop what is only storage's; give whole floats their type back."""
    return {
        name: float(value) if name in _FLOATS and isinstance(value, int) else value
        for name, value in item.items()
        if name not in ("pk", "sk", "expires_at")
    }


def _number(value: Value) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
