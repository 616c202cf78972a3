"""A live state whose place is taken by one that has learnt a past: nothing is lost by it, and nothing forgotten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from shared.clock import SystemClock
from shared.detection.reading import Signal
from shared.detection.window_anomaly import FitRequest
from shared.market.model import Market, Trade
from shared.settings import Settings, UniverseSettings
from shared.storage.lease import LeaseRepository
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from streamer.actions import Action, EmitSignal, FitModel
from streamer.relearning import Learnt, Relearning, put_in_place
from streamer.service import StreamerService
from streamer.session import Session
from streamer.worker import Job
from tests.streamer.streams import frame, settings, trades, with_urls
from tests.streamer.test_service import FakeAlerts, FakeExchange

BTC = "BTCUSDT"


@contextmanager
def lone(table: SqliteTable, base: Settings | None = None) -> Iterator[tuple[StreamerService, FakeAlerts]]:
    """An owner without connections, given its trades by hand; what it queued is done when the block ends."""
    alerts = FakeAlerts()
    service = StreamerService(
        with_urls(base or settings(), "ws://127.0.0.1:1"), FakeExchange(), alerts, table, SystemClock()  # type: ignore[arg-type]
    )  # fmt: skip
    assert service.ownership.acquire(lambda: False, lambda seconds: None)
    service.executor.worker.start()
    try:
        yield service, alerts
    finally:
        assert service.executor.worker.stop(10)
        service.ownership.release()


def hear(service: StreamerService, stream: list[Trade]) -> None:
    for at in range(0, len(stream), 10):
        part = stream[at : at + 10]
        service.executor.execute(service.session.receive_many([frame(trade) for trade in part], part[-1].recv_ms))
        service.executor.execute(service.session.tick())
    service.executor.save_memories()


def learnt_from(past: list[Trade], live: Session) -> Learnt:
    found: list[Learnt] = []
    apart = Relearning(settings(), live, found.append)
    for trade in past:  # in the smallest pages, so that each model is there with the window after the one that asked
        apart.take(trade.symbol, [trade])
    apart.complete(past[0].symbol)
    return found[0]


def said_by_a_start_that_was_served(past: list[Trade], stream: list[Trade]) -> list[Signal]:
    """Return what is said of `stream` where `past` was learnt before it, fitting at once."""
    session, said = Session(settings(), Market.SPOT, (BTC,)), list[Signal]()

    def take(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, FitModel):
                session.install(action.symbol, action.request.fit(), action.request)
            elif isinstance(action, EmitSignal):
                said.append(action.signal)

    for trade in past:
        take(session.trade(trade))
    said.clear()
    for trade in stream:
        take(session.trade(trade))
    return said


def test_what_rest_knew_before_the_stream_is_said() -> None:
    """The connection was down, or waited for a hole, when the past came: its newest hours are news."""
    stream, heard = trades(6000, seed=41), 3000
    with lone(SqliteTable(":memory:")) as (service, alerts):
        hear(service, stream[2000:heard])
        put_in_place(learnt_from(stream, service.session), service.session, service.executor)
    expected = said_by_a_start_that_was_served(stream[:heard], stream[heard:])
    first_id = stream[heard].trade_id or 0
    told = [
        s for s in alerts.signals if s.known_ms > stream[heard - 1].event_ms and (s.trade_id or first_id) >= first_id
    ]
    assert {s.detector for s in expected} == {"trade_spike", "window_anomaly"}
    assert [(s.detector, s.event_ms, s.trade_id) for s in told] == [
        (s.detector, s.event_ms, s.trade_id) for s in expected
    ]


@pytest.mark.parametrize("flush_seconds", [0.0, 600.0])
def test_the_windows_that_were_learnt_stand_in_the_table(flush_seconds: float) -> None:
    """Whichever way they are asked for: those of the live state are there too, one by one or packed, cut elsewhere."""
    stream, table = trades(6000, seed=46), SqliteTable(":memory:")
    with lone(table, settings(flush_seconds=flush_seconds)) as (service, _):
        hear(service, stream[4000:])
        learnt = learnt_from(stream, service.session)
        put_in_place(learnt, service.session, service.executor)
    windows, ends = WindowRepository(table), (0, 9_999_999_999_999)
    said = [(verdict.window.start_ms, verdict.window.complete, verdict.score) for verdict in learnt.verdicts]
    for reverse in (False, True):
        rows = windows.range("spot", BTC, *ends, limit=5000, reverse=reverse)
        assert sorted((row["start_ms"], row["complete"], row["score"]) for row in rows) == said
    assert [(one.start_ms, one.score) for one in windows.scores("spot", BTC, ends[1], limit=5000)] == [
        (start_ms, score) for start_ms, _, score in said
    ]


@pytest.mark.parametrize("stored_before", [True, False])
def test_a_restart_goes_on_with_the_memory_that_was_learnt(stored_before: bool) -> None:
    """Not with that of the state which went: it may have been stored, and the next storing is far."""
    stream, table = trades(6000, seed=42), SqliteTable(":memory:")
    with lone(table) as (service, _):
        hear(service, stream[2000 if stored_before else 5800 :])
        put_in_place(learnt_from(stream, service.session), service.session, service.executor)
        live = service.session.memory(BTC)
    with lone(table) as (again, _):
        again.checkpoints.restore(again.session)
        assert again.session.models == 1
        assert again.session.memory(BTC) == live


def test_a_state_that_knows_more_keeps_its_place() -> None:
    """The refusal lasted for longer than what is fetched reaches back, or only the newest trades are served."""
    stream, table = trades(6000, seed=43), SqliteTable(":memory:")
    with lone(table) as (service, _):
        hear(service, stream)
        state = service.session.states[BTC]
        put_in_place(learnt_from(stream[-1000:], service.session), service.session, service.executor)
        assert service.session.states[BTC] is state
        assert service.executor.worker.done["model"] == 0


def test_other_threads_see_the_same_symbols_all_the_time() -> None:
    stream = trades(300, seed=44)
    base = msgspec.structs.replace(settings(), universe=UniverseSettings(spot_symbols=(BTC, "ETHUSDT")))
    with lone(SqliteTable(":memory:"), base) as (service, _):
        session = service.session
        hear(service, stream[200:])
        put_in_place(learnt_from(stream, session), session, service.executor)
        assert session.symbols == (BTC, "ETHUSDT")
        assert session.trades == 100


def test_a_symbol_whose_fit_fails_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(request: FitRequest) -> Any:
        raise ValueError("unfit")

    monkeypatch.setattr(FitRequest, "fit", fit)
    stream = trades(2000, seed=45)
    with lone(SqliteTable(":memory:")) as (service, _):
        hear(service, stream[1800:])
        put_in_place(learnt_from(stream, service.session), service.session, service.executor)
        assert service.session.position(BTC)[0] == stream[-1].trade_id
        assert service.session.models == 0


def test_who_slept_through_its_lease_stores_nothing_of_it() -> None:
    """F408: neither the models nor the memories of another owner are replaced by the older ones of this one."""
    stream, table = trades(3000, seed=47), SqliteTable(":memory:")
    with lone(table) as (service, alerts):
        hear(service, stream[2500:])
        learnt = learnt_from(stream, service.session)
        settle(service)
        before = len(alerts.signals)
        taken = LeaseRepository(table)
        lease = service.ownership.lease
        assert lease is not None
        assert taken.acquire(lease.name, "another", 0, 1) is None
        assert taken.acquire(lease.name, "another", lease.ttl_ms, 1_000) is not None
        service.ownership.renewed_s -= 1_000.0
        put_in_place(learnt, service.session, service.executor)
        settle(service)
        assert service.checkpoints.model(BTC) is None
        assert service.executor.left.keys() >= {"windows", "memory", "model"}
        assert len(alerts.signals) == before
        [stored] = service.checkpoints.read((BTC,))
        assert stored.memory is None


def settle(service: StreamerService) -> None:
    """Wait for all that is to be stored."""
    done = threading.Event()
    assert service.executor.worker.offer(Job("test", done.set))
    assert done.wait(10)
