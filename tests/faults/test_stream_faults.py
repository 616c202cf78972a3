"""F101 to F120: what a stream may do to us. Each fault alone, against the golden windows and signals."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from local.exchange.proxy import FaultProxy
from shared.market.model import Trade
from streamer import lag
from streamer.actions import Action
from streamer.backoff import MAX_ATTEMPTS, AttemptBudget
from streamer.service import StreamerService
from streamer.watchdog import Watchdog
from tests.faults.harness import BURST_AT, Exchange, figure, make_service, stream_through
from tests.streamer.feed import Feed
from tests.streamer.streams import frame, settings
from tests.streamer.test_service import FakeAlerts, ServedFeed, wait_until


@pytest.mark.parametrize("code", [1001, *(pytest.param(code, marks=pytest.mark.slow) for code in (1006, 1008, 1011))])
def test_f102_a_close_in_the_middle(code: int) -> None:
    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if number == 1 and exchange.position > 300:
            if code == 1006:
                client.transport.abort()
            else:
                await client.close(code)
            return True
        return False

    verdict, status = stream_through(Exchange(act=act))
    assert verdict.clean, verdict
    assert status["reconnects"] >= 1


def test_f101_a_reset_in_the_middle_of_a_frame() -> None:
    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if number <= 2 and exchange.position > 250 * number:
            whole = frame(exchange.streams["BTCUSDT"][0])
            client.transport.write(b"\x81\x7e" if number == 1 else b"\x81\x7e\x00\xb0" + whole[:60])
            await asyncio.sleep(0.05)
            client.transport.abort()
            return True
        return False

    verdict, status = stream_through(Exchange(act=act))
    assert verdict.clean, verdict
    assert status["reconnects"] >= 2


@pytest.mark.slow
def test_f103_a_shutdown_notice_opens_the_next_connection_first() -> None:
    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if number == 1 and exchange.position > 250:
            if not exchange.injected:
                exchange.injected = 1
                await client.send('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1760000000000}}')
            if exchange.position > 900:
                await client.close(1001)
                return True
        return False

    verdict, status = stream_through(Exchange(act=act, per_s=250))
    assert verdict.clean, verdict
    assert (status["renewals"], status["reconnects"], status["filled"]) == (1, 0, 0)


@pytest.mark.slow
def test_f104_the_renewal_before_the_exchange_cuts() -> None:
    verdict, status = stream_through(Exchange(per_s=200), base=settings(renew_hours=1.5 / 3600))
    assert verdict.clean, verdict
    assert status["renewals"] >= 1
    assert (status["reconnects"], status["filled"]) == (0, 0)


def test_f105_a_silent_feed_is_replaced() -> None:
    silent_s: list[float] = []

    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if number == 1 and exchange.position > 400:
            if not silent_s:
                silent_s.append(time.monotonic())
            await client.wait_closed()  # pings are answered by the library all the while
            silent_s.append(time.monotonic())
            return True
        return False

    verdict, status = stream_through(Exchange(act=act, per_s=250), base=settings(watchdog_seconds=1.0))
    assert verdict.clean, verdict
    assert silent_s[1] - silent_s[0] <= 1.0 + 1.0 + 1.0  # the watchdog, a second, and a busy machine
    assert status["reconnects"] >= 1


@pytest.mark.slow
def test_f106_a_half_open_link() -> None:
    exchange, seen = Exchange(per_s=150), {}

    def during(service: StreamerService, feed: ServedFeed) -> None:
        wait_until(lambda: service.status()["trades"] > 200)
        run_s = time.monotonic()
        asyncio.run_coroutine_threadsafe(_hole(proxy, True), loop).result()
        wait_until(lambda: service.status()["reconnects"] >= 1)
        seen["took_s"] = time.monotonic() - run_s
        asyncio.run_coroutine_threadsafe(_hole(proxy, False), loop).result()

    loop, ready = asyncio.new_event_loop(), threading.Event()
    threading.Thread(target=lambda: (loop.call_soon(ready.set), loop.run_forever()), daemon=True).start()
    ready.wait()
    with ServedFeed(exchange.script) as feed:
        host, port = feed.url.removeprefix("ws://").split(":")
        proxy = FaultProxy(host, int(port))
        through = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
        from shared.storage.sqlite import SqliteTable
        from tests.faults.harness import finished, judge

        base, table, alerts = settings(watchdog_seconds=1.0), SqliteTable(":memory:"), FakeAlerts()
        service = make_service(f"ws://127.0.0.1:{through}", exchange, table, alerts, base)
        service.run_in_thread()
        during(service, feed)
        wait_until(lambda: finished(service, exchange), 40)
        started = time.monotonic()
        assert service.stop()
        assert time.monotonic() - started < 3
    loop.call_soon_threadsafe(loop.stop)
    verdict = judge(exchange, table, [alerts], base)
    assert verdict.clean, verdict
    assert seen["took_s"] < 4


def _may_unshare() -> bool:
    if not (shutil.which("unshare") and shutil.which("nft") and shutil.which("ip")) or os.geteuid() != 0:
        return False
    words = ["unshare", "-n", "nft", "add table inet probe"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_f106_packets_dropped_by_the_kernel() -> None:
    if not _may_unshare():
        pytest.skip("needs root, network namespaces and nftables (Debian: apt-get install nftables iproute2)")
    row = f"{sys.executable} -c 'from tests.faults import rows; assert rows.f106_dropped_packets()'"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", f"ip link set lo up && exec {row}"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-2000:]


async def _hole(proxy: FaultProxy, on: bool) -> None:
    proxy.black_hole = on


@pytest.mark.slow
def test_f107_one_muted_symbol_is_noticed_by_its_own_rate() -> None:
    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if number == 1 and exchange.position > 150:
            exchange.muted.add("ETHUSDT")
        elif number > 1:
            exchange.muted.clear()
        return False

    # At the pace of real time: what closes a silent symbol's windows is the others' exchange time.
    verdict, status = stream_through(
        Exchange(act=act, count=420, per_s=12.5), base=settings(watchdog_seconds=2.0), within_s=60
    )
    assert verdict.clean, verdict
    assert status["reconnects"] >= 1


@pytest.mark.slow
def test_f108_a_silent_market_is_quiet_and_not_broken() -> None:
    exchange = Exchange(count=400, per_s=400)

    def during(service: StreamerService, feed: ServedFeed) -> None:
        wait_until(lambda: service.status()["trades"] == 800, 20)
        wait_until(lambda: service.lines._lines[0].excused >= 0, 20)  # REST has said that its last ids have not moved
        time.sleep(2)
        assert service.status()["state"] == "quiet"
        figure(connections=feed.clients, asked=exchange.calls)
        assert feed.clients == 1

    verdict, status = stream_through(exchange, base=settings(watchdog_seconds=1.0), during=during)
    assert verdict.clean, verdict
    assert status["reconnects"] == 0


def test_f108_without_an_answer_a_silence_replaces_the_connection_once_in_5_minutes() -> None:
    watchdog, now_s, found = Watchdog(5.0, ["A"], 0.0), 0.0, []
    while now_s < 3600:
        now_s += 0.25
        silence = watchdog.look({"A": min(200, int(now_s * 10))}, now_s)
        if silence is not None:
            found.append(now_s)
            watchdog.replaced(now_s)
    assert 10 < len(found) <= 13  # the first, and one in each 5 minutes
    assert all(b - a >= 300 for a, b in pairwise(found))


@pytest.mark.slow
def test_f109_a_stream_that_stays_behind_is_dropped_and_refilled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "LAG_MS", 400)
    monkeypatch.setattr(lag, "LAG_S", 0.5)
    exchange = Exchange(per_s=250)

    def during(service: StreamerService, feed: ServedFeed) -> None:
        wait_until(lambda: service.status()["trades"] > 300)
        before = service._means.clock

        class Slow:
            """Receipts look 100 s late from now on, until the connection is another one."""

            def now_ms(self) -> int:
                return before.now_ms() + (100_000 if service.status()["reconnects"] == 0 else 0)

        service._connector._now_ms = Slow().now_ms  # type: ignore[attr-defined]
        for line in service.lines._lines:
            for connection in line.supervisor._open:
                connection._listener.now_ms = Slow().now_ms  # type: ignore[attr-defined]

    verdict, status = stream_through(exchange, during=during)
    assert verdict.clean, verdict
    assert status["dropped_for_lag"] >= 1


@pytest.mark.slow
def test_f109_a_handler_of_50_ms_a_message_is_seen_dropped_and_refilled() -> None:
    """300 messages a second in market time, each of which costs 50 ms until the stream has been dropped once."""
    symbols = tuple(f"COIN{number:02d}USDT" for number in range(24))
    exchange = Exchange(count=600, per_s=12.5, symbols=symbols)
    lags: list[int] = []

    def during(service: StreamerService, feed: ServedFeed) -> None:
        take = service.session.receive_many

        def slow(batch: Sequence[bytes], recv_ms: int) -> list[Action]:
            if service.lag.drops == 0 and service.session.trades > 1000:
                time.sleep(0.05 * len(batch))
            return take(batch, recv_ms)

        service.session.receive_many = slow  # type: ignore[method-assign]
        while service.lag.drops == 0:
            assert exchange.position < exchange.count, "never dropped"
            lags.append(service.lag.held_ms)
            time.sleep(0.05)

    verdict, status = stream_through(exchange, during=during, within_s=120)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figure(lag_s=round(max(lags) / 1000, 1), gaps=status["gaps"], peak_mb=round(peak_mb))
    assert verdict.clean, verdict
    assert max(lags) > lag.LAG_MS


def test_f110_repeats() -> None:
    rng, exchange = random.Random(1), Exchange()

    def mangle(step: list[Trade]) -> Iterable[bytes]:
        for trade in step:
            times = rng.randint(1, 3)
            exchange.injected += times - 1
            for _ in range(times):
                yield frame(trade)

    exchange.mangle = mangle
    verdict, status = stream_through(exchange)
    assert verdict.clean, verdict
    assert status["rejected"] == {"repeat": exchange.injected}


@pytest.mark.slow
def test_f111_out_of_order() -> None:
    rng, waiting = random.Random(2), []

    def mangle(step: list[Trade]) -> Iterable[bytes]:
        waiting.extend(step)
        if len(waiting) >= 50 or waiting[-1].trade_id == 1999:
            rng.shuffle(waiting)
            yield from [frame(trade) for trade in waiting]
            waiting.clear()

    verdict, _ = stream_through(Exchange(mangle=mangle))
    assert verdict.clean, verdict


@pytest.mark.parametrize("lost", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_f112_a_gap_in_the_ids_is_filled(lost: int) -> None:
    """The other symbol goes on all the while, for 80 s of the exchange's time: its time must close nothing."""

    def mangle(step: list[Trade]) -> Iterable[bytes]:
        return [frame(t) for t in step if not (t.symbol == "BTCUSDT" and 1300 <= (t.trade_id or 0) < 1300 + lost)]

    verdict, status = stream_through(Exchange(count=600 + lost, mangle=mangle))
    assert verdict.clean, verdict
    assert status["filled"] >= lost


