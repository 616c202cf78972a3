"""The rows of a trade archive through a session: the plain ones in C, each other one left to the caller."""

from __future__ import annotations

from typing import NamedTuple

from shared.detection.reading import Signal
from shared.exchange.binance.ids import IdFollower
from shared.market.model import Side, Trade, TradeKind
from streamer.session import Session

FLAG_COLUMN = {TradeKind.TRADE: 5, TradeKind.AGG_TRADE: 6}
_ALWAYS = 1 << 62


class Taken(NamedTuple):
    """`rows` were taken, up to the byte `next`; `signals` carry their row's number among them.

    `trade` is the row behind them, if it is plain and may open another window: `next` lies behind it, and the caller
    gives it to the session. Without it the row at `next` is to be read with care.
    """

    next: int
    rows: int
    signals: list[tuple[int, Signal]]
    trade: Trade | None


class ArchiveRows:
    """One symbol's rows, in order, through a session made with `rows=True`."""

    def __init__(self, session: Session, symbol: str) -> None:
        self._session = session
        self._state = session.states[symbol]
        self._flag = FLAG_COLUMN[session.kind]
        self._follower = IdFollower()

    def take(self, text: bytes, start: int, since_ms: int | None, until_ms: int | None) -> Taken:
        """Take rows of `text`, which holds whole lines, from byte `start` on.

        Rows with a time outside [since_ms, until_ms) are counted and passed over.
        """
        session, state = self._session, self._state
        feed = session.feed
        if feed is None or state.row < 0:
            return Taken(start, 0, [], None)
        if not state.opened:
            self._follower.newest = state.last_id
            state.refresh(self._follower)
            state.open()
        at, rows, newest_ms, fired, beyond = feed.take_rows(
            state.row, text, start, self._flag,
            -_ALWAYS if since_ms is None else since_ms, _ALWAYS if until_ms is None else until_ms, session.newest_ms,
        )  # fmt: skip
        if newest_ms > session.newest_ms:
            session.newest_ms = session.newest_recv_ms = newest_ms
        spike, signals = state.spike, []
        for number, trade_id, price, quantity, event_ms, size, before, maker in fired:
            if spike is not None:
                side = Side.SELL if maker else Side.BUY
                reading = spike.fired(trade_id, price, quantity, side, event_ms, size, before)
                signals.append((number, spike.signal(reading)))
        if beyond is None:
            return Taken(at, rows, signals, None)
        at, trade_id, price, quantity, event_ms, _, _, maker = beyond
        return Taken(at, rows, signals, self._trade(trade_id, price, quantity, event_ms, maker))

    def _trade(self, trade_id: int, price: float, quantity: float, event_ms: int, maker: bool) -> Trade:
        session, side = self._session, Side.SELL if maker else Side.BUY
        return Trade(
            session.market, self._state.symbol, session.kind, trade_id, price, quantity, side, event_ms, event_ms
        )
