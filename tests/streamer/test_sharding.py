"""Every symbol has exactly one task, and a resize moves only what it must."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from local.asking import jobs_for
from local.world import Availability, _as_available
from shared.clock import SystemClock
from shared.detection.reading import Detector
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Item
from shared.storage.windows import WindowRepository
from streamer import service as service_module
from streamer.service import StreamerService
from streamer.sharding import shard_of, share_of
from tests.streamer.feed import Feed
from tests.streamer.streams import frame, settings, trades, with_urls
from tests.streamer.test_health_file import Checked
from tests.streamer.test_service import FAR_MS, FakeAlerts, FakeExchange, ServedFeed, make, wait_until

SYMBOLS = [f"COIN{n}USDT" for n in range(500)]


def test_four_shards_cover_everything_without_overlap() -> None:
    shares = [share_of(SYMBOLS, shard, 4) for shard in range(4)]
    assert sorted(symbol for share in shares for symbol in share) == sorted(SYMBOLS)
    assert all(90 < len(share) < 160 for share in shares)
    assert share_of(SYMBOLS, 0, 1) == tuple(SYMBOLS)


def test_a_resize_moves_only_what_it_must() -> None:
    for few in (1, 2, 3, 4, 7):
        moved = [s for s in SYMBOLS if shard_of(s, few) != shard_of(s, few + 1)]
        assert all(shard_of(symbol, few + 1) == few for symbol in moved)  # only to the new task
        assert len(moved) < 1.5 * len(SYMBOLS) / (few + 1)


class Market:
    """A loopback exchange: each client gets the streams in its address or by command, from where it came in."""

    def __init__(self, symbols: list[str], count: int) -> None:
        self.streams = {s: trades(count, seed=n, symbol=s) for n, s in enumerate(symbols)}
        self.sent = dict.fromkeys(symbols, 0)

    async def script(self, feed: Feed, client: ServerConnection, number: int) -> None:
        request = client.request
        assert request is not None
        wanted = {name.partition("@")[0].upper() for name in request.path.partition("streams=")[2].split("/")}
        asyncio.get_running_loop()

        async def commands() -> None:
            async for message in client:
                feed.received.append(str(message))
                for symbol in self.streams:
                    if f'"{symbol.lower()}@trade"' in str(message):
                        (wanted.add if "UNSUB" not in str(message) else wanted.discard)(symbol)

        listening = asyncio.create_task(commands())
        try:
            position = dict(self.sent)
            while not listening.done():  # until the client has gone
                for symbol in wanted & self.streams.keys():
                    at = position[symbol]
                    for trade in self.streams[symbol][at : at + 5]:
                        await client.send(frame(trade).decode())
                    position[symbol] = min(at + 5, len(self.streams[symbol]))
                    self.sent[symbol] = max(self.sent[symbol], position[symbol])
                await asyncio.sleep(0.005)
        finally:
            listening.cancel()


def shards(
    feed: ServedFeed, table: SqliteTable, market: Market, alerts: list[FakeAlerts], count: int
) -> list[StreamerService]:
    made = []
    for number in range(count):
        alerts.append(FakeAlerts())
        past = FakeExchange([t for stream in market.streams.values() for t in stream])
        base = settings(shards=count, shard_index=number)
        service = make(feed, table, alerts=alerts[-1], exchange=past, base=base)
        service._symbols = share_of(market.streams, number, count)
        service.session = service._new_session()
        service.run_in_thread()
        made.append(service)
    return made


@pytest.mark.slow
def test_a_resize_from_three_to_four_tasks_loses_and_doubles_nothing() -> None:
    symbols = SYMBOLS[:12]
    market, table, alerts = Market(symbols, 500), SqliteTable(":memory:"), []
    with ServedFeed(market.script) as feed:
        before = shards(feed, table, market, alerts, 3)
        wait_until(lambda: min(market.sent.values()) > 150, 30)
        wait_until(lambda: all(s.status()["windows"] > 0 for s in before), 20)
        for service in before:
            assert service.stop(15)
        after = shards(feed, table, market, alerts, 4)
        assert sorted(s for service in after for s in service.session.symbols) == sorted(symbols)
        last = {symbol: stream[-1].trade_id for symbol, stream in market.streams.items()}
        for service in after:
            wait_until(
                lambda service=service: all(service.session.position(s)[0] == last[s] for s in service.session.symbols),
                40,
            )
        for service in after:
            assert service.stop(15)
    said = [(s.symbol, s.trade_id) for one in alerts for s in one.signals if s.detector is Detector.TRADE_SPIKE]
    assert said
    assert len(said) == len(set(said))
    for symbol, stream in market.streams.items():
        rows = WindowRepository(table).range("spot", symbol, 0, FAR_MS)
        newest = rows[-1]["start_ms"] + 2000
        assert all(row["complete"] for row in rows)
        assert sum(row["trade_count"] for row in rows) == sum(t.event_ms < newest for t in stream)


def test_symbols_come_and_go_without_a_restart() -> None:
    symbols = SYMBOLS[:4]
    market, table = Market(symbols, 2000), SqliteTable(":memory:")
    with ServedFeed(market.script) as feed:
        service = make(feed, table, exchange=FakeExchange())
        service._symbols = tuple(symbols[:3])
        service.session = service._new_session()
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] > 100, 20)
        assert service._on_loop.loop is not None
        asyncio.run_coroutine_threadsafe(service.follow(symbols[1:]), service._on_loop.loop).result(10)
        wait_until(lambda: service.session.symbols == tuple(symbols[1:]), 20)
        wait_until(lambda: service.session.activity().get(symbols[3], 0) > 20, 20)
        assert feed.clients == 1
        assert service.status()["reconnects"] == 0
        assert service.stop(15)


def test_each_shard_shows_itself_under_a_name_of_its_own() -> None:
    market, table = Market(SYMBOLS[:8], 100), SqliteTable(":memory:")
    with ServedFeed(market.script) as feed:
        services = shards(feed, table, market, [], 2)
        for service in services:
            wait_until(lambda service=service: service.status()["trades"] > 0)
            assert service.stop(15)
    beats = HeartbeatRepository(table).all()
    assert set(beats) == {"streamer-0", "streamer-1"}
    assert sorted(beat["trades"] for beat in beats.values()) == sorted(s.session.trades for s in services)


def test_one_machine_has_a_single_streamer_whatever_the_shards_of_a_deployment() -> None:
    base = settings(shards=3, shard_index=2)
    for here in (jobs_for(base, SqliteTable(":memory:")).settings, _as_available(base, Availability(("BTCUSDT",)))):
        assert (here.streamer.shards, here.streamer.shard_index) == (1, 0)


def test_a_shard_without_a_symbol_is_idle_and_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "TELL_S", 0.02)
    market, table = Market(SYMBOLS[:1], 100), SqliteTable(":memory:")
    check = Checked(tmp_path / "health.json", steps={"starting": 60.0, "idle": 600.0})
    with ServedFeed(market.script) as feed:
        base = with_urls(settings(shards=2, shard_index=1), feed.url)
        service = StreamerService(
            base,
            FakeExchange(),
            FakeAlerts(),
            table,
            SystemClock(),
            symbols=(),
            progress=check,  # type: ignore[arg-type]
        )
        service.run_in_thread()
        wait_until(lambda: service.status()["state"] == "idle" and check.times("idle") >= 10)
        first = wait_for_beat(table, 0)
        later = wait_for_beat(table, int(str(first["beat_ms"])))
        assert (later["state"], later["symbols"], later["trades"]) == ("idle", 0, 0)
        assert service.health().good
        assert feed.clients == 0
        assert service._on_loop.loop is not None  # the listing brings a symbol: it is carried like any other
        asyncio.run_coroutine_threadsafe(service.follow(SYMBOLS[:1]), service._on_loop.loop).result(10)
        wait_until(lambda: service.status()["trades"] == 100)
        assert service.status()["state"] == "live"
        assert service.stop(15)
    assert check.wrong == []


def wait_for_beat(table: SqliteTable, after_ms: int) -> Item:
    """Return the shard's next beat after that one."""
    found: list[Item] = []

    def beaten() -> bool:
        beat = HeartbeatRepository(table).all().get("streamer-1", {"beat_ms": 0})
        found[:] = [beat]
        return int(str(beat["beat_ms"])) > after_ms

    wait_until(beaten)
    return found[0]
