"""All bars of one minute as a few kilobytes: columns of short decimals, compressed.

Byte 0 is the form's version; both forms are read. Version 2 is written for many symbols; for a few, version 1 is as
small and quicker.

Version 2: byte 1 is 1 when the rest is compressed (zlib); the rest is MessagePack: symbols (one text, split at line
feeds; a list where a name holds one), close offsets (one int when all are equal), decimals (prices, volumes, quote,
trades: n bytes each), columns.
Each column is byte planes of integers (`columns.py`): close, open - close, high above the body, low below it, volume,
taker volume, trades, and the quote volume's distance from close x volume.

Version 1: byte 1 as above; MessagePack of [symbols, close offsets, little-endian float64 (8, n) by byte planes].
None is NaN in both, which no bar holds.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from struct import unpack

import msgspec
import numpy as np

from shared.errors import StorageUnavailable
from shared.market.bars import make_bars
from shared.market.model import Bar, Market
from shared.storage.columns import RAW, Exponents, Floats, Ints, from_decimals, from_planes, to_decimals, to_planes

VERSION = 2
_MANY = 24  # symbols from which on version 2 is worth its work
_COLUMNS = 8
_NONE = float("nan")


class _First(msgspec.Struct, array_like=True):
    symbols: list[str]
    close_offsets: int | list[int]
    columns: bytes


class _Second(msgspec.Struct, array_like=True):
    symbols: str | list[str]
    close_offsets: int | list[int]
    decimals: bytes
    columns: list[bytes]


@dataclass(frozen=True, slots=True)
class _Minute:
    """`values` are open, high, low, close, volume, quote, trades, taker: (8, n)."""

    symbols: list[str]
    close_offsets: int | list[int]
    values: Floats


_encoder = msgspec.msgpack.Encoder()
_first = msgspec.msgpack.Decoder(_First)
_second = msgspec.msgpack.Decoder(_Second)


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
    values = np.asarray(rows, dtype="<f8").reshape(len(ordered), _COLUMNS).T
    close_offsets = offsets[0] if len(set(offsets)) == 1 else offsets
    names = [bar.symbol for bar in ordered]
    if len(ordered) < _MANY:
        planes = np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8).T
        return seal(1, _encoder.encode(_First(names, close_offsets, planes.tobytes())))
    decimals, columns = _to_columns(values)
    return seal(VERSION, _encoder.encode(_Second(_text(names), close_offsets, decimals, columns)))


def seal(version: int, plain: bytes) -> bytes:
    """Return bytes that begin with the form's version, compressed where that makes them smaller."""
    small = zlib.compress(plain, 6)
    return bytes((version, 1)) + small if len(small) < len(plain) else bytes((version, 0)) + plain


def unseal(packed: bytes) -> bytes:
    """Return what `seal` was given; the version is the caller's to look at."""
    return zlib.decompress(packed[2:]) if packed[1] else packed[2:]


def unpack_bars(market: Market, open_ms: int, packed: bytes) -> dict[str, Bar]:
    """Return the bars by symbol.

    Raises:
        StorageUnavailable: the bytes are damaged or from a newer version.
    """
    minute = _open(packed)
    symbols, columns = minute.symbols, minute.values
    offsets = repeat(minute.close_offsets) if isinstance(minute.close_offsets, int) else minute.close_offsets
    prices: list[list[float]] = columns[:5].tolist()
    quote, trades, taker = (_optional(column) for column in columns[5:])
    counts = [None if count is None else int(count) for count in trades]
    closes = [open_ms + offset for offset, _ in zip(offsets, symbols, strict=False)]
    made = make_bars(repeat(market), symbols, repeat(open_ms), closes, *prices, quote, counts, taker)
    return dict(zip(symbols, made, strict=True))


