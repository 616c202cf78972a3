"""What a planted anomaly really looks like in the market: measured, not assumed."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from local.exchange.scenarios import Planted, Truth
from local.exchange.source import Candle
from shared.clock import MINUTE_MS

if TYPE_CHECKING:
    from local.exchange.market import SimulatedMarket

_BEFORE = 200  # trades before a huge one
_BARS = 20


def measure(market: SimulatedMarket, planted: Planted) -> Truth:
    """Return the planted anomaly with the numbers found in the market at its place."""
    measures = {
        "trade_spike": _trade_spike,
        "volume_spike": _volume_spike,
        "window_anomaly": _window,
        "order_book_imbalance": _book,
        "sector_initiator": _initiator,
    }
    found = measures[planted.kind](market, planted) if planted.kind in measures else {}
    return Truth(
        planted.kind,
        planted.market,
        planted.symbol,
        planted.start_ms,
        planted.end_ms,
        planted.direction,
        {**planted.numbers, **found},
    )


def _trade_spike(market: SimulatedMarket, planted: Planted) -> dict[str, object]:
    of, symbol, at = planted.market, planted.symbol, planted.start_ms
    here = market.prints(of, symbol, aggregate=False, start_ms=at, end_ms=at, limit=50, now_ms=at)
    spike = max(here, key=lambda p: Decimal(p.quantity))
    before = market.prints(of, symbol, aggregate=False, from_id=spike.id - _BEFORE, limit=_BEFORE, now_ms=at)
    mean = sum((Decimal(p.quantity) for p in before), Decimal(0)) / len(before)
    return {
        "trade_id": spike.id,
        "price": spike.price,
        "quantity": spike.quantity,
        "ratio": round(float(Decimal(spike.quantity) / mean), 3),
        "side": "SELL" if spike.buyer_is_maker else "BUY",
    }


def _volume_spike(market: SimulatedMarket, planted: Planted) -> dict[str, object]:
    bars = _bars(market, planted, _BARS)
    mean = sum((Decimal(b.volume) for b in bars[:-1]), Decimal(0)) / _BARS
    volume = Decimal(bars[-1].volume)
    return {"volume": bars[-1].volume, "ratio": round(float(volume / mean), 3), "trades": bars[-1].trades}


def _window(market: SimulatedMarket, planted: Planted) -> dict[str, object]:
    last = planted.end_ms - 1
    prints = market.prints(
        planted.market,
        planted.symbol,
        aggregate=False,
        start_ms=planted.start_ms,
        end_ms=last,
        limit=5000,
        now_ms=last,
    )
    volume = sum((Decimal(p.quantity) for p in prints), Decimal(0))
    first, final = float(prints[0].price), float(prints[-1].price)
    return {"trades": len(prints), "volume": str(volume), "return": round(final / first - 1, 6)}


def _book(market: SimulatedMarket, planted: Planted) -> dict[str, object]:
    values = []
    for at in range(planted.start_ms, planted.end_ms, MINUTE_MS):
        ladder = market.ladder(planted.market, planted.symbol, levels=5, now_ms=at)
        if ladder is not None:
            bid = sum(float(p) * float(q) for p, q in ladder.bids)
            ask = sum(float(p) * float(q) for p, q in ladder.asks)
            values.append(round((bid - ask) / (bid + ask), 6))
    return {"obi_by_minute": values}


def _initiator(market: SimulatedMarket, planted: Planted) -> dict[str, object]:
    bars = _bars(market, planted, 15)
    before, minute = bars[0], bars[-1]
    taker = sum((Decimal(b.taker_volume) for b in bars[1:]), Decimal(0))
    volume = sum((Decimal(b.volume) for b in bars[1:]), Decimal(0))
    usual = sorted(Decimal(b.volume) for b in bars[:-1])[7]
    return {
        "return_15m": round(float(minute.close) / float(before.close) - 1, 6),
        "taker_buy_share": round(float(taker / volume), 4),
        "volume_factor": round(float(Decimal(minute.volume) / usual), 2),
    }


def _bars(market: SimulatedMarket, planted: Planted, before: int) -> list[Candle]:
    """Return the planted minute's bar and as many before it."""
    start = planted.start_ms - planted.start_ms % MINUTE_MS
    return market.candles(
        planted.market,
        planted.symbol,
        start_ms=start - before * MINUTE_MS,
        end_ms=start,
        limit=before + 1,
        now_ms=start + MINUTE_MS,
    )
