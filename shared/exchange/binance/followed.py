"""The trades of one market, followed by id per kind and symbol, across reconnects, restarts and filling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from shared.exchange.binance.events import Epoch, Gap, Ignored, Repeat, StreamEvent
from shared.exchange.binance.ids import IdFollower, Seen
from shared.market.model import Market, Trade, TradeKind

MAX_SYMBOLS = 20_000
MAX_KINDS = 100  # different words counted before the rest is counted as "other"


class FollowedTrades:
    """The parser's memory: which ids came, which are missing, and how many messages of each kind there were."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.ignored: Counter[str] = Counter()
        self.repeats: Counter[str] = Counter()
        self.gaps: Counter[str] = Counter()
        self.epochs = 0
        self._messages: Counter[str] = Counter()
        self._trades: dict[str, IdFollower] = {}
        self._agg_trades: dict[str, IdFollower] = {}

    @property
    def messages(self) -> Counter[str]:
        """Messages understood, by kind."""
        counts = Counter(self._messages)
        for kind, followers in self._tables():
            counts[str(kind)] += sum(follower.advanced for follower in followers.values())
        return +counts

    def fill(self, trades: Iterable[Trade]) -> list[StreamEvent]:
        """Take trades fetched over REST: those still missing come out once, those already seen as Repeat."""
        events: list[StreamEvent] = []
        for trade in trades:
            if trade.trade_id is None:
                continue
            before, deliver = self._follow(trade.kind, trade.symbol, trade.trade_id)
            events += before
            if deliver:
                events.append(trade)
        return events

    def missing(self) -> list[Gap]:
        """Return every hole that is still open; safe from any thread, also while symbols are added."""
        return [
            Gap(self.market, symbol, kind, first, last)
            for kind, followers in self._tables()
            for symbol, follower in list(followers.items())
            for first, last in follower.gaps()
        ]

    def missing_of(self, gap: Gap) -> list[Gap]:
        """Return what is still open of a hole."""
        follower = dict(self._tables())[gap.kind].get(gap.symbol)
        return [
            Gap(gap.market, gap.symbol, gap.kind, max(first, gap.first_id), min(last, gap.last_id))
            for first, last in (follower.gaps() if follower else ())
            if first <= gap.last_id and last >= gap.first_id
        ]

    def follower(self, kind: TradeKind, symbol: str) -> IdFollower | None:
        """Return what follows the ids of a symbol; None before its first."""
        return (self._trades if kind is TradeKind.TRADE else self._agg_trades).get(symbol)

    def abandon(self, gap: Gap) -> int:
        """Give up what is still missing of a hole that cannot be filled; return how many ids were given up."""
        follower = dict(self._tables())[gap.kind].get(gap.symbol)
        return follower.abandon(gap.first_id, gap.last_id) if follower else 0

    def last_ids(self) -> dict[str, int]:
        """Return the newest id of each stream, by `kind:SYMBOL`."""
        return {
            f"{kind}:{symbol}": follower.newest
            for kind, followers in self._tables()
            for symbol, follower in followers.items()
            if follower.newest is not None
        }

    def resume(self, last_ids: Mapping[str, int], missing: Iterable[Gap] = ()) -> None:
        """Go on after a restart: what lies between these ids and the next message is a Gap."""
        tables = dict(self._tables())
        for name, newest in last_ids.items():
            kind, _, symbol = name.partition(":")
            tables[TradeKind(kind)][symbol] = IdFollower(newest)
        for gap in missing:
            follower = tables[gap.kind].get(gap.symbol)
            if follower is not None:
                follower.expect(gap.first_id, gap.last_id)

    def forget(self, kind: TradeKind, symbol: str) -> None:
        """Follow a symbol no longer."""
        (self._trades if kind is TradeKind.TRADE else self._agg_trades).pop(symbol, None)

    def _follow(self, kind: TradeKind, symbol: str, id_: int) -> tuple[list[StreamEvent], bool]:
        """Step the ids; return what must stand before the trade, and whether the trade is to be delivered."""
        follower = self._follower(kind, symbol)
        if follower is None:
            return [self._ignore("too many symbols")], False
        self._messages[kind] += 1
        step = follower.step(id_)
        if step.seen is Seen.REPEAT:
            self.repeats[kind] += 1
            return [Repeat(symbol, kind, id_)], False
        events: list[StreamEvent] = []
        if step.seen is Seen.EPOCH:
            self.epochs += 1
            events.append(Epoch(symbol, kind, step.old_id or 0, id_, step.back_to, step.recovered))
        if step.gap is not None:
            first, last = step.gap
            self.gaps[kind] += last - first + 1
            events.append(Gap(self.market, symbol, kind, first, last))
        return events, True

    def _tables(self) -> tuple[tuple[TradeKind, dict[str, IdFollower]], ...]:
        return (TradeKind.TRADE, self._trades), (TradeKind.AGG_TRADE, self._agg_trades)

    def _follower(self, kind: TradeKind, symbol: str) -> IdFollower | None:
        followers = self._trades if kind is TradeKind.TRADE else self._agg_trades
        follower = followers.get(symbol)
        if follower is None and len(followers) < MAX_SYMBOLS:
            follower = followers[symbol] = IdFollower()
        return follower

    def _ignore(self, kind: str) -> Ignored:
        word = kind[:40]
        if word not in self.ignored and len(self.ignored) >= MAX_KINDS:
            word = "other"
        self.ignored[word] += 1
        return Ignored(word)
