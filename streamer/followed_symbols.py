"""The symbols that a session follows, where each of them stands, and what is counted over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from shared.exchange.binance.stream import StreamParser
from shared.market.model import Market, TradeKind, Window
from shared.settings import Settings
from streamer.native import load as load_native
from streamer.symbol_state import SymbolState

_MOST_NATIVE_TRADES, _MOST_NATIVE_SYMBOL = 1_000, 64  # what the native loop's rows hold


class FollowedSymbols:
    """Symbols come and go; each has one state and, where there is a native loop, one row of it."""

    def __init__(
        self,
        settings: Settings,
        market: Market,
        symbols: Iterable[str],
        *,
        kind: TradeKind | None = None,
        together: bool = False,
        rows: bool = False,
    ) -> None:
        """Make a session that has seen nothing.

        Args:
            kind: the one kind of trades that is used, because sizes of the two are never mixed; None takes spot's
                from the settings, and aggregates on USD-M, whose single trades are undocumented.
            together: closed windows wait for the next `tick` and are judged all at once, which is far cheaper for
                hundreds of symbols whose windows end at the same instant.
            rows: it is to be given an archive's rows (`streamer.archive`).
        """
        if kind is None:
            kind = TradeKind(settings.streamer.trade_kind) if market is Market.SPOT else TradeKind.AGG_TRADE
        self._settings = settings
        self.market = market
        self.kind = kind
        self.parser = StreamParser(market)
        self.feed: Any | None = None
        native = load_native() if together or rows else None
        if native is not None and settings.trade_spike.window_trades <= _MOST_NATIVE_TRADES:
            self.feed = native.Feed(self.kind.value.encode())
        self.rows: list[SymbolState] = []  # by the native loop's number
        self.states: dict[str, SymbolState] = {}
        for symbol in dict.fromkeys(symbols):
            self.states[symbol] = self._state(symbol)
        self._together = together
        self._at_once = not together
        self._closed: list[tuple[SymbolState, Window]] = []
        self.newest_ms = 0  # newest trade time of any symbol: the exchange's clock as we know it
        self.newest_recv_ms = 0  # when that trade was received
        self.messages = 0
        self.windows = 0
        self.gaps = 0
        self.rejected: Counter[str] = Counter()
        self.clock_ahead_ms = 0
        self._gone_trades = 0  # used from symbols that are not followed any more
        self._lost = 0

    def _state(self, symbol: str) -> SymbolState:
        return self._adopted(SymbolState(self._settings, self.market, symbol))

    def _adopted(self, state: SymbolState) -> SymbolState:
        """Give the state a row of the native loop, its symbol's own if there is one already."""
        name = state.symbol.encode()
        if self.feed is not None and len(name) <= _MOST_NATIVE_SYMBOL:
            row = next((at for at, other in enumerate(self.rows) if other.symbol == state.symbol), None)
            if row is None:
                row = self.feed.add(name, state.spike._size if state.spike is not None else 0)
                self.rows.append(state)
            else:
                self.rows[row] = state
            state.adopt(self.feed, row)
        return state

    def own_all(self) -> None:
        """Take every symbol back from the native loop."""
        for state in self.states.values():
            state.own()

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.states)

    def set_clock_ahead(self, ahead_ms: int) -> None:
        """Tell by how much the exchange's clock is ahead of the one that stamps receipts."""
        self.clock_ahead_ms = ahead_ms
        self.parser.clock_ahead_ms = ahead_ms

    def add_symbol(self, symbol: str) -> None:
        """Follow one more symbol; nothing happens when it is followed already."""
        if symbol not in self.states:
            self.states[symbol] = self._state(symbol)

    def drop_symbol(self, symbol: str) -> None:
        """Follow a symbol no longer. Take its snapshot before, to let another task go on with it."""
        state = self.states.pop(symbol, None)
        if state is not None:
            state.own()
            self._gone_trades += state.seen
            self._closed = [item for item in self._closed if item[0] is not state]
            self.parser.forget(self.kind, symbol)

    # --- what the shell asks ------------------------------------------------------------------------------------
    def position(self, symbol: str) -> tuple[int | None, int]:
        """Return the newest id delivered and the newest trade time of a symbol."""
        state = self.states[symbol]
        state.own()
        return (state.last_id if state.last_id >= 0 else None), state.last_ms

    @property
    def loop(self) -> str:
        """Which batch loop takes the straightforward trades: `native` (C) or `python`."""
        return "python" if self.feed is None else "native"

    @property
    def trades(self) -> int:
        """Trades used since the start."""
        return self._gone_trades + sum(state.used for state in self.states.values())

    @property
    def missing(self) -> int:
        """Ids inside gaps that have not come."""
        return self._lost + sum(gap.size for gap in self.parser.missing())

    @property
    def lag_ms(self) -> int:
        """Receipt minus trade time of the newest trade, on the exchange's clock."""
        return self.newest_recv_ms + self.clock_ahead_ms - self.newest_ms if self.newest_recv_ms else 0

    def activity(self) -> dict[str, int]:
        """Return messages by symbol since the start: what the watchdog looks at."""
        return {symbol: state.heard for symbol, state in self.states.items()}