@pytest.mark.slow
def test_f112_a_hole_of_100000_ids_is_filled_in_pages_of_1000() -> None:
    exchange = Exchange(count=800, per_s=200, unheard=100_000)
    verdict, status = stream_through(exchange, within_s=60)
    figure(ids=status["filled"], pages=exchange.calls)
    assert verdict.clean, verdict
    assert (status["filled"], status["missing"], status["given_up"]) == (100_000, 0, {})
    assert 100 <= exchange.calls <= 105


@pytest.mark.slow
def test_f112_beyond_what_the_exchange_keeps_the_windows_are_incomplete_and_teach_nothing() -> None:
    exchange = Exchange(count=800, per_s=200, unheard=100_000, kept_from=1000 + BURST_AT + 40_000)
    verdict, status = stream_through(exchange, within_s=60)
    assert (verdict.wrong, verdict.extra, verdict.taught) == (0, 0, 0)
    assert 1 <= verdict.missing <= 2  # of four seconds nothing is left
    assert 2 <= verdict.incomplete <= 3
    assert (status["filled"], status["missing"]) == (60_000, 40_000)
    assert status["given_up"] == {"not_kept": 1}


@pytest.mark.slow
def test_f112_a_hole_beyond_all_measure_is_given_up_at_once() -> None:
    exchange = Exchange(count=800, per_s=200, unheard=100_001)
    verdict, status = stream_through(exchange, within_s=60)
    assert verdict.wrong == verdict.extra == verdict.taught == 0
    assert verdict.incomplete >= 1
    assert (status["missing"], status["given_up"], exchange.calls) == (100_001, {"too_large": 1}, 0)


