"""Readings by minute: what earlier releases packed stays readable, and one damaged row spoils no other."""

from __future__ import annotations

import logging
import zlib

import msgspec
import pytest

from shared.clock import MINUTE_MS
from shared.storage.readings import ReadingRepository
from shared.storage.table import Table

AT = 1_767_225_600_000
ROWS = {"BTCUSDT": {"ratio": 1.1757, "rarity": None}, "测试USDT": {"ratio": 0.1, "n": 3}}
PK = "READINGS#volume_spike"


def packed_by_hand(at_ms: int, rows: object) -> dict[str, object]:
    """Return an item as the releases wrote it that packed readings by themselves."""
    blob = zlib.compress(msgspec.msgpack.encode(rows), 6)
    return {"pk": PK, "sk": f"{at_ms:015d}", "v": 1, "rows": blob}


def test_rows_come_back_and_a_repeat_replaces(table: Table) -> None:
    readings = ReadingRepository(table, retention_s=60)
    readings.put("volume_spike", AT, {"BTCUSDT": {"ratio": 9.0}})
    readings.put("volume_spike", AT, ROWS)
    readings.put_many("volume_spike", {AT + MINUTE_MS: {}, AT + 2 * MINUTE_MS: ROWS})
    assert readings.get("volume_spike", AT) == ROWS
    assert readings.range("volume_spike", AT, AT + 2 * MINUTE_MS) == [(AT, ROWS), (AT + MINUTE_MS, {})]
    assert readings.latest("volume_spike") == (AT + 2 * MINUTE_MS, ROWS)
    assert readings.get("order_book", AT) is None
    assert table.query(PK)[0]["expires_at"] == AT // 1000 + 60


def test_what_earlier_releases_packed_is_read(table: Table) -> None:
    old = packed_by_hand(AT, ROWS)
    table.put(old)  # type: ignore[arg-type]
    readings = ReadingRepository(table)
    assert readings.get("volume_spike", AT) == ROWS
    assert readings.latest("volume_spike") == (AT, ROWS)
    readings.put("volume_spike", AT, ROWS)
    assert table.query(PK) == [old]  # and what is written now, those releases read


@pytest.mark.parametrize(
    "spoilt",
    [
        {"rows": b"no blob"},
        {"rows": "text"},
        {"rows": zlib.compress(b"\xc1")},
        {"rows": packed_by_hand(AT, [1])["rows"]},
    ],
    ids=["not packed", "no bytes", "no MessagePack", "another shape"],
)
def test_a_damaged_row_is_not_there_and_said(
    table: Table, spoilt: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    readings = ReadingRepository(table)
    readings.put("volume_spike", AT, ROWS)
    readings.put("volume_spike", AT + MINUTE_MS, ROWS)
    damaged = table.query(PK)[1]
    table.put({**damaged, **spoilt})  # type: ignore[dict-item]
    with caplog.at_level(logging.WARNING):
        assert readings.get("volume_spike", AT + MINUTE_MS) is None
    [record] = caplog.records
    assert (record.message, record.__dict__["pk"]) == ("stored_row_damaged", PK)
    assert readings.range("volume_spike", AT, AT + 2 * MINUTE_MS) == [(AT, ROWS)]
    assert readings.latest("volume_spike") == (AT, ROWS)


def test_what_an_unknown_version_wrote_is_not_there(table: Table) -> None:
    readings = ReadingRepository(table)
    readings.put("volume_spike", AT, ROWS)
    table.put({**table.query(PK)[0], "v": 99})
    assert readings.get("volume_spike", AT) is None
    assert readings.range("volume_spike", AT, AT + 1) == []
    assert readings.latest("volume_spike") is None
