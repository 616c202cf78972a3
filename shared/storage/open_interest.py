"""Open interest by minute, in contracts: every symbol's sample in one packed item.

Form 1: byte 0 the version, byte 1 whether the rest is compressed; MessagePack of [symbols, decimals, integers] as in
`columns.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from shared.errors import StorageUnavailable
from shared.storage.columns import from_decimals, from_planes, to_decimals, to_planes
from shared.storage.packed_bars import seal, unseal
from shared.storage.schema import open_interest_partition, time_key
from shared.storage.table import Item, Table

VERSION = 1


class _Sample(msgspec.Struct, array_like=True):
    symbols: list[str]
    decimals: bytes
    whole: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Sample)


class OpenInterestRepository:
    """A sample is named by the instant it stands for: the close of a minute, in epoch milliseconds."""

    def __init__(self, table: Table, *, retention_s: int | None = None) -> None:
        self._table = table
        self._retention_s = retention_s

    def put(self, at_ms: int, contracts: Mapping[str, float]) -> None:
        """Store one instant's samples in place of what stood there."""
        symbols = sorted(contracts)
        decimals, whole = to_decimals(np.array([[contracts[name] for name in symbols]], dtype=np.float64))
        packed = seal(VERSION, _encoder.encode(_Sample(symbols, decimals.tobytes(), to_planes(whole))))
        item: Item = {"pk": open_interest_partition(), "sk": time_key(at_ms), "rows": packed}
        if self._retention_s is not None:
            item["expires_at"] = at_ms // 1000 + self._retention_s
        self._table.put(item)

    def get(self, at_ms: int) -> dict[str, float]:
        """Return one instant's samples by symbol; empty when there are none."""
        item = self._table.get((open_interest_partition(), time_key(at_ms)), consistent=False)
        return {} if item is None else _read(item)

    def many(self, times_ms: Iterable[int]) -> dict[int, dict[str, float]]:
        """Return the samples of those instants that are stored."""
        keys = [(open_interest_partition(), time_key(at_ms)) for at_ms in times_ms]
        return {int(sk): _read(item) for (_, sk), item in self._table.batch_get(keys).items()}


def _read(item: Item) -> dict[str, float]:
    packed = item.get("rows")
    data = packed if isinstance(packed, bytes) else b""
    try:
        if data[0] != VERSION:
            raise StorageUnavailable(f"open interest of format {data[0]}, this version reads {VERSION}: upgrade it")
        sample = _decoder.decode(unseal(data))
        count = len(sample.symbols)
        decimals = np.frombuffer(sample.decimals, dtype=np.uint8)
        values = from_decimals(decimals, from_planes(sample.whole, count)[None])[0]
        return dict(zip(sample.symbols, values.tolist(), strict=True))
    except (IndexError, ValueError, zlib.error, msgspec.DecodeError) as exc:
        raise StorageUnavailable("a minute of stored open interest is damaged") from exc
