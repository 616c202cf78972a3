"""Recorded trades and bars as the values that go on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from local.exchange.source import Candle, Instrument, Ladder, Print
from shared.market.bars import BarBuilder
from shared.market.model import Bar, Market, Side, Trade

_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "USD")


@dataclass(frozen=True, slots=True)
class RecordedSymbol:
    """Everything recorded of one symbol, each ascending in time; every trade has an id."""

    trades: tuple[Trade, ...]
    aggregates: tuple[Trade, ...]
    bars: tuple[Bar, ...]
    opens: tuple[int, ...]
    ladders: tuple[Ladder, ...]
    last_ms: int

    @classmethod
    def of(
        cls,
        market: Market,
        symbol: str,
        trades: Sequence[Trade],
        aggregates: Sequence[Trade],
        bars: Sequence[Bar],
        ladders: Sequence[Ladder],
    ) -> RecordedSymbol:
        """Put in order, number what has no number, and build bars from the trades where none were recorded."""
        single, merged = _numbered(trades), _numbered(aggregates)
        if not bars:
            bars = _built(market, symbol, single or merged)
        ends = [bar.close_ms + 1 for bar in bars[-1:]] + [t.event_ms for t in (*single[-1:], *merged[-1:])]
        by_time = sorted(ladders, key=lambda ladder: ladder.event_ms)
        opens = tuple(bar.open_ms for bar in bars)
        return cls(single, merged, tuple(bars), opens, tuple(by_time), max(ends, default=0))


def _numbered(trades: Sequence[Trade]) -> tuple[Trade, ...]:
    if any(trade.trade_id is None for trade in trades):
        return tuple(replace(t, trade_id=i) for i, t in enumerate(sorted(trades, key=lambda t: t.event_ms), 1))
    unique = {trade.trade_id: trade for trade in trades}
    return tuple(sorted(unique.values(), key=lambda t: (t.event_ms, t.trade_id or 0)))


def _built(market: Market, symbol: str, trades: Sequence[Trade]) -> list[Bar]:
    builder = BarBuilder(market, symbol)
    bars = [bar for trade in trades for bar in builder.add(trade)]
    return bars + builder.flush(None)


def decimal_text(value: float) -> str:
    """Return the shortest decimal that is this float, never in scientific form."""
    return format(Decimal(repr(value)), "f")


def print_of_trade(trade: Trade, number: int = 0) -> Print:
    """`number` stands in for the id of a trade that has none."""
    id_ = number if trade.trade_id is None else trade.trade_id
    price, quantity = decimal_text(trade.price), decimal_text(trade.quantity)
    quote = format(Decimal(price) * Decimal(quantity), "f")
    return Print(id_, price, quantity, quote, trade.event_ms, trade.side is Side.SELL, id_, id_)


def candle_of_bar(bar: Bar) -> Candle:
    taker = bar.volume / 2 if bar.taker_buy_volume is None else bar.taker_buy_volume
    quote = bar.volume * bar.close if bar.quote_volume is None else bar.quote_volume
    trades = (1 if bar.volume else 0) if bar.trades is None else bar.trades
    taker_quote = quote * taker / bar.volume if bar.volume else 0.0
    return Candle(
        bar.open_ms,
        bar.close_ms,
        decimal_text(bar.open),
        decimal_text(bar.high),
        decimal_text(bar.low),
        decimal_text(bar.close),
        decimal_text(bar.volume),
        decimal_text(quote),
        trades,
        decimal_text(taker),
        decimal_text(taker_quote),
    )


def instrument_of(market: Market, symbol: str) -> Instrument:
    quote = next((q for q in _QUOTES if symbol.endswith(q) and len(symbol) > len(q)), "USDT")
    return Instrument(market, symbol, symbol.removesuffix(quote), quote, 8, 8)
