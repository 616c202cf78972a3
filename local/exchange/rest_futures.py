"""The endpoints that only futures have: open interest, funding, premium index, taker ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from local.exchange.requests import Refused
from local.exchange.source import Instrument, MarketSource
from shared.clock import DAY_MS, HOUR_MS, MINUTE_MS
from shared.market.model import Market

if TYPE_CHECKING:
    from local.exchange.rest_api import Call

_FUNDING_MS = 8 * HOUR_MS
_HISTORY_MS = 30 * DAY_MS
_PERIODS = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "12h": 720, "1d": 1440}


class FuturesEndpoints:
    def __init__(self, source: MarketSource, instrument: Callable[[Market, str], Instrument]) -> None:
        self._source, self._instrument = source, instrument

    def endpoints(self) -> dict[str, Callable[[Call], object]]:
        return {
            "openInterest": self._open_interest,
            "openInterestHist": self._open_interest_history,
            "takerlongshortRatio": self._taker_ratio,
            "premiumIndex": self._premium_index,
            "fundingRate": self._funding_rate,
            "fundingInfo": lambda call: [],
        }

    def _symbol(self, call: Call) -> str:
        return self._instrument(Market.USDM, call.params.text("symbol")).symbol

    def _open_interest(self, call: Call) -> object:
        symbol = self._symbol(call)
        value = self._source.open_interest(symbol, call.now_ms)
        if value is None:
            raise Refused(-1000, "An unknown error occurred while processing the request.")
        return {"openInterest": value, "symbol": symbol, "time": call.now_ms}

    def _open_interest_history(self, call: Call) -> object:
        symbol = self._symbol(call)
        rows = []
        for at in self._grid(call):
            value = self._source.open_interest(symbol, at)
            mark = self._source.mark(symbol, at)
            if value is not None and mark is not None:
                rows.append(
                    {
                        "symbol": symbol,
                        "sumOpenInterest": value,
                        "sumOpenInterestValue": format(Decimal(value) * Decimal(mark.price), "f"),
                        "timestamp": at,
                    }
                )
        return rows

    def _taker_ratio(self, call: Call) -> object:
        symbol = self._symbol(call)
        minutes = _PERIODS[call.params.text("period")]
        rows = []
        for at in self._grid(call):
            candles = self._source.candles(
                Market.USDM, symbol, start_ms=at, end_ms=at + minutes * MINUTE_MS - 1, limit=minutes, now_ms=call.now_ms
            )
            buys = sum((Decimal(c.taker_volume) for c in candles), Decimal(0))
            sells = sum((Decimal(c.volume) for c in candles), Decimal(0)) - buys
            if sells > 0:
                rows.append(
                    {"buySellRatio": f"{buys / sells:.4f}", "buyVol": format(buys, "f"),
                     "sellVol": format(sells, "f"), "timestamp": at}
                )  # fmt: skip
        return rows

    def _grid(self, call: Call) -> Sequence[int]:
        """Return the periods' instants asked for: at most `limit`, the last 30 days only."""
        minutes = _PERIODS.get(call.params.text("period"))
        if minutes is None:
            raise Refused(-1130, "Data sent for parameter 'period' is not valid.")
        step, limit = minutes * MINUTE_MS, call.params.limit(30, 500)
        start, end = call.params.integer("startTime"), call.params.integer("endTime")
        last = min(call.now_ms if end is None else end, call.now_ms) // step * step
        oldest = -(-(call.now_ms - _HISTORY_MS) // step) * step
        first = last - (limit - 1) * step if start is None else -(-start // step) * step
        first = max(first, oldest)
        return range(first, min(last, first + (limit - 1) * step) + 1, step)

    def _premium_index(self, call: Call) -> object:
        names = call.params.symbols()
        asked = [i.symbol for i in self._source.instruments(Market.USDM)] if names is None else [self._symbol(call)]
        rows = []
        for symbol in asked:
            mark = self._source.mark(symbol, call.now_ms)
            if mark is not None:
                rows.append(
                    {
                        "symbol": symbol,
                        "markPrice": mark.price,
                        "indexPrice": mark.index,
                        "estimatedSettlePrice": mark.index,
                        "lastFundingRate": mark.rate,
                        "interestRate": "0.00010000",
                        "nextFundingTime": mark.next_ms,
                        "time": call.now_ms,
                    }
                )
        return rows[0] if names is not None and rows else rows

    def _funding_rate(self, call: Call) -> object:
        names = call.params.symbols()
        asked = [i.symbol for i in self._source.instruments(Market.USDM)] if names is None else [self._symbol(call)]
        limit = call.params.limit(100, 1000)
        start, end = call.params.integer("startTime"), call.params.integer("endTime")
        last = min(call.now_ms if end is None else end, call.now_ms) // _FUNDING_MS
        first = last - limit + 1 if start is None else max(-(-start // _FUNDING_MS), last - 1000)
        rows = []
        for interval in range(first, min(last, first + limit - 1) + 1):
            for symbol in asked:
                mark = self._source.mark(symbol, interval * _FUNDING_MS)
                if mark is not None:
                    rows.append(
                        {
                            "symbol": symbol,
                            "fundingRate": mark.rate,
                            "fundingTime": interval * _FUNDING_MS,
                            "markPrice": mark.price,
                            "rateType": "Regular",
                        }
                    )
        return rows[-limit:]
