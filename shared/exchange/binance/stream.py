"""Text and time in, events out: one parser per market, for combined and raw streams, across reconnects."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from shared.exchange.binance import messages, wire
from shared.exchange.binance.events import (
    Ack,
    BookSnapshot,
    DepthGap,
    Malformed,
    Repeat,
    ServerShutdown,
    SetAside,
    StreamEvent,
)
from shared.exchange.binance.followed import FollowedTrades
from shared.market.model import Market, Side, Trade, TradeKind

MAX_MESSAGE = 1 << 20
"""Longest message that is looked into; a book of 1,000 levels a side has 70 KB."""
_PARTIAL = ("@depth5", "@depth10", "@depth20")
# Looked up once: an enum member costs 60 ns to reach through its class, a module's name 20 ns.
_TRADE, _AGG_TRADE, _BUY, _SELL = TradeKind.TRADE, TradeKind.AGG_TRADE, Side.BUY, Side.SELL
_AHEAD_MS = wire.AHEAD_MS
_WireTrade, _combined_trade, _raw_trade = wire.WireTrade, wire.combined_trade.decode, wire.raw_trade.decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_NOT_PLAIN = (*_UNREADABLE, KeyError)  # KeyError: the first trade of a symbol
_DAY_MS = 86_400_000
_ANY_FUTURE_MS = 5_000_000_000_000  # 158 years: no limit, and still no time of 14 digits


class _Draft:
    """A Trade in the making: the same slots, but not frozen.

    A frozen dataclass of nine fields takes 1,200 ns to build because each field goes through object.__setattr__;
    filling plain slots and then turning the object into a Trade takes 200 ns and gives the very same value.
    """

    __slots__ = ("event_ms", "kind", "market", "price", "quantity", "recv_ms", "side", "symbol", "trade_id")


class StreamParser(FollowedTrades):
    """Parse the messages of one market's streams; remembers the ids of each kind and symbol.

    Nothing is raised, whatever comes in. Counters: `messages` by kind, `rejected` by reason (malformed and set
    aside), `ignored`, `repeats` and `gaps` (ids missing at first sight) by kind.
    """

    def __init__(self, market: Market, *, raw_symbol: str | None = None, max_future_ms: int | None = 60_000) -> None:
        """Make a parser that has seen nothing.

        Args:
            market: whose streams these are; COIN-M messages on USD-M streams are ignored.
            raw_symbol: whose book it is when a message names none (raw partial depth, inline REST bodies).
            max_future_ms: a trade later than its receipt by more is refused; None where the two clocks differ.
        """
        super().__init__(market)
        self.rejected: Counter[str] = Counter()
        self.depth_gaps = 0
        self._raw_symbol = raw_symbol
        self._max_future_ms = max_future_ms
        self._clock_ahead_ms = 0
        self._future_ms = _ANY_FUTURE_MS if max_future_ms is None else max_future_ms
        self._depth_ids: dict[str, int] = {}
        self._length = 0  # of the message being parsed
        self._combined = True  # what the last trade looked like; the other form is found the slow way

    # --- the hot path -------------------------------------------------------------------------------------
    def receive(self, data: bytes | str, recv_ms: int) -> list[StreamEvent]:
        """Parse one message received at `recv_ms`. A hole stands before the event that revealed it."""
        try:
            msg = _combined_trade(data).data if self._combined else _raw_trade(data)
            if msg.__class__ is _WireTrade:
                kind, follower = _TRADE, self._trades[msg.s]
            else:
                kind, follower = _AGG_TRADE, self._agg_trades[msg.s]
        except _NOT_PLAIN:
            return self._other(data, recv_ms)
        event_ms = msg.T
        next_id = follower.newest + 1  # type: ignore[operator]  # a follower in the tables has seen an id
        if (
            msg.id == next_id
            and event_ms <= recv_ms + self._future_ms
            and event_ms <= msg.E + _AHEAD_MS
            and len(data) <= follower.longest
        ):
            follower.newest = next_id
            draft: Any = _Draft()
            draft.market = self.market
            draft.symbol = msg.s
            draft.kind = kind
            draft.trade_id = next_id
            draft.price = msg.p
            draft.quantity = msg.q
            draft.side = _SELL if msg.m else _BUY  # m: the buyer was the maker, so the seller crossed
            draft.event_ms = event_ms
            draft.recv_ms = recv_ms
            draft.__class__ = Trade
            return [draft]
        return self._other(data, recv_ms)

    @property
    def combined(self) -> bool:
        """The last trade came wrapped by a combined stream."""
        return self._combined

    @property
    def future_ms(self) -> int:
        """How much later than its receipt a trade may be, without a closer look."""
        return self._future_ms

    # --- everything else ----------------------------------------------------------------------------------
    def _other(self, data: bytes | str, recv_ms: int) -> list[StreamEvent]:
        """Parse what the hot path did not take: other kinds, jumps in the ids, odd values, broken messages."""
        self._length = len(data)
        if len(data) > MAX_MESSAGE:
            return [self._malformed("too large", data)]
        try:
            if data[:1] in (b"[", "["):
                return self._array(data, recv_ms)
            top = wire.envelope.decode(data)
            if top.data is not msgspec.UNSET:
                stream = top.stream if isinstance(top.stream, str) else ""
                inner = bytes(top.data)
                if inner[:1] == b"[":
                    return self._array(inner, recv_ms)
                return self._event(inner, stream, recv_ms, combined=True)
            if top.result is not msgspec.UNSET or top.error is not msgspec.UNSET or top.code is not msgspec.UNSET:
                return [self._ack(top)]
            return self._event(data, "", recv_ms, combined=False)
        except _UNREADABLE:
            return [self._malformed("json", data)]

    def _array(self, data: bytes | str, recv_ms: int) -> list[StreamEvent]:
        """Parse a list of events (`!markPrice@arr` and its kin)."""
        rows = wire.array.decode(data)
        self._length = 0
        if not rows:
            return [self._malformed("empty list", data)]
        events: list[StreamEvent] = []
        for row in rows:
            try:
                events += self._event(bytes(row), "", recv_ms, combined=self._combined)
            except _UNREADABLE:
                events.append(self._malformed("json", bytes(row)))
        return events

    def _event(self, data: bytes | str, stream: str, recv_ms: int, *, combined: bool) -> list[StreamEvent]:
        top = wire.head.decode(data)
        kind = top.e
        if kind in ("trade", "aggTrade"):
            self._combined = combined
            return self._trade(TradeKind(kind), data, recv_ms)
        if top.st == 2 or (isinstance(top.s, str) and wire.is_coin_margined(top.s)):
            return [self._ignore("coin-margined")]
        if kind is msgspec.UNSET:
            return self._nameless(top, data, stream, recv_ms)
        if kind == "serverShutdown":
            self._messages[kind] += 1
            return [ServerShutdown()]
        if kind not in ("kline", "depthUpdate", "markPriceUpdate", "forceOrder"):
            return [self._ignore(kind) if isinstance(kind, str) else self._malformed("event type", data)]
        payload = wire.fields.decode(data)
        if kind == "forceOrder":
            return self._liquidation(payload, data, recv_ms)
        symbol = payload.get("s")
        if not wire.is_symbol(symbol):
            return [self._malformed(f"{kind}: symbol", data)]
        if kind == "kline":
            return self._kline(payload, data, recv_ms)
        if kind == "markPriceUpdate":
            return self._take(kind, self._now(messages.mark_price(payload), payload, recv_ms), data)
        if any(word in stream for word in _PARTIAL):
            return self._book(str(symbol), payload, data, recv_ms)
        return self._depth(str(symbol), payload, data)

    def _nameless(self, top: wire.Head, data: bytes | str, stream: str, recv_ms: int) -> list[StreamEvent]:
        """Know an event without `e` by its fields: spot's partial book and book ticker, inline REST bodies."""
        if top.last_update_id is not msgspec.UNSET:
            named = stream.partition("@")[0].upper() or self._raw_symbol
            if named is None:
                return [self._ignore("book without a symbol")]
            return self._book(named, wire.fields.decode(data), data, recv_ms)
        if top.best_bid_quantity is not msgspec.UNSET and top.best_ask_quantity is not msgspec.UNSET:
            return [self._ignore("bookTicker")]
        if top.open_interest is not msgspec.UNSET:
            return [self._ignore("openInterest")]
        return [self._malformed("no event type", data)]

    def _trade(self, kind: TradeKind, data: bytes | str, recv_ms: int) -> list[StreamEvent]:
        """Parse one trade carefully: the id counts even when a value is poison, else the stream would freeze."""
        row = wire.fields.decode(data)
        id_name = "t" if kind is TradeKind.TRADE else "a"
        symbol, given = row.get("s"), row.get(id_name)
        if not wire.is_symbol(symbol):
            return [self._malformed(f"{kind}: symbol", data)]
        assert isinstance(symbol, str)  # noqa: S101 - is_symbol made sure of it
        if row.get("st") == 2 or wire.is_coin_margined(symbol):
            return [self._ignore("coin-margined")]
        if not {"p", "q", "T", "m"} <= row.keys():
            return [self._malformed(f"{kind}: field missing", data)]  # the hole it leaves is filled over REST
        as_text = isinstance(given, str) and len(given) <= 19 and given.isascii() and given.isdigit()
        id_ = wire.whole(int(str(given)) if as_text else given)
        if id_ is None:
            return [self._malformed(f"{kind}: id", data)]
        price, quantity = wire.positive(row["p"]), wire.positive(row["q"])
        event_ms, maker = wire.time_ms(row["T"]), row["m"]
        events, deliver = self._follow(kind, symbol, id_)
        if not deliver:
            return events
        if as_text or price is None or quantity is None or event_ms is None or not isinstance(maker, bool):
            reason = (
                "id" if as_text else "price" if price is None else "quantity" if quantity is None
                else "time" if event_ms is None else "side"
            )  # fmt: skip
            return [*events, self._set_aside(reason, symbol, kind, id_)]
        if self._is_future(event_ms, recv_ms, wire.time_ms(row.get("E"))):
            return [*events, self._set_aside("future", symbol, kind, id_)]
        follower = self._follower(kind, symbol)
        if follower is not None and follower.longest < self._length:
            follower.longest = self._length
        side = Side.SELL if maker else Side.BUY
        return [*events, Trade(self.market, symbol, kind, id_, price, quantity, side, event_ms, recv_ms)]

    def _kline(self, payload: dict[str, Any], data: bytes | str, recv_ms: int) -> list[StreamEvent]:
        k = payload.get("k")
        interval = k.get("i", "1m") if isinstance(k, dict) else "1m"
        if interval != "1m":
            return [self._ignore(f"kline_{interval}" if isinstance(interval, str) else "kline")]
        update = messages.bar_update(self.market, payload)
        if not isinstance(update, str) and self._is_future(update.bar.open_ms, recv_ms, wire.time_ms(payload.get("E"))):
            update = "future"
        return self._take("kline", update, data)

    def _now(self, event: Any, payload: dict[str, Any], recv_ms: int) -> Any:
        """Return an event, or the word for what is wrong with its time."""
        if not isinstance(event, str) and self._is_future(event.event_ms, recv_ms, wire.time_ms(payload.get("E"))):
            return "future"
        return event

    def _liquidation(self, payload: dict[str, Any], data: bytes | str, recv_ms: int) -> list[StreamEvent]:
        order = payload.get("o")
        if not isinstance(order, dict) or not wire.is_symbol(order.get("s")):
            return [self._malformed("forceOrder: order", data)]
        if order.get("st") == 2 or wire.is_coin_margined(order["s"]):
            return [self._ignore("coin-margined")]
        found = self._now(messages.liquidation(order, payload.get("E")), payload, recv_ms)
        return self._take("forceOrder", found, data)

    def _book(self, symbol: str, payload: dict[str, Any], data: bytes | str, recv_ms: int) -> list[StreamEvent]:
        book = messages.order_book(self.market, symbol, payload, recv_ms)
        return self._take("book", book if isinstance(book, str) else BookSnapshot(book), data)

    def _depth(self, symbol: str, payload: dict[str, Any], data: bytes | str) -> list[StreamEvent]:
        """Check the chain of differences: `pu` is the previous `u` on futures, `U` the previous `u` + 1 on spot."""
        diff = messages.depth_diff(payload)
        if diff == "level":  # the ids are good: go on, but let the book be taken anew
            self._depth_ids[symbol] = payload["u"]
            return [self._set_aside("level", symbol, "depthUpdate", payload["u"])]
        if isinstance(diff, str):
            return [self._malformed(f"depthUpdate: {diff}", data)]
        before = self._depth_ids.get(symbol)
        self._messages["depthUpdate"] += 1
        if before is not None and before - wire.DEPTH_EPOCH < diff.last_id <= before:
            self.repeats["depthUpdate"] += 1
            return [Repeat(symbol, "depthUpdate", diff.last_id)]
        self._depth_ids[symbol] = diff.last_id
        if before is None:
            return [diff]
        expected, got = (before + 1, diff.first_id) if diff.prev_id is None else (before, diff.prev_id)
        if expected == got:
            return [diff]
        self.depth_gaps += 1
        return [DepthGap(symbol, expected, got), diff]

    @property
    def clock_ahead_ms(self) -> int:
        """How far the exchange's clock is ahead of ours; set it when known, so that no trade looks early."""
        return self._clock_ahead_ms

    @clock_ahead_ms.setter
    def clock_ahead_ms(self, ahead_ms: int) -> None:
        self._clock_ahead_ms = ahead_ms
        if self._max_future_ms is not None:
            self._future_ms = self._max_future_ms + ahead_ms

    def _is_future(self, event_ms: int, recv_ms: int, sent_ms: int | None) -> bool:
        """Tell a poison time from a fast clock: the message's own time (`E`) is the exchange's, and it decides.

        A time close to its message's is no poison, it shows how far the exchange's clock is ahead of ours (a recording
        played back fast runs away from the wall); only a message that is itself a day ahead is not believed.
        """
        if self._max_future_ms is not None and sent_ms is not None and event_ms > sent_ms + wire.AHEAD_MS:
            return True
        if recv_ms < wire.FIRST_MS or event_ms <= recv_ms + self._future_ms:
            return False  # a receipt that is no time at all (a recording without one) says nothing about the future
        if self._max_future_ms is None or sent_ms is None or sent_ms > recv_ms + self._future_ms + _DAY_MS:
            return True
        self._future_ms = max(self._future_ms, sent_ms - recv_ms + self._max_future_ms)
        return False

    # --- small change -------------------------------------------------------------------------------------
    def _take(self, kind: str, result: Any, data: bytes | str) -> list[StreamEvent]:
        """Count an event, or turn the word for what was wrong into a Malformed."""
        if isinstance(result, str):
            return [self._malformed(f"{kind}: {result}", data)]
        self._messages[kind] += 1
        return [result]

    def _ack(self, top: wire.Envelope) -> Ack:
        self._messages["ack"] += 1
        detail = top.error if isinstance(top.error, dict) else {"code": top.code, "msg": top.msg}
        failed = top.error is not msgspec.UNSET or top.code is not msgspec.UNSET
        error = f"{detail.get('code')} {detail.get('msg')}"[:200] if failed else None
        return Ack(top.id if isinstance(top.id, int | str) else None, error)

    def _set_aside(self, reason: str, symbol: str, kind: str, id_: int) -> SetAside:
        self.rejected[reason] += 1
        return SetAside(reason, symbol, kind, id_)

    def _malformed(self, reason: str, data: bytes | str) -> Malformed:
        self.rejected[reason] += 1
        start = data[:800]
        text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
        return Malformed(reason, text[:200])
