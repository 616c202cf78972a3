"""One minute's sector features of every symbol as some kilobytes.

Form 1: byte 0 the version, byte 1 whether the rest is compressed; MessagePack of [minute, symbols, statuses, bars,
columns, exact positions, exact rows]. The columns are float32 by byte planes: enough for a screen. A symbol that
stands out (both z beyond 1) keeps its float64 as well, so that no rule ever decides on a rounded number. NaN is None.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from shared.errors import StorageUnavailable
from shared.storage.columns import Floats, from_planes, to_planes
from shared.storage.packed_bars import seal, unseal
from shared.times import iso_utc

VERSION = 1
_NAMES = ("r_1m", "r_15m", "beta", "excess_return", "z_excess_return", "z_volume", "taker_buy_share")
_STATUSES = ("normal", "anomaly", "warming", "unscorable")
_OWN = frozenset({*_NAMES, "symbol", "open_ms", "open_time", "status", "bars"})
_STANDS_OUT = 1.0  # of both z; the smallest threshold anybody would set is well beyond


class _Minute(msgspec.Struct, array_like=True):
    open_ms: int
    symbols: list[str]
    statuses: bytes
    bars: bytes
    columns: bytes
    exact_at: bytes
    exact: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Minute)


def pack_features(features: Mapping[str, Mapping[str, Any]]) -> bytes | None:
    """Return the packed form of `SymbolFeatures.to_json` by symbol; None for anything of another shape."""
    rows = list(features.values())
    if not rows or any(row.keys() != _OWN or row["symbol"] != name for name, row in features.items()):
        return None
    open_ms = rows[0]["open_ms"]
    if any(row["open_ms"] != open_ms or row["status"] not in _STATUSES for row in rows):
        return None
    nan = float("nan")
    values = np.array(
        [[nan if (value := row[name]) is None else value for row in rows] for name in _NAMES], dtype=np.float64
    )
    with np.errstate(invalid="ignore", over="ignore"):
        small = values.astype("<f4")
        exact = np.flatnonzero((np.abs(values[4]) > _STANDS_OUT) & (np.abs(values[5]) > _STANDS_OUT) | _odd(values))
    planes = small.view(np.uint8).reshape(-1, 4).T
    minute = _Minute(
        open_ms,
        list(features),
        bytes(_STATUSES.index(row["status"]) for row in rows),
        to_planes(np.array([row["bars"] for row in rows], dtype=np.int64)),
        planes.tobytes(),
        exact.astype("<u4").tobytes(),
        np.ascontiguousarray(values[:, exact]).astype("<f8").tobytes(),
    )
    return seal(VERSION, _encoder.encode(minute))


def unpack_features(packed: bytes) -> dict[str, dict[str, Any]]:
    """Return what `pack_features` was given.

    Raises:
        StorageUnavailable: the bytes are damaged or from a newer version.
    """
    try:
        if packed[0] != VERSION:
            raise StorageUnavailable(f"features of format {packed[0]}, this version reads {VERSION}: upgrade it")
        minute = _decoder.decode(unseal(packed))
        count = len(minute.symbols)
        planes = np.frombuffer(minute.columns, dtype=np.uint8).reshape(4, -1)
        values = np.ascontiguousarray(planes.T).view("<f4").reshape(len(_NAMES), count).astype(np.float64)
        at = np.frombuffer(minute.exact_at, dtype="<u4")
        values[:, at] = np.frombuffer(minute.exact, dtype="<f8").reshape(len(_NAMES), len(at))
        bars = from_planes(minute.bars, count).tolist()
        statuses = [_STATUSES[code] for code in minute.statuses]
    except (IndexError, ValueError, zlib.error, msgspec.DecodeError) as exc:
        raise StorageUnavailable("a minute of stored features is damaged") from exc
    open_time = iso_utc(minute.open_ms)
    columns = [[None if value != value else value for value in column] for column in values.tolist()]
    return {
        symbol: {
            "symbol": symbol,
            "open_ms": minute.open_ms,
            **dict(zip(_NAMES, numbers, strict=True)),
            "status": status,
            "bars": known,
            "open_time": open_time,
        }
        for symbol, numbers, status, known in zip(
            minute.symbols, zip(*columns, strict=True), statuses, bars, strict=True
        )
    }


def _odd(values: Floats) -> Any:
    """Tell which symbols hold a number that a float32 cannot."""
    return (np.isfinite(values) & ~(np.abs(values) < 3e38)).any(axis=0)
