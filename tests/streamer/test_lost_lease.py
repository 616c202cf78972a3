"""A lease lost while the past is fetched: the thread that fetches it feeds no session but its own."""

from __future__ import annotations

import threading

from websockets.asyncio.server import ServerConnection

from shared.exchange.binance.events import Gap
from shared.exchange.binance.ids import IdFollower
from shared.exchange.binance.stream import StreamParser
from shared.market.model import Market, Trade, TradeKind
from shared.storage.sqlite import SqliteTable
from tests.streamer.feed import Feed
from tests.streamer.streams import settings, trades
from tests.streamer.test_service import FakeExchange, ServedFeed, make, wait_until


class SlowPage(FakeExchange):
    """Answers one page only when told, the first time it is asked for; notes who asks for which."""

    def __init__(self, past: list[Trade], slow: int) -> None:
        super().__init__(past)
        self.slow, self.reached, self.go = slow, threading.Event(), threading.Event()
        self.asked: list[tuple[threading.Thread, int | None]] = []

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        self.asked.append((threading.current_thread(), from_id))
        if from_id == self.slow and not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(30)
        return super().historical_trades(market, symbol, from_id=from_id, limit=limit)

    agg_trades = historical_trades


def test_the_past_of_a_lost_lease_does_not_go_into_the_next_session() -> None:
    async def quiet(feed: Feed, client: ServerConnection, number: int) -> None:
        await client.wait_closed()

    stream = trades(6000, seed=1)
    exchange = SlowPage(stream, stream[3000].trade_id or 0)
    base = settings(warmup_trades=True, warmup_hours=10_000.0)
    with ServedFeed(quiet) as feed:
        service = make(feed, SqliteTable(":memory:"), base=base, exchange=exchange)
        service.run_in_thread()
        assert exchange.reached.wait(30)
        first, thread = service.session, exchange.asked[-1][0]
        known = first.trades
        service._on_loop(service._lose)  # and won again at once: whoever took over has ended
        wait_until(lambda: service.session is not first and service.past.status["state"] == "done")
        second, asked = service.session, len(exchange.asked)
        learnt = second.trades
        exchange.go.set()
        thread.join(30)
        assert not thread.is_alive()
        assert [who for who, _ in exchange.asked[asked:] if who is thread] == []
        assert (first.trades, second.trades, second.missing, second.gaps) == (known, learnt, 0, 0)
        assert second.position("BTCUSDT")[0] == stream[-1].trade_id
        assert service.stop()


def test_what_is_missing_can_be_asked_while_symbols_are_added() -> None:
    parser = StreamParser(Market.SPOT)

    class Adding(IdFollower):
        """Another symbol's first trade comes while the holes are counted."""

        def gaps(self) -> list[tuple[int, int]]:
            parser._trades.setdefault("NEWUSDT", IdFollower())
            return [(5, 6)]

    parser._trades["BTCUSDT"] = Adding()
    assert parser.missing() == [Gap(Market.SPOT, "BTCUSDT", TradeKind.TRADE, 5, 6)]
