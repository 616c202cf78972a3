"""F203: a past that is refused at the start is asked for again, and put in place beside the live stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection

from shared.clock import SystemClock
from shared.detection.reading import Detector
from shared.errors import Blocked
from shared.market.model import Market, Trade
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from streamer import past, relearning
from streamer.relearning import LONGEST_S, until_served
from streamer.session import Session
from streamer.warmup import NotServed
from streamer.watchdog import Watchdog
from tests.streamer.feed import Feed
from tests.streamer.streams import frame, settings, trades
from tests.streamer.test_service import FAR_MS, FakeAlerts, FakeExchange, ServedFeed, make, replayed, wait_until

REFUSED = NotServed("firewall", ("AUSDT", "BUSDT"), again=True)


def to_the_first(sent: list[Trade]) -> Callable[[Feed, ServerConnection, int], Awaitable[None]]:
    """Return a feed that sends these trades to the first connection and nothing to a later one."""

    async def script(feed: Feed, client: ServerConnection, number: int) -> None:
        for trade in sent if number == 1 else ():
            await client.send(frame(trade))
        await client.wait_closed()

    return script


def asked_for(refused: NotServed | None, *answers: NotServed | None) -> tuple[list[float], list[tuple[str, ...]]]:
    """Return the pauses, and what was asked for after each."""
    slept, asked, left = list[float](), list[tuple[str, ...]](), list(answers)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def again(symbols: tuple[str, ...]) -> NotServed | None:
        asked.append(symbols)
        return left.pop(0)

    asyncio.run(until_served(refused, again, sleep))
    return slept, asked


def test_what_was_refused_is_asked_for_again_ever_more_rarely_until_it_comes() -> None:
    fewer = NotServed("firewall", ("BUSDT",), again=True)
    slept, asked = asked_for(REFUSED, REFUSED, *[fewer] * 5, None)
    assert slept == [900.0, 1800.0, 3600.0, 7200.0, LONGEST_S, LONGEST_S, LONGEST_S]
    assert asked == [REFUSED.left] * 2 + [fewer.left] * 5


@pytest.mark.parametrize("answer", [None, NotServed("needs an API key", ("AUSDT",))])
def test_what_came_or_is_hopeless_is_not_asked_for_again(answer: NotServed | None) -> None:
    assert asked_for(answer) == ([], [])
    assert asked_for(REFUSED, answer)[0] == [900.0]


@pytest.mark.parametrize("known", [1500, 2000])
def test_a_403_during_the_warm_up_is_made_up_for_while_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """As if it had been served at the start: models at once, whole windows, each trade once.

    `known` trades are known to REST when it serves again; the stream has brought 2,000, from the 1,800th on.
    """
    monkeypatch.setattr(relearning, "REFUSED_S", 0.3)
    monkeypatch.setattr(past, "PACE_S", 0.0)
    stream, alerts, exchange = trades(4000, seed=31), FakeAlerts(), FakeExchange()
    exchange.past, exchange.refusal = stream[:known], Blocked("firewall", status=403)
    table, go = SqliteTable(":memory:"), threading.Event()

    async def script(feed: Feed, client: ServerConnection, number: int) -> None:
        for part in (stream[1800:2000], stream[2000:]):
            for trade in part:
                await client.send(frame(trade))
            while not go.is_set():
                await asyncio.sleep(0.01)
        await client.wait_closed()

    with ServedFeed(script) as feed:
        base = settings(warmup_trades=True, warmup_hours=5.0)
        service = make(feed, table, alerts=alerts, base=base, exchange=exchange)
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] == 200)
        assert service.status()["warmup"]["state"] == "not_served"
        assert (service.status()["models"], service.health().good) == (0, True)
        exchange.refusal = None
        wait_until(lambda: service.status()["models"] == 1 and service.status()["warmup"]["state"] == "done", 10)
        exchange.past = stream
        go.set()
        wait_until(lambda: service.status()["last_event_ms"] == stream[-1].event_ms)
        wait_until(lambda: service.status()["missing"] == 0 and service.session.position("BTCUSDT")[0] == 4999)
        assert service.status()["reconnects"] == 0
        assert service.stop()
    rows = WindowRepository(table).range("spot", "BTCUSDT", 0, FAR_MS)
    spikes, windows = replayed(stream)
    assert [row["start_ms"] for row in rows] == windows
    assert all(row["complete"] for row in rows)
    said = {s.trade_id: s for s in alerts.signals if s.detector is Detector.TRADE_SPIKE}
    expected = {s.trade_id: s for s in spikes if (s.trade_id or 0) >= 3000}
    assert {trade_id: s for trade_id, s in said.items() if (trade_id or 0) >= 3000} == expected
    assert expected


def test_what_a_stop_finds_of_it_goes_on_at_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "REFUSED_S", 0.3)
    monkeypatch.setattr(past, "PACE_S", 0.0)
    stream, exchange, table = trades(2000, seed=32), FakeExchange(), SqliteTable(":memory:")
    exchange.past, exchange.refusal = stream[:1990], Blocked("firewall", status=403)

    with ServedFeed(to_the_first(stream[1800:])) as feed:
        base = settings(warmup_trades=True, warmup_hours=5.0)
        first = make(feed, table, base=base, exchange=exchange)
        first.run_in_thread()
        wait_until(lambda: first.status()["trades"] == 200)
        exchange.refusal = None
        wait_until(lambda: first.status()["models"] == 1)
        assert first.stop()
        exchange.past = stream
        second = make(feed, table, base=base, exchange=exchange)
        second.run_in_thread()
        wait_until(lambda: second.status()["warmup"]["state"] == "done" and second.backlog.live)
        status = second.status()
        assert (status["models"], status["restored"], status["missing"]) == (1, 1, 0)
        assert status["learning"] == {}
        assert second.session.position("BTCUSDT")[0] == 2999
        assert second.stop()


@pytest.mark.parametrize("served", [True, False])
def test_a_restart_before_the_past_was_served_asks_for_it_all_the_same(
    monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    """Its stored position is minutes old and has no model: what lies before it was never learnt. `served`: at once."""
    monkeypatch.setattr(past, "PACE_S", 0.0)
    stream, exchange, table = trades(2400, seed=34), FakeExchange(), SqliteTable(":memory:")
    exchange.past, exchange.refusal = stream[:2000], Blocked("firewall", status=403)

    with ServedFeed(to_the_first(stream[1800:2000])) as feed:
        base = settings(warmup_trades=True, warmup_hours=5.0)
        first = make(feed, table, base=base, exchange=exchange)
        first.run_in_thread()
        wait_until(lambda: first.status()["trades"] == 200)
        assert first.stop()
        monkeypatch.setattr(relearning, "REFUSED_S", 0.3)
        exchange.past, exchange.refusal = stream, None if served else exchange.refusal
        second = make(feed, table, base=base, exchange=exchange)
        second.run_in_thread()
        wait_until(lambda: second.backlog.live and second.status()["restored"] == 1)
        exchange.refusal = None
        wait_until(lambda: second.status()["models"] == 1, 10)
        assert second.session.position("BTCUSDT")[0] == stream[-1].trade_id
        assert second.stop()
    rows = WindowRepository(table).range("spot", "BTCUSDT", 0, FAR_MS)
    assert [row["start_ms"] for row in rows] == replayed(stream)[1]
    assert all(row["complete"] for row in rows)


def test_the_past_is_fetched_later_without_hurry() -> None:
    """The live stream's holes and probes share the weight with it, and its answers may not wait for a minute's turn."""
    stream, waited = trades(2500, seed=33), list[float]()

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    exchange, base = FakeExchange(stream), settings(warmup_hours=10_000.0)
    fetched = past.Past(base, exchange, SystemClock(), Stopping())  # type: ignore[arg-type]
    found: list[relearning.Learnt] = []
    live = Session(base, Market.SPOT, ("BTCUSDT",))
    assert fetched.fetch_later(live, ("BTCUSDT",), found.append, lambda: False) is None
    assert found[0].position.last_id == stream[-1].trade_id
    assert waited == [past.PACE_S] * exchange.calls


def test_a_state_that_counts_anew_keeps_its_rate_with_the_watchdog() -> None:
    watchdog, silence = Watchdog(2.0, ("AUSDT", "BUSDT"), 0.0), None
    for tick in range(1, 500):
        heard = {"AUSDT": 10 * min(tick, 400) - (3900 if tick > 390 else 0), "BUSDT": 10 * tick}
        silence = watchdog.look(heard, tick * 0.25)
        if silence is not None:
            break
    assert silence is not None
    assert (silence.stream, tick) == ("AUSDT", 409)  # two seconds after its last