def unpack_columns(packed: bytes) -> tuple[list[str], Floats]:
    """Return the symbols and, as (3, n), close, volume and taker buy volume (NaN: none); no Bar is made.

    Raises:
        StorageUnavailable: as `unpack_bars`.
    """
    minute = _open(packed, few=True)
    return minute.symbols, minute.values[[3, 4, 7]]


@lru_cache(maxsize=8192)
def unpack_bar(market: Market, open_ms: int, packed: bytes, symbol: str) -> Bar | None:
    """Return one symbol's bar alone, None when it is not there; a chart asks for the same minutes again and again.

    Raises:
        StorageUnavailable: as `unpack_bars` does.
    """
    if packed[:1] != b"\x01":
        minute = _open(packed)
        if symbol not in minute.symbols:
            return None
        at = minute.symbols.index(symbol)
        values, offsets = minute.values[:, at].tolist(), minute.close_offsets
    else:
        found = _one_of_first(packed, symbol)
        if found is None:
            return None
        at, values, offsets = found
    offset = offsets if isinstance(offsets, int) else offsets[at]
    opened, high, low, close, volume = values[:5]
    quote, trades, taker = (None if value != value else value for value in values[5:])
    counted = None if trades is None else int(trades)
    return Bar(market, symbol, open_ms, open_ms + offset, opened, high, low, close, volume, quote, counted, taker)


def _one_of_first(packed: bytes, symbol: str) -> tuple[int, Sequence[float], int | list[int]] | None:
    """Return place, values and close offsets of one symbol of the first form, without reading the others."""
    try:
        minute = _first.decode(unseal(packed))
    except (IndexError, zlib.error, msgspec.DecodeError) as exc:
        raise StorageUnavailable("a minute of stored bars is damaged") from exc
    count, planes = len(minute.symbols), minute.columns
    if len(planes) != count * _COLUMNS * 8:
        raise StorageUnavailable("a minute of stored bars is damaged")
    if symbol not in minute.symbols:
        return None
    at, step = minute.symbols.index(symbol), count * _COLUMNS
    # Every step-th byte from a value's first is one value: its byte in each of the eight planes.
    return at, unpack("<8d", b"".join([planes[i::step] for i in range(at, step, count)])), minute.close_offsets


def symbols_of(packed: bytes) -> list[str]:
    """Return only the names. Raises StorageUnavailable as `unpack_bars` does."""
    try:
        if packed[0] == 1:
            return _first.decode(unseal(packed)).symbols
        if packed[0] == VERSION:
            return _names(_second.decode(unseal(packed)).symbols)
    except (IndexError, zlib.error, msgspec.DecodeError) as exc:
        raise StorageUnavailable("a minute of stored bars is damaged") from exc
    raise _newer(packed[0])


