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


@pytest.mark.parametrize("renewing", [True, False])
def test_a_release_is_bounded_and_made_up_for_when_storage_answers(renewing: bool) -> None:
    table = HangingTable()
    ownership, renewed = owned(table), list[bool]()
    table.hanging = True
    if renewing:
        threading.Thread(target=lambda: renewed.append(ownership.confirm()), daemon=True).start()
        assert table.reached.wait(10)
    in_time(lambda: ownership.release(0.1) or True)
    assert ownership.lease is None
    assert not ownership.fresh
    assert not in_time(ownership.confirm)  # whoever asks now is not held up either
    in_time(lambda: ownership.release(0.1) or True)
    table.hanging = False
    table.go.set()
    other = Ownership(table, "streamer/spot/0of1", "you", LONG_S)
    assert in_time(lambda: other.acquire(lambda: False, lambda seconds: None))  # freed: nothing to be waited for
    assert ownership.lease is None
    if renewing:
        wait_until(lambda: renewed == [False], 10)  # it was renewed, and is given up all the same


def test_a_release_that_comes_late_frees_nothing_of_the_next_run_under_the_same_name() -> None:
    table = HangingTable()
    old = owned(table)
    table.hanging = True
    in_time(lambda: old.release(0.0) or True)
    assert table.reached.wait(10)
    releasing = old._releasing
    assert releasing is not None
    table.hanging = False
    new = owned(table)
    table.go.set()
    releasing.join(10)
    assert new.confirm()


def test_a_lease_that_was_released_may_be_won_again() -> None:
    ownership = owned(SqliteTable(":memory:"))
    ownership.release()
    assert ownership.lease is None
    assert ownership.acquire(lambda: False, lambda seconds: None)
    assert ownership.fresh
    assert ownership.confirm()


def test_a_lease_won_after_the_stop_is_given_back() -> None:
    table, stopped = HangingTable(), threading.Event()
    ownership, won = Ownership(table, "streamer/spot/0of1", "me", LONG_S), list[bool]()
    table.hanging = True
    acquiring = threading.Thread(
        target=lambda: won.append(ownership.acquire(stopped.is_set, stopped.wait)), daemon=True
    )
    acquiring.start()
    assert table.reached.wait(10)
    stopped.set()
    in_time(lambda: ownership.release(0.1) or True)
    table.hanging = False
    table.go.set()
    acquiring.join(10)
    assert won == [False]
    other = Ownership(table, "streamer/spot/0of1", "you", LONG_S)
    assert in_time(lambda: other.acquire(lambda: False, lambda seconds: None))