@pytest.mark.slow
def test_f112_what_the_exchange_no_longer_has_is_never_scored() -> None:
    def mangle(step: list[Trade]) -> Iterable[bytes]:
        return [frame(t) for t in step if not (t.symbol == "BTCUSDT" and 1300 <= (t.trade_id or 0) < 1350)]

    verdict, status = stream_through(Exchange(mangle=mangle, served=False))
    assert verdict.wrong == verdict.extra == verdict.taught == 0
    assert 1 <= verdict.incomplete <= 8
    assert status["missing"] == 50


@pytest.mark.slow
def test_f113_a_new_numbering_goes_on() -> None:
    def mangle(step: list[Trade]) -> Iterable[bytes]:
        return [frame(t, t=(t.trade_id or 0) + (90_000_000 if (t.trade_id or 0) < 1500 else 0)) for t in step]

    exchange = Exchange(mangle=mangle, served=False)

    def during(service: StreamerService, feed: ServedFeed) -> None:
        wait_until(lambda: service.status()["trades"] == 2000, 20)

    _, status = stream_through(exchange, during=during, whole=False)
    assert status["rejected"] == {"new_numbering": 2}


_BROKEN = [
    b'{"stream":"btcusdt@trade","data":{"e":"tra',
    b"[]",
    b"null",
    b"\xff\xfe\x00binary",
    b"[" * 5000,
    b"{}",
    b'{"e":"trade","x":"' + b"x" * 2_000_000 + b'"}',
    gzip.compress(bytes(20_000_000)),  # nobody unpacks it
]