def split(bars: Iterable[Bar], parts: int) -> list[dict[str, Bar]]:
    """Return the bars in `parts` groups of about equal size, ordered by symbol."""
    ordered = sorted(bars, key=lambda bar: bar.symbol)
    size = -(-len(ordered) // parts)
    return [{bar.symbol: bar for bar in ordered[at : at + size]} for at in range(0, len(ordered), size)]


# --- the two forms --------------------------------------------------------------------------------------------
def _open(packed: bytes, *, few: bool = False) -> _Minute:
    """Read either form. With `few` only close, volume and taker buy volume are needed."""
    try:
        if packed[0] == 1:
            return _open_first(unseal(packed))
        if packed[0] == VERSION:
            return _open_second(unseal(packed), few)
    except (IndexError, zlib.error, msgspec.DecodeError, ValueError) as exc:
        raise StorageUnavailable("a minute of stored bars is damaged") from exc
    raise _newer(packed[0])


def _newer(version: int) -> StorageUnavailable:
    return StorageUnavailable(f"bars of format {version}, this version reads 1 to {VERSION}: upgrade it")


def _open_first(plain: bytes) -> _Minute:
    minute = _first.decode(plain)
    count = len(minute.symbols)
    if len(minute.columns) != count * _COLUMNS * 8:
        raise ValueError("damaged columns")
    planes = np.frombuffer(minute.columns, dtype=np.uint8).reshape(8, -1)
    values = np.ascontiguousarray(planes.T).view("<f8").reshape(_COLUMNS, count)
    return _Minute(minute.symbols, minute.close_offsets, values)


def _open_second(plain: bytes, few: bool) -> _Minute:
    minute = _second.decode(plain)
    symbols = _names(minute.symbols)
    count = len(symbols)
    if len(minute.decimals) != 4 * count or len(minute.columns) != _COLUMNS:
        raise ValueError("damaged columns")
    return _Minute(symbols, minute.close_offsets, _from_columns(minute, count, few))


def _text(names: list[str]) -> str | list[str]:
    return "\n".join(names) if all(name and "\n" not in name for name in names) else names


def _names(text: str | list[str]) -> list[str]:
    if isinstance(text, list):
        return text
    return text.split("\n") if text else []


def _to_columns(values: Floats) -> tuple[bytes, list[bytes]]:
    price_decimals, prices = to_decimals(values[:4])
    volume_decimals, volumes = to_decimals(values[[4, 7]])
    quote_decimals, quote = to_decimals(values[5:6])
    trade_decimals, trades = to_decimals(values[6:7])
    short = price_decimals != RAW
    open_, high, low, close = prices
    columns = [
        close,
        np.where(short, open_ - close, open_),
        np.where(short, high - np.maximum(open_, close), high),
        np.where(short, np.minimum(open_, close) - low, low),
        *volumes,
        trades[0],
        quote[0] - _expected_quote(values[3], values[4], quote_decimals),
    ]
    decimals = b"".join(each.tobytes() for each in (price_decimals, volume_decimals, quote_decimals, trade_decimals))
    return decimals, [to_planes(column) for column in columns]


def _from_columns(minute: _Second, count: int, few: bool) -> Floats:
    kinds: Exponents = np.frombuffer(minute.decimals, dtype=np.uint8).reshape(4, count)
    wanted = {0, 4, 5} if few else set(range(_COLUMNS))
    nothing = np.zeros(count, dtype=np.int64)
    columns = [
        from_planes(column, count) if number in wanted else nothing for number, column in enumerate(minute.columns)
    ]
    close, open_, high, low = columns[:4]
    short = kinds[0] != RAW
    values = np.empty((_COLUMNS, count))
    volume, taker = from_decimals(kinds[1], np.stack(columns[4:6]))
    if few:
        values[3], values[4], values[7] = from_decimals(kinds[0], close[None])[0], volume, taker
        return values
    open_ = np.where(short, open_ + close, open_)
    high = np.where(short, high + np.maximum(open_, close), high)
    low = np.where(short, np.minimum(open_, close) - low, low)
    values[:4] = from_decimals(kinds[0], np.stack([open_, high, low, close]))
    values[4], values[7] = volume, taker
    values[6] = from_decimals(kinds[3], columns[6][None])[0]
    expected = _expected_quote(values[3], volume, kinds[2])
    values[5] = from_decimals(kinds[2], (columns[7] + expected)[None])[0]
    return values


def _expected_quote(close: Floats, volume: Floats, decimals: Exponents) -> Ints:
    """Return close x volume in the quote volume's own units; 0 where that says nothing. The same when reading."""
    with np.errstate(invalid="ignore", over="ignore"):
        expected = np.rint(close * volume * 10.0 ** np.minimum(decimals, 10))
    usable = (decimals != RAW) & (expected < 2.0**53) & (expected >= 0)
    return np.where(usable, expected, 0.0).astype(np.int64)


def _optional(column: Floats) -> Collection[float | None]:
    values: list[float | None] = column.tolist()
    absent = np.flatnonzero(np.isnan(column))
    for at in absent.tolist():
        values[at] = None
    return values
