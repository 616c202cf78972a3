"""Closed windows wait for a common flush, and nothing of their symbol is stored before them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.detection.window_anomaly import WindowVerdict
from shared.market.model import Market, Window
from shared.storage.lease import Lease
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Put
from streamer.checkpointing import Checkpoints
from streamer.gathering import Gathering


def verdict(symbol: str, number: int) -> WindowVerdict:
    at = 1_767_225_600_000 + number * 20_000
    window = Window(Market.SPOT, symbol, at, at + 20_000, 3, 4.0, 1.3, -0.001, 0.0, 100.0, 99.9, 7, 9)
    return WindowVerdict(window, None, None, None, "warming")  # type: ignore[arg-type]


def test_nothing_is_due_before_its_time_and_everything_at_once() -> None:
    gathering = Gathering(60.0)
    assert not gathering.due(1e9)
    gathering.add([verdict("A", 1)], 100.0)
    gathering.add([verdict("B", 1), verdict("A", 2)], 150.0)
    assert [gathering.due(at) for at in (159.9, 160.0)] == [False, True]
    assert [v.window.start_ms for v in gathering.take(["A"])] == [verdict("A", n).window.start_ms for n in (1, 2)]
    assert gathering.take(["A"]) == []
    assert gathering.due(160.0)  # B waits since then
    assert [v.window.symbol for v in gathering.take()] == ["B"]
    assert not gathering.due(1e9)
    assert Gathering(0.0).due(5.0) is False
    at_once = Gathering(0.0)
    at_once.add([verdict("A", 1)], 5.0)
    assert at_once.due(5.0)


class Transactions:
    """A table that keeps what each transaction held."""

    def __init__(self) -> None:
        self.table = SqliteTable(":memory:")
        self.seen: list[list[Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)

    def transact(self, writes: Any, *, token: str | None = None) -> Any:
        self.seen.append(list(writes))
        return self.table.transact(writes, token=token)


@pytest.mark.parametrize("windows", [1, 6, 60])
def test_a_flush_is_one_transaction_of_two_items_a_symbol(windows: int) -> None:
    table = Transactions()
    checkpoints = Checkpoints(table, Market.SPOT)  # type: ignore[arg-type]
    lease = Lease("streamer/spot/0of1", "me", 1, 1, 5_000)
    table.put({"pk": lease.check().key[0], "sk": lease.check().key[1], "owner": "me", "fence": 1, "beat": 1})
    gathered = [verdict(symbol, n) for symbol in ("A", "B") for n in range(windows)]
    assert checkpoints.save(gathered, {"A": {"at": 1}, "B": {"at": 2}}, lease)
    [writes] = table.seen
    items = -(-windows // 30)  # a packed item holds ten minutes
    assert len(writes) == 1 + 2 * (items + 1)
    assert sum(isinstance(write, Put) for write in writes) == 2 * (items + 1)
    # Under a fence that has moved on nothing of it is stored.
    stale = Lease("streamer/spot/0of1", "other", 0, 1, 5_000)
    before = table.query("CHECKPOINTS")
    assert not checkpoints.save(gathered, {"A": {"at": 3}}, stale)
    assert table.query("CHECKPOINTS") == before