def test_f114_broken_messages_are_counted_and_stop_nothing() -> None:
    rng, exchange = random.Random(3), Exchange()

    def mangle(step: list[Trade]) -> Iterable[bytes]:
        for trade in step:
            if rng.random() < 0.02:
                exchange.injected += 1
                yield rng.choice(_BROKEN)
            yield frame(trade)

    exchange.mangle = mangle
    verdict, status = stream_through(exchange)
    assert verdict.clean, verdict
    assert sum(status["rejected"].values()) == exchange.injected
    assert (status["reconnects"], status["internal_errors"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed (Linux: group fuzz)")
def test_f114_mutated_messages_crash_nothing() -> None:
    """A short run; a million are run before a release (docs/reliability.md)."""
    words = [sys.executable, "-m", "benchmarks.fuzz", "--runs", "20000"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "20000 runs, no crash" in done.stdout
    figure(runs=20_000, crashes=0)


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        *(
            pytest.param(v, marks=pytest.mark.slow)
            for v in ("Infinity", "-1.0", "0.00000000", "1e308", "0." + "1" * 40)
        ),
    ],
)
def test_f115_a_poison_value_advances_the_id(value: str) -> None:
    def mangle(step: list[Trade]) -> Iterable[bytes]:
        for trade in step:
            yield frame(trade, **({"q": value} if trade.trade_id == 1400 and trade.symbol == "BTCUSDT" else {}))

    exchange = Exchange(mangle=mangle, count=600, per_s=800)
    _, status = stream_through(exchange)
    assert sum(status["rejected"].values()) == 1
    assert (status["gaps"], status["trades"]) == (0, 1199)


@pytest.mark.slow
def test_f116_f117_unknown_kinds_other_units_and_the_future() -> None:
    def mangle(step: list[Trade]) -> Iterable[bytes]:
        for trade in step:
            changes: dict[str, object] = {}
            if trade.symbol == "BTCUSDT" and trade.trade_id == 1200:
                yield b'{"stream":"x","data":{"e":"somethingNew","s":"BTCUSDT","z":1}}'
                changes = {"newField": {"deep": [1, 2]}}
            elif trade.symbol == "BTCUSDT" and (trade.trade_id or 0) % 100 == 0:
                changes = {"T": trade.event_ms * 1000, "E": (trade.event_ms + 1) * 1000}  # microseconds
            yield frame(trade, **changes)

    verdict, status = stream_through(Exchange(mangle=mangle))
    assert verdict.clean, verdict
    assert status["rejected"] == {"ignored:somethingNew": 1}


@pytest.mark.slow
def test_f117_a_trade_from_the_future_opens_no_window() -> None:
    def mangle(step: list[Trade]) -> Iterable[bytes]:
        for trade in step:
            future = trade.trade_id == 1200 and trade.symbol == "BTCUSDT"
            yield frame(trade, **({"T": 9_000_000_000_000} if future else {}))

    _, status = stream_through(Exchange(mangle=mangle, count=600, per_s=800))
    assert status["rejected"] == {"future": 1}
    assert status["last_event_ms"] < 2_000_000_000_000


@pytest.mark.parametrize("status", [HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS])
def test_f118_a_refusal_is_red_with_its_reason_and_asked_rarely(status: HTTPStatus) -> None:
    exchange = Exchange()
    with ServedFeed(exchange.script) as feed:
        feed._feed.refuse = status
        from shared.storage.sqlite import SqliteTable

        service = make_service(feed.url, exchange, SqliteTable(":memory:"), FakeAlerts(), settings())
        service.run_in_thread()
        wait_until(lambda: service.status()["state"] == "broken")
        time.sleep(0.5)
        assert str(int(status)) in service.status()["reason"]
        assert len([path for path in feed._feed.paths if "trade" in path]) == 1
        assert service.stop()


def test_f118_never_more_than_60_attempts_in_5_minutes() -> None:
    budget, rng, at_s, made = AttemptBudget(), random.Random(4), 0.0, []
    while at_s < 3600:
        at_s += budget.next_delay(at_s, rng.random)
        made.append(at_s)
    assert max(sum(at <= other < at + 300 for other in made) for at in made) <= MAX_ATTEMPTS


@pytest.mark.slow
def test_f119_a_ping_storm_is_answered_in_order() -> None:
    pongs: list[float] = []

    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if exchange.position < 900:
            waiter = await client.ping()
            waiter.add_done_callback(lambda _: pongs.append(time.monotonic()))
        return False

    verdict, status = stream_through(Exchange(act=act, per_s=400))
    assert verdict.clean, verdict
    assert len(pongs) > 50
    assert status["reconnects"] == 0


@pytest.mark.slow
def test_f120_fifty_symbols_come_back_on_one_connection() -> None:
    symbols = tuple(f"COIN{n}USDT" for n in range(50))

    async def act(exchange: Exchange, feed: Feed, client: ServerConnection, number: int) -> bool:
        if number == 1 and exchange.position > 60:
            client.transport.abort()
            return True
        return False

    exchange = Exchange(act=act, symbols=symbols, count=200, per_s=50)
    attempts: list[int] = []

    def during(service: StreamerService, feed: ServedFeed) -> None:
        wait_until(lambda: service.status()["reconnects"] == 1, 20)
        attempts.append(feed.clients)

    verdict, _ = stream_through(exchange, during=during, within_s=40)
    assert verdict.clean, verdict
    assert attempts[0] <= 2
