"""The lease as the event loop sees it: storage that hangs does not hold it up, and one thread renews."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from shared.storage.sqlite import SqliteTable
from shared.storage.table import Condition, Value, WriteResult
from streamer.ownership import Ownership
from tests.streamer.test_service import wait_until

LONG_S = 600.0


class HangingTable(SqliteTable):
    """Takes writes at once until `hang`; those after it wait for `go`."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.hanging, self.reached, self.go = False, threading.Event(), threading.Event()

    def put(self, item: Mapping[str, Value], condition: Condition | None = None) -> WriteResult:
        if self.hanging:
            self.reached.set()
            assert self.go.wait(30)
        return super().put(item, condition)


def owned(table: SqliteTable) -> Ownership:
    ownership = Ownership(table, "streamer/spot/0of1", "me", LONG_S)
    assert ownership.acquire(lambda: False, lambda seconds: None)
    return ownership


def in_time(ask: Callable[[], Any]) -> Any:
    """Return the answer; fail instead of waiting for ever."""
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(ask()), daemon=True)
    thread.start()
    thread.join(10)
    assert answer, "it waits for storage"
    return answer[0]


@pytest.mark.parametrize("ask", ["lease", "fresh"])
def test_what_the_loop_asks_does_not_wait_for_a_renewal_that_hangs(ask: str) -> None:
    table = HangingTable()
    ownership = owned(table)
    before, table.hanging = ownership.lease, True
    renewed: list[bool] = []
    renewing = threading.Thread(target=lambda: renewed.append(ownership.confirm()), daemon=True)
    renewing.start()
    assert table.reached.wait(10)
    assert in_time(lambda: getattr(ownership, ask)) == (before if ask == "lease" else True)
    table.go.set()
    renewing.join(10)
    assert renewed == [True]
    assert before is not None
    assert ownership.lease is not None
    assert ownership.lease.beat == before.beat + 1


def test_keeping_anew_ends_the_thread_that_kept_the_lease_before() -> None:
    ownership = owned(SqliteTable(":memory:"))
    ownership.keep(lambda: None)
    first = ownership._thread
    ownership.keep(lambda: None)  # the lease was lost by a refused write, which the first has not noticed
    second = ownership._thread
    assert first is not None
    assert second is not None
    wait_until(lambda: not first.is_alive(), 10)
    assert second.is_alive()
    ownership.release()
    wait_until(lambda: not second.is_alive(), 10)
