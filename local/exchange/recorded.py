"""A market made of recordings: its past over REST, its messages played back over streams."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import msgspec

from local.exchange.recorded_values import RecordedSymbol, candle_of_bar, instrument_of, print_of_trade
from local.exchange.source import Candle, Forced, Instrument, Ladder, Mark, Played, Print
from local.exchange.streams import kline_message, trade_message
from local.recording_rows import parse_trade_json
from local.recordings import Frame, Recording, RecordingKind, read, read_bars, read_trades
from shared.clock import MINUTE_MS
from shared.errors import UsageError
from shared.market.bars import BarBuilder, normalize_bars
from shared.market.model import Bar, Market, Trade, TradeKind


class _Wrapped(msgspec.Struct):
    stream: str | None = None
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    lastUpdateId: int | None = None  # noqa: N815 - the exchange's word
    bids: list[tuple[str, str]] = msgspec.field(default_factory=list)
    asks: list[tuple[str, str]] = msgspec.field(default_factory=list)


_wrapped = msgspec.json.Decoder(_Wrapped)


class RecordedMarket:
    """A MarketSource over recordings (see `local.recordings.discover`).

    REST answers come from recorded klines, or from bars built of the recorded trades; depth from the REST bodies that
    a recorder left among its frames (the first one until its time has come). Futures figures are not in recordings.
    Where a source lacks the takers' volume, half of the volume stands for it: neutral, never 0.
    """

    def __init__(self, recordings: Sequence[Recording], *, start_ms: int | None = None) -> None:
        self.recordings = tuple(recordings)
        self._start_ms = start_ms
        self._symbols: dict[tuple[Market, str], list[Recording]] = {}
        for recording in self.recordings:
            for symbol in [recording.symbol] if recording.symbol else _symbols_in(recording):
                self._symbols.setdefault((recording.market, symbol), []).append(recording)
        self._of = cache(self._load)

    @property
    def streams(self) -> bool:
        """Tell whether there is anything but klines: something worth playing back."""
        return any(r.kind is not RecordingKind.KLINES for r in self.recordings)

    def first_ms(self) -> int:
        """Return when the recording begins.

        Raises:
            UsageError: it is empty.
        """
        first = next(self.playback(), None)
        if first is None:
            raise UsageError("the recordings are empty from there on")
        return first.at_ms

    def last_ms(self) -> int:
        """Return when the newest recorded bar or trade closed; reads everything."""
        return max((self._of(market, symbol).last_ms for market, symbol in self._symbols), default=0)

    def instruments(self, market: Market) -> Sequence[Instrument]:
        return [instrument_of(of, symbol) for of, symbol in self._symbols if of is market]

    def candles(
        self, market: Market, symbol: str, *, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> list[Candle]:
        if (market, symbol) not in self._symbols or limit < 1:
            return []
        recorded = self._of(market, symbol)
        opens = recorded.opens
        a = 0 if start_ms is None else bisect_left(opens, start_ms)
        b = bisect_right(opens, now_ms if end_ms is None else min(end_ms, now_ms))
        a, b = (max(a, b - limit), b) if start_ms is None else (a, min(b, a + limit))
        closed = bisect_right(opens, now_ms - MINUTE_MS)  # the bars from here on are still running
        out = [candle_of_bar(bar) for bar in recorded.bars[a : min(b, closed)]]
        if b > closed >= a and (running := self._running(market, symbol, opens[closed], now_ms)) is not None:
            out.append(running)
        return out

    def prints(
        self,
        market: Market,
        symbol: str,
        *,
        aggregate: bool,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int,
        now_ms: int,
    ) -> list[Print]:
        if (market, symbol) not in self._symbols or limit < 1:
            return []
        recorded = self._of(market, symbol)
        trades = recorded.aggregates if aggregate else recorded.trades
        b = bisect_right(trades, now_ms if end_ms is None else min(end_ms, now_ms), key=lambda t: t.event_ms)
        if from_id is not None:
            a = bisect_left(trades, from_id, key=lambda t: t.trade_id or 0)
        elif start_ms is not None:
            a = bisect_left(trades, start_ms, key=lambda t: t.event_ms)
        else:
            a = max(0, b - limit)
        return [print_of_trade(t) for t in trades[a : min(b, a + limit)]]

    def ladder(self, market: Market, symbol: str, *, levels: int, now_ms: int) -> Ladder | None:
        if (market, symbol) not in self._symbols:
            return None
        ladders = self._of(market, symbol).ladders
        if not ladders:
            return None
        at = max(0, bisect_right(ladders, now_ms, key=lambda ladder: ladder.event_ms) - 1)
        found = ladders[at]
        return Ladder(found.update_id, found.bids[:levels], found.asks[:levels], found.event_ms)

    def open_interest(self, symbol: str, at_ms: int) -> str | None:
        return None

    def mark(self, symbol: str, at_ms: int) -> Mark | None:
        return None

    def liquidations(self, *, after_ms: int, upto_ms: int) -> list[Forced]:
        return []

    def playback(self) -> Iterator[Played]:
        """Yield every message of every recording, merged by time; trades also close their 1-minute klines."""
        played = heapq.merge(*map(_played, self.recordings), key=lambda message: message.at_ms)
        return (message for message in played if self._start_ms is None or message.at_ms >= self._start_ms)

    def _running(self, market: Market, symbol: str, open_ms: int, now_ms: int) -> Candle | None:
        """Build the running bar of the trades so far; recorded klines have none."""
        recorded = self._of(market, symbol)
        builder = BarBuilder(market, symbol)
        trades = recorded.trades or recorded.aggregates
        a = bisect_left(trades, open_ms, key=lambda t: t.event_ms)
        b = bisect_right(trades, now_ms, key=lambda t: t.event_ms)
        for trade in trades[a:b]:
            builder.add(trade)
        bar = builder.running()
        return None if bar is None else candle_of_bar(bar)

    def _load(self, market: Market, symbol: str) -> RecordedSymbol:
        trades: list[Trade] = []
        aggregates: list[Trade] = []
        bars, ladders = [], []
        for recording in self._symbols[market, symbol]:
            if recording.kind is RecordingKind.KLINES:
                bars += [bar for _, bar in read_bars(recording) if isinstance(bar, Bar)]
            elif recording.kind is RecordingKind.TRADES:
                found = [trade for _, trade in read_trades(recording) if isinstance(trade, Trade)]
                (trades if recording.trade_kind is TradeKind.TRADE else aggregates).extend(found)
            else:
                for value in _values(recording, symbol):
                    if isinstance(value, Ladder):
                        ladders.append(value)
                    else:
                        (trades if value.kind is TradeKind.TRADE else aggregates).append(value)
        return RecordedSymbol.of(market, symbol, trades, aggregates, normalize_bars(bars)[0], ladders)


def _played(recording: Recording) -> Iterator[Played]:
    if recording.kind is RecordingKind.FRAMES:
        yield from _played_frames(recording)
        return
    market, symbol = recording.market, recording.symbol or ""
    lower = symbol.lower()
    if recording.kind is RecordingKind.KLINES:
        for _, bar in read_bars(recording):
            if isinstance(bar, Bar):
                at = bar.close_ms + 1
                data = kline_message(symbol, "1m", candle_of_bar(bar), closed=True, sent_ms=at)
                yield Played(at, market, f"{lower}@kline_1m", data)
        return
    builder = BarBuilder(market, symbol)
    number = 0
    for _, trade in read_trades(recording):
        if not isinstance(trade, Trade):
            continue
        number += 1
        for bar in builder.add(trade):
            data = kline_message(symbol, "1m", candle_of_bar(bar), closed=True, sent_ms=trade.event_ms)
            yield Played(trade.event_ms, market, f"{lower}@kline_1m", data)
        data = trade_message(market, symbol, trade.kind.value, print_of_trade(trade, number))
        yield Played(trade.event_ms, market, f"{lower}@{trade.kind.value}", data)


def _played_frames(recording: Recording) -> Iterator[Played]:
    at_ms = 0
    for _, frame in read(recording):
        if not isinstance(frame, Frame):
            continue
        at_ms = at_ms if frame.recv_ms is None else max(at_ms, frame.recv_ms)
        message = _decoded(frame)
        if message is not None and message.stream is not None and message.data:
            yield Played(at_ms, recording.market, message.stream, bytes(message.data), frame.data)


def _values(recording: Recording, symbol: str) -> Iterator[Trade | Ladder]:
    """Yield one symbol's trades among the frames, and the depth bodies where the file holds one symbol."""
    for _, frame in read(recording):
        message = _decoded(frame) if isinstance(frame, Frame) else None
        if message is None or not isinstance(frame, Frame):
            continue
        if message.lastUpdateId is not None and recording.symbol == symbol:
            yield Ladder(message.lastUpdateId, tuple(message.bids), tuple(message.asks), frame.recv_ms or 0)
        elif message.stream is not None and message.data:
            lower, _, kind = message.stream.partition("@")
            if kind in ("trade", "aggTrade") and lower.upper() == symbol:
                trade = parse_trade_json(bytes(message.data), recording.market, symbol, TradeKind(kind))
                if isinstance(trade, Trade):
                    yield trade


def _decoded(frame: Frame) -> _Wrapped | None:
    try:
        return _wrapped.decode(frame.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _symbols_in(recording: Recording) -> Iterable[str]:
    """Return the symbols that a file of frames speaks of, in order of appearance."""
    seen: dict[str, None] = {}
    for message in _played_frames(recording):
        if not message.stream.startswith("!"):
            seen[message.stream.partition("@")[0].upper()] = None
    return seen
