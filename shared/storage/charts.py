"""Bars by hour and symbol for charts: a day of one symbol is 24 small items, not 1,440 minutes of all symbols.

Symbols share an item by a hash of their name (32 buckets), which keeps the writes few: one hour of 500 symbols is 32
items of a few kilobytes, written once, after the hour's last minute. The bars come back whole, bit for bit. The
minutes themselves stay the source of everything that is decided.

Form 2: byte 0 the version, byte 1 whether the rest is compressed; MessagePack of [symbols, decimals, columns], the
columns of (symbols, 60) integers: close by its steps in time, open, high and low by their distance from it, volume,
quote volume, number of trades, taker buy volume. What is missing is -1 in a column of short decimals. Form 1 ended
with the volume; it is still read, the fields it lacks as None.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec
import numpy as np

from shared.errors import StorageUnavailable
from shared.market.model import Bar, Market
from shared.storage.columns import RAW, Floats, from_decimals, from_planes, to_decimals, to_planes
from shared.storage.packed_bars import seal, unseal
from shared.storage.schema import charts_partition, time_key
from shared.storage.table import Item, Table

VERSION = 2
_WITHOUT_FLOWS = 1
BUCKETS = 32
_HOUR_MS, _MINUTE_MS = 3_600_000, 60_000
_NAN = float("nan")


class _Hour(msgspec.Struct, array_like=True):
    symbols: list[str]
    decimals: bytes
    columns: list[bytes]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Hour)


class ChartRepository:
    """`retention_s` sets when an hour may be deleted, counted from its beginning."""

    def __init__(self, table: Table, *, retention_s: int | None = None) -> None:
        self._table = table
        self._retention_s = retention_s

    def put_hour(self, market: Market, hour_ms: int, minutes: Mapping[int, Mapping[str, Bar]]) -> int:
        """Store one hour from its minutes in place of what stood there; return how many items were written."""
        buckets: dict[int, dict[str, Floats]] = {}
        for open_ms, bars in minutes.items():
            row = (open_ms - hour_ms) // _MINUTE_MS
            if not 0 <= row < 60:
                raise ValueError(f"minute {open_ms} does not lie in the hour {hour_ms}")
            for symbol, bar in bars.items():
                rows = buckets.setdefault(bucket_of(symbol), {})
                values = rows.get(symbol)
                if values is None:
                    values = rows[symbol] = np.full((8, 60), _NAN)
                values[:5, row] = (bar.open, bar.high, bar.low, bar.close, bar.volume)
                flows = (bar.quote_volume, bar.trades, bar.taker_buy_volume)
                values[5:, row] = [_NAN if value is None else value for value in flows]
        items: list[Item] = []
        for bucket, rows in sorted(buckets.items()):
            item: Item = {
                "pk": charts_partition(market, bucket),
                "sk": time_key(hour_ms),
                "bars": _pack({symbol: rows[symbol] for symbol in sorted(rows)}),
            }
            if self._retention_s is not None:
                item["expires_at"] = hour_ms // 1000 + self._retention_s
            items.append(item)
        self._table.batch_put(items)
        return len(items)

    def hours(self, market: Market, symbol: str, start_ms: int, end_ms: int) -> dict[int, list[Bar]]:
        """Return one symbol's bars of the stored hours that begin in [start_ms, end_ms), by hour.

        An hour that is stored without the symbol gives an empty list.
        """
        if end_ms <= max(0, start_ms):
            return {}
        pk = charts_partition(market, bucket_of(symbol))
        items = self._table.query(pk, start=time_key(max(0, start_ms)), end=time_key(end_ms - 1), consistent=False)
        found: dict[int, list[Bar]] = {}
        for item in items:
            hour_ms, packed = int(str(item["sk"])), item.get("bars")
            if isinstance(packed, bytes):
                found[hour_ms] = _bars(market, symbol, hour_ms, packed)
        return found


def bucket_of(symbol: str) -> int:
    """Return the bucket that a symbol has for ever, whatever else is listed."""
    return crc32(symbol.encode(errors="surrogatepass")) % BUCKETS


def _pack(rows: Mapping[str, Floats]) -> bytes:
    values = np.stack(list(rows.values()))  # (symbols, 8, 60)
    count = len(rows)
    price_decimals, prices = to_decimals(values[:, :4].reshape(count, -1).T)
    amounts = [to_decimals(values[:, column].T) for column in range(4, 8)]
    open_, high, low, close = prices.T.reshape(count, 4, 60).transpose(1, 0, 2)
    short = (price_decimals != RAW)[:, None] & (close >= 0)
    steps = np.diff(close, axis=1, prepend=0)
    columns = [
        np.where((price_decimals != RAW)[:, None], steps, close),
        np.where(short, open_ - close, open_),
        np.where(short, high - np.maximum(open_, close), high),
        np.where(short, np.minimum(open_, close) - low, low),
        *(whole.T for _, whole in amounts),
    ]
    decimals = price_decimals.tobytes() + b"".join(places.tobytes() for places, _ in amounts)
    return seal(VERSION, _encoder.encode(_Hour(list(rows), decimals, [to_planes(column) for column in columns])))


def _bars(market: Market, symbol: str, hour_ms: int, packed: bytes) -> list[Bar]:
    try:
        if packed[0] not in (VERSION, _WITHOUT_FLOWS):
            raise StorageUnavailable(f"charts of format {packed[0]}, this version reads {VERSION}: upgrade it")
        hour = _decoder.decode(unseal(packed))
        if symbol not in hour.symbols:
            return []
        at, count = hour.symbols.index(symbol), len(hour.symbols)
        fields = 5 if packed[0] == _WITHOUT_FLOWS else 8
        if len(hour.columns) != fields:
            raise ValueError("columns are missing")
        decimals = np.frombuffer(hour.decimals, dtype=np.uint8).reshape(fields - 3, count)
        steps, open_, high, low, *amounts = (
            from_planes(column, count * 60).reshape(count, 60)[at] for column in hour.columns
        )
    except (IndexError, ValueError, zlib.error, msgspec.DecodeError) as exc:
        raise StorageUnavailable("an hour of stored chart bars is damaged") from exc
    if decimals[0, at] != RAW:
        close = np.cumsum(steps)
        short = close >= 0
        open_ = np.where(short, open_ + close, open_)
        high = np.where(short, high + np.maximum(open_, close), high)
        low = np.where(short, np.minimum(open_, close) - low, low)
    else:
        close = steps
    prices = from_decimals(np.repeat(decimals[0, at : at + 1], 60), np.stack([open_, high, low, close]))
    flows = np.full((4, 60), _NAN)
    for row, whole in enumerate(amounts):
        flows[row] = from_decimals(np.repeat(decimals[row + 1, at : at + 1], 60), whole[None])[0]
    return _made(market, symbol, hour_ms, [*prices.tolist(), *flows.tolist()])


def _made(market: Market, symbol: str, hour_ms: int, columns: Sequence[Sequence[float]]) -> list[Bar]:
    bars = []
    for row, (open_, high, low, close, volume, quote, trades, taker) in enumerate(zip(*columns, strict=True)):
        if close == close:
            open_ms = hour_ms + row * _MINUTE_MS
            bars.append(
                Bar(
                    market, symbol, open_ms, open_ms + _MINUTE_MS - 1, open_, high, low, close, volume,
                    quote if quote == quote else None,
                    int(trades) if trades == trades else None,
                    taker if taker == taker else None,
                )
            )  # fmt: skip
    return bars
