"""All bars of one minute as a few kilobytes: columns of float64, their bytes transposed, compressed.

Form, version 1: byte 0 is the version, byte 1 is 1 when the rest is compressed (zlib), the rest is MessagePack:
[symbols, close offsets (one int when all are equal), columns]. `columns` are little-endian float64 of
shape (8, n), stored byte plane by byte plane: the high bytes of neighbours resemble each other, which compresses a
third better. None is NaN, which no bar holds.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from itertools import repeat
from struct import unpack

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import StorageUnavailable
from shared.market.model import Bar, Market

VERSION = 1
_COLUMNS = 8
_NONE = float("nan")


class _Minute(msgspec.Struct, array_like=True):
    symbols: list[str]
    close_offsets: int | list[int]
    columns: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Minute)


def pack_bars(open_ms: int, bars: Mapping[str, Bar]) -> bytes:
    """Return the bars of one minute, each under its own symbol, ordered by symbol (same bars, same bytes)."""
    ordered = [bars[symbol] for symbol in sorted(bars)]
    offsets = [bar.close_ms - open_ms for bar in ordered]
    rows = [
        (
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            _NONE if bar.quote_volume is None else bar.quote_volume,
            _NONE if bar.trades is None else bar.trades,
            _NONE if bar.taker_buy_volume is None else bar.taker_buy_volume,
        )
        for bar in ordered
    ]
    matrix = np.asarray(rows, dtype="<f8").reshape(len(ordered), _COLUMNS)
    planes = np.ascontiguousarray(matrix.T).view(np.uint8).reshape(-1, 8).T
    same = len(set(offsets)) == 1
    symbols = [bar.symbol for bar in ordered]
    plain = _encoder.encode(_Minute(symbols, offsets[0] if same else offsets, planes.tobytes()))
    small = zlib.compress(plain, 6)
    return bytes((VERSION, 1)) + small if len(small) < len(plain) else bytes((VERSION, 0)) + plain


def unpack_bars(market: Market, open_ms: int, packed: bytes) -> dict[str, Bar]:
    """Return the bars by symbol.

    Raises:
        StorageUnavailable: the bytes are damaged or from a newer version.
    """
    minute = _open(packed)
    symbols, columns = minute.symbols, _columns(minute)
    offsets = repeat(minute.close_offsets) if isinstance(minute.close_offsets, int) else minute.close_offsets
    prices: list[list[float]] = columns[:5].tolist()
    quote, trades, taker = (_optional(column) for column in columns[5:])
    counts = [None if count is None else int(count) for count in trades]
    closes = [open_ms + offset for offset, _ in zip(offsets, symbols, strict=False)]
    made = _bars(repeat(market), symbols, repeat(open_ms), closes, *prices, quote, counts, taker)
    return dict(zip(symbols, made, strict=True))


@lru_cache(maxsize=8192)
def unpack_bar(market: Market, open_ms: int, packed: bytes, symbol: str) -> Bar | None:
    """Return one symbol's bar alone, None when it is not there; a chart asks for the same minutes again and again.

    Raises:
        StorageUnavailable: as `unpack_bars` does.
    """
    minute = _open(packed)
    count, planes = len(minute.symbols), minute.columns
    if len(planes) != count * _COLUMNS * 8:
        raise StorageUnavailable("a minute of stored bars is damaged")
    if symbol not in minute.symbols:
        return None
    at, step = minute.symbols.index(symbol), count * _COLUMNS
    offset = minute.close_offsets if isinstance(minute.close_offsets, int) else minute.close_offsets[at]
    # Every step-th byte from a value's first is one value: its byte in each of the eight planes.
    values = unpack("<8d", b"".join([planes[i::step] for i in range(at, step, count)]))
    opened, high, low, close, volume = values[:5]
    quote, trades, taker = (None if value != value else value for value in values[5:])
    counted = None if trades is None else int(trades)
    return Bar(market, symbol, open_ms, open_ms + offset, opened, high, low, close, volume, quote, counted, taker)


def symbols_of(packed: bytes) -> list[str]:
    """Return only the names. Raises StorageUnavailable as `unpack_bars` does."""
    return _open(packed).symbols


def split(bars: Iterable[Bar], parts: int) -> list[dict[str, Bar]]:
    """Return the bars in `parts` groups of about equal size, ordered by symbol."""
    ordered = sorted(bars, key=lambda bar: bar.symbol)
    size = -(-len(ordered) // parts)
    return [{bar.symbol: bar for bar in ordered[at : at + size]} for at in range(0, len(ordered), size)]


def _bars(*columns: Iterable[object]) -> list[Bar]:
    """Return bars from one column per field, in the order of the fields; the second column sets how many.

    Half a million at a time are read at a start. A frozen dataclass sets each field by a call from Python; filling
    the slots column by column does the same from C in a third of the time.
    """
    made = [object.__new__(Bar) for _ in columns[1]]
    for fill, column in zip(_SLOTS, columns, strict=True):
        deque(map(fill, made, column), maxlen=0)
    return made


_SLOTS = [getattr(Bar, field.name).__set__ for field in fields(Bar)]


def _open(packed: bytes) -> _Minute:
    try:
        if packed[0] != VERSION:
            raise StorageUnavailable(f"bars of format {packed[0]}, this version reads {VERSION}: upgrade it")
        return _decoder.decode(zlib.decompress(packed[2:]) if packed[1] else packed[2:])
    except (IndexError, zlib.error, msgspec.DecodeError) as exc:
        raise StorageUnavailable("a minute of stored bars is damaged") from exc


def _columns(minute: _Minute) -> NDArray[np.float64]:
    count = len(minute.symbols)
    if len(minute.columns) != count * _COLUMNS * 8:
        raise StorageUnavailable("a minute of stored bars is damaged")
    planes = np.frombuffer(minute.columns, dtype=np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).view("<f8").reshape(_COLUMNS, count)


def _optional(column: NDArray[np.float64]) -> Collection[float | None]:
    values: list[float | None] = column.tolist()
    absent = np.flatnonzero(np.isnan(column))
    for at in absent.tolist():
        values[at] = None
    return values
