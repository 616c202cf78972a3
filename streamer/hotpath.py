"""The batch loop: everything that one read brought, through ids, windows and the spike rule, in one pass.

The messages are decoded together and each straightforward trade (the next id of its symbol, inside its newest
window, nothing waiting) is taken right here, with the detectors' own fields: three calls for each trade would cost
more than what they do. Everything else goes one by one through the careful path, which says the same of every
message; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from re import compile as pattern
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError

from shared.exchange.binance import wire
from shared.market.model import Side, Trade, TradeKind, units
from streamer.actions import Action, EmitSignal

if TYPE_CHECKING:
    from streamer.session import Session
    from streamer.symbol_state import SymbolState

_DECODE: dict[TradeKind, Callable[[bytes], Sequence[wire.OnlyTradeFrame | wire.OnlyAggTradeFrame]]] = {
    TradeKind.TRADE: wire.combined_trade_lines.decode_lines,
    TradeKind.AGG_TRADE: wire.combined_agg_trade_lines.decode_lines,
}
_SYMBOL = pattern(rb'"s":"([^"\\]+)"')
_LEAST, _EXACT_BELOW = 1e-12, 2e7  # as in shared.market.windows and shared.market.model


def take(session: Session, batch: Sequence[bytes], recv_ms: int, actions: list[Action]) -> None:
    """Take the messages of one read, in order."""
    frames: Sequence[wire.OnlyTradeFrame | wire.OnlyAggTradeFrame]
    try:
        lines = b"\n".join(batch)
        plain = session.parser.combined and lines.count(b"\n") == len(batch) - 1  # a message is one line
        frames = _DECODE[session.kind](lines) if plain else ()
    except (MsgspecError, UnicodeError, RecursionError):
        frames = ()  # one of them is something else: let each be looked at
    if len(frames) != len(batch):
        for data in batch:
            session.take_one(data, recv_ms, actions)
        return
    states, kind = session.states, session.kind
    latest_ms = recv_ms + session.parser.future_ms
    newest_ms = session.newest_ms
    slow = 0
    for data, frame in zip(batch, frames, strict=True):
        msg = frame.data
        symbol = msg.s
        try:
            state = states[symbol]
        except KeyError:
            slow += 1
            session.take_one(data, recv_ms, actions)
            continue
        event_ms = msg.T
        if state.lo <= event_ms < state.hi and event_ms <= latest_ms and event_ms <= msg.E + wire.AHEAD_MS:
            follower = state.follower
            trade_id = follower.newest + 1  # type: ignore[operator, union-attr]  # lo and hi vouch for it
            price, quantity = msg.p, msg.q
            size = round(quantity * 1e8) if quantity < _EXACT_BELOW else units(quantity)
            if msg.id == trade_id and len(data) <= follower.longest and price >= _LEAST and size:  # type: ignore[union-attr]
                follower.newest = state.last_id = trade_id  # type: ignore[union-attr]
                state.seen += 1
                if event_ms > state.last_ms:
                    state.last_ms = event_ms
                    if event_ms > newest_ms:
                        newest_ms = event_ms
                window = state.window
                window.count += 1
                window.units += size
                away = price - window.base
                window.sum += away
                window.squares += away * away
                window.last_price = price
                window.last_ms = event_ms
                window.last_id = trade_id
                pump = state.pump
                if pump is not None:
                    notional = price * quantity
                    if notional < inf:
                        pump.add(pump._now, price, notional, not msg.m, event_ms)  # type: ignore[arg-type]
                    else:
                        pump.refused += 1
                spike = state.spike
                if spike is None:
                    continue
                at, ring, before = spike._at, spike._ring, spike._sum
                spike._sum = before + size - ring[at]
                ring[at] = size
                at += 1
                if at == spike._size:
                    at = 0
                    spike._laps += 1
                spike._at = at
                if size * spike._times_quantity >= before * spike._times_sum and spike.trades > spike._size:
                    side = Side.SELL if msg.m else Side.BUY
                    reading = spike.fired(trade_id, price, quantity, side, event_ms, size, before)
                    actions.append(EmitSignal(spike.signal(reading)))
                continue
        slow += 1
        if newest_ms > session.newest_ms:
            session.newest_ms, session.newest_recv_ms = newest_ms, recv_ms
        session.take_one(data, recv_ms, actions)
        newest_ms = session.newest_ms
        state.refresh(session.parser.follower(kind, symbol))
    session.messages += len(batch) - slow
    if newest_ms > session.newest_ms:
        session.newest_ms, session.newest_recv_ms = newest_ms, recv_ms


def take_native(session: Session, feed: Any, batch: Sequence[bytes], recv_ms: int, actions: list[Action]) -> None:
    """The same with the loop in C, which stops in front of each message that is not straightforward.

    Where only the trade's time lies outside its symbol's open window, the message is known to be plain and next in
    turn, and the trade goes to the detectors without being read a second time.
    """
    market, kind, latest_ms = session.market, session.kind, recv_ms + session.parser.future_ms
    at, count = 0, len(batch)
    while True:
        upto, newest_ms, fired, beyond = feed.take(batch, at, latest_ms, session.newest_ms)
        session.messages += upto - at
        if newest_ms > session.newest_ms:
            session.newest_ms, session.newest_recv_ms = newest_ms, recv_ms
        for row, trade_id, price, quantity, event_ms, size, before, maker in fired:
            spike, side = session.rows[row].spike, Side.SELL if maker else Side.BUY
            if spike is not None:
                reading = spike.fired(trade_id, price, quantity, side, event_ms, size, before)
                actions.append(EmitSignal(spike.signal(reading)))
        if upto >= count:
            return
        at = upto + 1
        if beyond is not None:
            row, trade_id, price, quantity, event_ms, _, _, maker = beyond
            state = session.rows[row]
            state.own()
            follower = state.follower
            if follower is not None and follower.newest == trade_id - 1:
                follower.newest = trade_id
                session.messages += 1
                side = Side.SELL if maker else Side.BUY
                trade = Trade(market, state.symbol, kind, trade_id, price, quantity, side, event_ms, recv_ms)
                session._trade(trade, actions)
                state.refresh(follower)
                state.open()
                continue
        data = batch[upto]
        found = _SYMBOL.findall(data)
        touched: SymbolState | None = None
        if len(found) == 1 and data.count(b'"s"') == 1:
            touched = session.states.get(found[0].decode("utf-8", "replace"))
        if touched is not None:
            touched.own()
        else:
            session.own_all()  # whose it is only the parser can tell
        session.take_one(data, recv_ms, actions)
        latest_ms = recv_ms + session.parser.future_ms
        if touched is not None:
            touched.refresh(session.parser.follower(kind, touched.symbol))
            touched.open()
        if not session.parser.combined:
            session.own_all()
            for number in range(at, count):
                session.take_one(batch[number], recv_ms, actions)
            return
