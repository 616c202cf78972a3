"""Features, windows, models, checkpoints, heartbeats, bans."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import Any

import pytest

from shared.errors import StorageUnavailable
from shared.market.model import Market, Window
from shared.storage.blobs import BlobStore
from shared.storage.checkpoints import Checkpoint, CheckpointRepository
from shared.storage.features import FeatureRepository
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.models import ModelRepository, StoredModel
from shared.storage.not_before import NotBeforeRepository
from shared.storage.schema import chunks_partition, model_key
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Table
from shared.storage.windows import WindowRepository, window_row

T0 = 1_767_225_600_000


# --- features ------------------------------------------------------------------------------------------------
def test_features_by_minute(table: Table) -> None:
    repo = FeatureRepository(table, retention_s=3600)
    assert repo.latest() is None
    for number in (2, 0, 1):
        repo.put(T0 + number * 60_000, {"ZECUSDT": {"z": 3.5, "beta": None, "bars": number}, "测试": {"z": 2.0}})
    repo.put(T0 + 60_000, {"ZECUSDT": {"z": 0.1}})
    assert repo.latest() == (T0 + 120_000, {"ZECUSDT": {"z": 3.5, "beta": None, "bars": 2}, "测试": {"z": 2.0}})
    assert [minute for minute, _ in repo.range(T0, T0 + 120_000)] == [T0, T0 + 60_000]
    assert repo.get(T0 + 60_000) == {"ZECUSDT": {"z": 0.1}}
    assert repo.get(T0 - 60_000) is None
    assert repo.range(5, 5) == []


# --- windows -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Judged:
    window: Window
    score: float | None
    threshold: float | None
    prediction: int | None
    status: str


def window(start_ms: int, symbol: str = "BTCUSDT") -> Window:
    return Window(Market.SPOT, symbol, start_ms, start_ms + 20_000, 3, 4.0, 1.3, -0.001, 0.0, 100.0, 99.9, 7, 9)


def test_windows_with_their_verdicts(table: Table) -> None:
    repo = WindowRepository(table, retention_s=60)
    verdicts = [Judged(window(T0 + n * 20_000), -0.5, -0.6, 1, "normal") for n in range(30)]
    repo.put_many(verdicts)
    repo.put_many(verdicts[:7])
    repo.put_many([window_row(Judged(window(T0, "a#b"), None, None, None, "warming")), *verdicts[:1]])
    rows = repo.range("spot", "BTCUSDT", T0, T0 + 29 * 20_000)
    assert rows == [window_row(verdict) for verdict in verdicts[:29]]
    assert all(type(row["volume"]) is float and type(row["trade_count"]) is int for row in rows)
    assert [row["start_ms"] for row in repo.range("spot", "BTCUSDT", 0, T0 * 2, limit=2, reverse=True)] == [
        T0 + 29 * 20_000,
        T0 + 28 * 20_000,
    ]
    assert [row["status"] for row in repo.range("spot", "a#b", 0, T0 * 2)] == ["warming"]
    assert repo.range("spot", "BTCUSDT", T0, T0) == []
    with pytest.raises(ValueError):
        repo.put_many([{"market": "spot", "symbol": "A", "start_ms": "soon"}])


# --- models --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 25_500])
def test_models_of_any_size(table: Table, size: int) -> None:
    repo, rng = ModelRepository(table, piece_bytes=1000), random.Random(size)
    assert repo.get("spot", "BTCUSDT") is None
    for version in range(3):
        blob = rng.randbytes(size)
        repo.put("spot", "BTCUSDT", blob, {"fitted_ms": T0 + version, "trees": 100})
        assert repo.get("spot", "BTCUSDT") == StoredModel(blob, {"fitted_ms": T0 + version, "trees": 100})
    assert repo.get("usdm", "BTCUSDT") is None
    assert len(table.query(chunks_partition(model_key("spot", "BTCUSDT")))) == (-(-size // 1000) if size > 1000 else 0)


def test_no_item_of_a_large_model_nears_the_limit() -> None:
    table = SqliteTable(":memory:")
    blob = random.Random(1).randbytes(1_500_000)
    ModelRepository(table).put("spot", "BTCUSDT", blob, {})
    pieces = table.query(chunks_partition(model_key("spot", "BTCUSDT")))
    assert [len(piece["blob"]) for piece in pieces] == [350_000] * 4 + [100_000]  # type: ignore[arg-type]
    found = ModelRepository(table).get("spot", "BTCUSDT")
    assert found is not None
    assert found.blob == blob


class DyingTable:
    """A table whose process dies at the `left`-th write."""

    def __init__(self, table: Table, left: int) -> None:
        self.table, self.left = table, left

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "delete"):
            self.left -= 1
            if self.left < 0:
                raise StorageUnavailable("died")
        return getattr(self.table, name)


@pytest.mark.parametrize("death", range(12))
def test_a_death_at_any_write_leaves_the_old_value_or_the_new_one(death: int) -> None:
    table = SqliteTable(":memory:")
    key, old, new = ("M", "x"), b"o" * 4500, b"n" * 4500
    BlobStore(table, piece_bytes=1000).put(key, old, {})
    done = False
    try:
        BlobStore(DyingTable(table, death), piece_bytes=1000).put(key, new, {})  # type: ignore[arg-type]
        done = True
    except StorageUnavailable:
        pass
    found = BlobStore(table).get(key)
    assert found is not None
    assert found.data in ((new,) if done else (old, new))
    BlobStore(table, piece_bytes=1000).put(key, b"last" * 500, {})  # a new process sweeps what was left behind
    assert len(table.query(chunks_partition(key))) == 2


def test_missing_pieces_are_an_error() -> None:
    table = SqliteTable(":memory:")
    BlobStore(table, piece_bytes=10).put(("M", "x"), b"0123456789ab", {})
    for piece in table.query(chunks_partition(("M", "x")))[:1]:
        table.delete((str(piece["pk"]), str(piece["sk"])))
    with pytest.raises(StorageUnavailable, match="missing"):
        BlobStore(table).get(("M", "x"))


# --- checkpoints ---------------------------------------------------------------------------------------------
def test_checkpoints_by_version(table: Table) -> None:
    repo = CheckpointRepository(table)
    assert repo.get("streamer-0") is None
    assert repo.put("streamer-0", {"ids": {"BTCUSDT": 5}, "model": b"\x00", "mean": 5.0}, expected_version=0)
    assert not repo.put("streamer-0", {"ids": {}}, expected_version=0)
    assert repo.put("streamer-0", {"ids": {"BTCUSDT": 6}}, expected_version=1)
    assert not repo.put("streamer-0", {"ids": {"BTCUSDT": 7}}, expected_version=1)
    assert repo.load("streamer-0") == Checkpoint(2, {"ids": {"BTCUSDT": 6}})
    assert repo.put("streamer-0", {"any": math.inf}, expected_version=None)
    assert repo.load("streamer-0") == Checkpoint(3, {"any": math.inf})


def test_a_checkpoint_whose_answer_was_lost_may_be_written_again(table: Table) -> None:
    repo = CheckpointRepository(table)
    assert repo.put("a", {"n": 1}, expected_version=0)
    assert repo.put("a", {"n": 1}, expected_version=0)
    assert not repo.put("a", {"n": 2}, expected_version=0)
    assert repo.load("a") == Checkpoint(1, {"n": 1})


def test_a_checkpoint_may_be_larger_than_an_item(table: Table) -> None:
    repo = CheckpointRepository(table)
    state = {"buffers": random.Random(5).randbytes(1_200_000), "n": [1, 2.5, None]}
    assert repo.put("large", state)
    assert repo.put("large", {**state, "more": 1}, expected_version=1)
    assert repo.get("large") == {**state, "more": 1}


# --- heartbeats and bans -------------------------------------------------------------------------------------
def test_heartbeats_of_every_component(table: Table) -> None:
    repo = HeartbeatRepository(table)
    assert repo.all() == {}
    repo.beat("streamer#0", T0, {"trades": 5, "lag_ms": 1.5})
    repo.beat("streamer#0", T0 + 5, {"trades": 6})
    repo.beat("features", T0)
    assert repo.all() == {"streamer#0": {"trades": 6, "beat_ms": T0 + 5}, "features": {"beat_ms": T0}}


def test_of_two_bans_the_longer_holds(table: Table) -> None:
    repo = NotBeforeRepository(table)
    assert repo.get("fapi.binance.com") is None
    for until_ms in (T0, T0 + 10, T0 + 5):
        repo.set("fapi.binance.com", until_ms)
    assert repo.get("fapi.binance.com") == T0 + 10
    assert repo.get("api.binance.com") is None
    repo.clear("fapi.binance.com")
    assert repo.get("fapi.binance.com") is None


def test_packed_windows_read_as_single_ones_do(table: Table) -> None:
    repo, single = WindowRepository(table, retention_s=60), WindowRepository(SqliteTable(":memory:"))
    verdicts = [Judged(window(T0 + n * 20_000), -0.5 - n / 7, -0.6, 1 if n % 2 else -1, "normal") for n in range(100)]
    items = repo.items(verdicts[:60]) + repo.items(verdicts[60:63]) + repo.items(verdicts[63:64])
    items += repo.items(verdicts[58:62])  # again after a kill, cut otherwise
    assert [len(items), len(repo.items(verdicts[:1]))] == [5, 1]
    table.batch_put(items)
    repo.put_many(verdicts[64:])  # as before they were packed
    single.put_many(verdicts)
    far = T0 * 2
    wanted = single.range("spot", "BTCUSDT", 0, far)
    assert repo.range("spot", "BTCUSDT", 0, far) == wanted
    assert all(type(row["volume"]) is float for row in repo.range("spot", "BTCUSDT", 0, far))
    for first, last, limit in itertools.product(range(0, 100, 7), (5, 33, 61, 62, 100), (None, 1, 9, 40)):
        span = T0 + first * 20_000 + 1, T0 + last * 20_000
        for reverse in (False, True):
            asked = repo.range("spot", "BTCUSDT", *span, limit=limit, reverse=reverse)
            assert asked == single.range("spot", "BTCUSDT", *span, limit=limit, reverse=reverse)
    assert repo.scores("spot", "BTCUSDT", T0 + 61 * 20_000, limit=7) == single.scores(
        "spot", "BTCUSDT", T0 + 61 * 20_000, limit=7
    )
    assert all(item["expires_at"] == int(str(item["sk"])) // 1000 + 60 for item in items)
