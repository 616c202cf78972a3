"""Bars, all symbols of a minute in one item: a fiftieth of the writes of one item per symbol and minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import StorageUnavailable
from shared.market.model import Bar, Market
from shared.storage.columns import Floats
from shared.storage.packed_bars import pack_bars, split, symbols_of, unpack_bar, unpack_bars, unpack_columns
from shared.storage.schema import bars_partition, time_key
from shared.storage.table import Absent, Condition, Equals, Item, Put, Table

_ITEM_BYTES = 350_000
_ATTEMPTS = 50
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class BarColumns:
    """Consecutive minutes from `start_ms` on as (minutes, symbols) arrays; NaN where a bar or a value is missing.

    `stored` counts the minutes that were found at all.
    """

    start_ms: int
    close: Floats
    volume: Floats
    taker: Floats
    stored: int


class BarRepository:
    """Every range is [start_ms, end_ms) of open times. `retention_s` sets when a minute may be deleted."""

    def __init__(self, table: Table, *, retention_s: int | None = None, item_bytes: int = _ITEM_BYTES) -> None:
        self._table = table
        self._retention_s = retention_s
        self._item_bytes = item_bytes

    def put_minute(self, market: Market, open_ms: int, bars: Mapping[str, Bar]) -> None:
        """Add the bars to their minute; bars of other symbols stay, a bar of the same symbol is replaced.

        Safe to repeat, and safe beside another writer: the item's version is checked, and on a clash the two
        are joined anew.

        Raises:
            ValueError: a bar's key, market or open time is another one.
            StorageUnavailable: no answer, or too many writers; ask again.
        """
        for symbol, bar in bars.items():
            if (bar.market, bar.symbol, bar.open_ms) != (market, symbol, open_ms):
                raise ValueError(f"bar {bar.symbol} of {bar.market} at {bar.open_ms} is not {symbol} at {open_ms}")
        if not bars:
            return
        joined, version = dict(bars), 0
        condition: Condition = Absent()  # most often the first and only write of its minute
        for _ in range(_ATTEMPTS):
            existing = self._put(market, open_ms, joined, version + 1, condition)
            if existing is None:
                return
            stored = self._read(market, open_ms, existing)
            version, condition = _version(existing), Equals("version", _version(existing))
            joined = {**stored, **bars}
            if joined == stored:
                return
        raise StorageUnavailable(f"bars of {open_ms}: other writers were always faster; ask again")

    def minutes(
        self, market: Market, start_ms: int, end_ms: int, *, consistent: bool = True
    ) -> list[tuple[int, dict[str, Bar]]]:
        """Return the stored minutes in ascending order; a minute without any bar is not there."""
        return [
            (open_ms, _joined([unpack_bars(market, open_ms, packed) for packed in parts]))
            for open_ms, parts in self._packed(market, start_ms, end_ms, consistent).items()
        ]

    def columns(
        self, market: Market, symbols: Sequence[str], start_ms: int, end_ms: int, *, consistent: bool = True
    ) -> BarColumns:
        """Return the minutes of [start_ms, end_ms), both whole minutes, as arrays in the order of `symbols`.

        For histories: no bar is made, which is ten times as fast as `minutes`.
        """
        minutes = max(0, (end_ms - start_ms) // _MINUTE_MS)
        values = np.full((3, minutes, len(symbols)), np.nan)
        place = {symbol: number for number, symbol in enumerate(symbols)}
        names: list[str] = []
        source, target = np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
        packed_minutes = self._packed(market, start_ms, end_ms, consistent)
        for open_ms, parts in packed_minutes.items():
            row = (open_ms - start_ms) // _MINUTE_MS
            for packed in parts:
                found, columns = unpack_columns(packed)
                if found != names:  # most minutes hold the same symbols as the one before
                    names = found
                    known = [(at, place[name]) for at, name in enumerate(names) if name in place]
                    source = np.array([at for at, _ in known], dtype=np.intp)
                    target = np.array([at for _, at in known], dtype=np.intp)
                values[:, row, target] = columns[:, source]
        return BarColumns(start_ms, values[0], values[1], values[2], len(packed_minutes))

    def one(self, market: Market, symbol: str, start_ms: int, end_ms: int, *, consistent: bool = True) -> list[Bar]:
        """Return one symbol's bars in ascending order."""
        return [
            bar
            for open_ms, parts in self._packed(market, start_ms, end_ms, consistent).items()
            for packed in parts
            if (bar := unpack_bar(market, open_ms, packed, symbol)) is not None
        ]

    def have(self, market: Market, start_ms: int, end_ms: int) -> dict[int, set[str]]:
        """Return the symbols that each stored minute holds."""
        return {
            open_ms: {symbol for packed in parts for symbol in symbols_of(packed)}
            for open_ms, parts in self._packed(market, start_ms, end_ms, True).items()
        }

    def newest_ms(self, market: Market) -> int | None:
        """Return the open time of the newest stored minute."""
        newest = self._table.query(bars_partition(market), reverse=True, limit=1)
        return _open_ms(newest[0]) if newest else None

    # --- inside ------------------------------------------------------------------------------------------
    def _put(
        self, market: Market, open_ms: int, bars: Mapping[str, Bar], version: int, condition: Condition
    ) -> Item | None:
        """Write the minute; return None, or the first item that stands there when the condition failed.

        The first item's version guards the parts too: they are only written together with it.
        """
        first, *rest = [
            self._item(market, open_ms, number, packed) for number, packed in enumerate(self._pack(open_ms, bars))
        ]
        first |= {"version": version, "parts": 1 + len(rest)}
        if not rest:
            result = self._table.put(first, condition)
            return None if result.applied else result.existing or {}
        outcome = self._table.transact([Put(first, condition), *map(Put, rest)])
        return None if outcome.applied else outcome.failed.get(0) or {}

    def _pack(self, open_ms: int, bars: Mapping[str, Bar]) -> list[bytes]:
        packed = [pack_bars(open_ms, bars)]
        parts = 1
        while max(map(len, packed)) > self._item_bytes and parts < len(bars):
            parts = min(parts * 2, len(bars))
            packed = [pack_bars(open_ms, group) for group in split(bars.values(), parts)]
        return packed

    def _item(self, market: Market, open_ms: int, number: int, packed: bytes) -> Item:
        item: Item = {"pk": bars_partition(market), "sk": _sort_key(open_ms, number), "bars": packed}
        if self._retention_s is not None:
            item["expires_at"] = open_ms // 1000 + self._retention_s
        return item

    def _read(self, market: Market, open_ms: int, first: Item) -> dict[str, Bar]:
        """Return the bars of a minute whose first item is at hand."""
        if _parts(first) == 1:
            return _joined([unpack_bars(market, open_ms, _bytes(first))])
        parts = self._packed(market, open_ms, open_ms + 1, True)
        return _joined([unpack_bars(market, open_ms, packed) for packed in parts.get(open_ms, [])])

    def _packed(self, market: Market, start_ms: int, end_ms: int, consistent: bool) -> dict[int, list[bytes]]:
        if end_ms <= max(0, start_ms):
            return {}
        start = time_key(max(0, start_ms))
        last = f"{time_key(end_ms - 1)}~"  # after every part of that minute
        found: dict[int, list[bytes]] = defaultdict(list)
        wanted: dict[int, int] = {}
        for item in self._table.query(bars_partition(market), start=start, end=last, consistent=consistent):
            open_ms = _open_ms(item)
            wanted.setdefault(open_ms, _parts(item))  # said by the first; parts beyond it are left from before
            if len(found[open_ms]) < wanted[open_ms]:
                found[open_ms].append(_bytes(item))
        return found


def _sort_key(open_ms: int, number: int) -> str:
    return time_key(open_ms) if number == 0 else f"{time_key(open_ms)}#{number:03d}"


def _open_ms(item: Item) -> int:
    return int(str(item["sk"]).partition("#")[0])


def _version(item: Item) -> int:
    version = item.get("version", 0)
    return version if isinstance(version, int) else 0


def _parts(item: Item) -> int:
    parts = item.get("parts", 1)
    return parts if isinstance(parts, int) else 1


def _bytes(item: Item) -> bytes:
    packed = item.get("bars")
    return packed if isinstance(packed, bytes) else b""


def _joined(groups: list[dict[str, Bar]]) -> dict[str, Bar]:
    if len(groups) == 1:
        return groups[0]
    return {symbol: bar for group in groups for symbol, bar in group.items()}
