"""The exchange's public REST endpoints over a MarketSource; no sockets, no clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import msgspec

from local.exchange import rest_bodies as bodies
from local.exchange.requests import Params, Refused
from local.exchange.rest_futures import FuturesEndpoints
from local.exchange.source import Instrument, MarketSource
from local.exchange.weights import LIMITS, Meter, weight_of
from shared.clock import DAY_MS
from shared.market.model import Market

_PREFIXES = (("/api/v3/", Market.SPOT), ("/fapi/v1/", Market.USDM), ("/futures/data/", Market.USDM))
_FUTURES_DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
_NOT_FOUND = b"<html><body><h2>404 Not found</h2></body></html>"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str = "application/json;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as far as an endpoint needs it. `scale` is 1000 when microseconds were asked for."""

    market: Market
    params: Params
    now_ms: int
    scale: int
    has_key: bool


class RestApi:
    """Answers one GET after the other; keeps each client's used weight."""

    def __init__(self, source: MarketSource) -> None:
        self._source = source
        self._meters: dict[tuple[Market, str], Meter] = {}
        self._futures = FuturesEndpoints(source, self._instrument)
        both: dict[str, Callable[[Call], object]] = {
            "ping": lambda call: {},
            "time": lambda call: {"serverTime": call.now_ms * call.scale},
            "exchangeInfo": self._exchange_info,
            "klines": self._klines,
            "depth": self._depth,
            "trades": self._trades,
            "historicalTrades": self._historical_trades,
            "aggTrades": self._agg_trades,
            "ticker/24hr": self._ticker_day,
            "ticker/price": self._ticker_price,
            "ticker/bookTicker": self._ticker_book,
        }
        self._endpoints: dict[Market, dict[str, Callable[[Call], object]]] = {
            Market.SPOT: {**both, "uiKlines": self._klines},
            Market.USDM: {**both, **self._futures.endpoints()},
        }

    def answer(self, path: str, query: str, headers: Mapping[str, str], client: str, now_ms: int) -> Answer:
        """Answer one GET; `path` is decoded, `headers` have lower-case names."""
        found = next(((m, path.removeprefix(prefix)) for prefix, m in _PREFIXES if path.startswith(prefix)), None)
        if found is None or found[1] not in self._endpoints[found[0]]:
            return Answer(404, _NOT_FOUND, content_type="text/html")
        market, name = found
        params = dict(parse_qsl(query, keep_blank_values=True))
        meter = self._meters.setdefault((market, client), Meter(LIMITS[market]))
        status, wait_s = meter.take(weight_of(market, name, params), now_ms)
        used = [("X-MBX-USED-WEIGHT", str(meter.used)), ("X-MBX-USED-WEIGHT-1M", str(meter.used))]
        if status != 200:
            return self._too_many(status, wait_s, used, now_ms)
        micro = market is Market.SPOT and headers.get("x-mbx-time-unit", "").upper() in ("MICROSECOND", "MICROSECONDS")
        call = Call(market, Params(params), now_ms, 1000 if micro else 1, bool(headers.get("x-mbx-apikey")))
        try:
            body = msgspec.json.encode(self._endpoints[market][name](call))
        except Refused as refused:
            return Answer(refused.status, bodies.error(refused.code, refused.message), used)
        return Answer(200, body, used)

    def _too_many(self, status: int, wait_s: int, used: list[tuple[str, str]], now_ms: int) -> Answer:
        if status == 418:
            message = f"Way too many requests; IP banned until {now_ms + wait_s * 1000}. Please use the websocket."
        else:
            message = "Too many requests; current limit of IP is exceeded. Please use the websocket for live updates."
        return Answer(status, bodies.error(-1003, message), [*used, ("Retry-After", str(wait_s))])

    def _instrument(self, market: Market, symbol: str) -> Instrument:
        for instrument in self._source.instruments(market):
            if instrument.symbol == symbol:
                return instrument
        raise Refused(-1121, "Invalid symbol.")

    def _asked(self, call: Call) -> list[Instrument]:
        names = call.params.symbols()
        if names is None:
            return list(self._source.instruments(call.market))
        return [self._instrument(call.market, name) for name in names]

    def _exchange_info(self, call: Call) -> object:
        asked = self._asked(call) if call.market is Market.SPOT else self._source.instruments(call.market)
        return bodies.exchange_info(call.market, asked, call.now_ms * call.scale)

    def _klines(self, call: Call) -> object:
        params = call.params
        symbol = self._instrument(call.market, params.text("symbol")).symbol
        minutes = bodies.INTERVAL_MINUTES.get(params.text("interval"))
        if minutes is None:
            raise Refused(-1120, "Invalid interval.")
        limit = params.limit(500, 1000 if call.market is Market.SPOT else 1500)
        start, end = self._times(call)
        candles = bodies.fetch_candles(self._source, call.market, symbol, minutes, start, end, limit, call.now_ms)
        return [bodies.kline(candle, call.scale) for candle in candles]

    def _depth(self, call: Call) -> object:
        symbol = self._instrument(call.market, call.params.text("symbol")).symbol
        if call.market is Market.SPOT:
            limit = call.params.limit(100, 5000)
        else:
            limit = call.params.integer("limit") or 500
            if limit not in _FUTURES_DEPTHS:
                raise Refused(-4021, f"Depth limit {limit} is not valid. Use one of {list(_FUTURES_DEPTHS)}.")
        ladder = self._source.ladder(call.market, symbol, levels=limit, now_ms=call.now_ms)
        return bodies.depth(call.market, ladder, limit, call.now_ms)

    def _trades(self, call: Call) -> object:
        return self._print_rows(call, from_id=None)

    def _historical_trades(self, call: Call) -> object:
        if call.market is Market.USDM and not call.has_key:
            raise Refused(-2014, "API-key format invalid.", status=401)
        return self._print_rows(call, from_id=call.params.integer("fromId"))

    def _print_rows(self, call: Call, from_id: int | None) -> object:
        symbol = self._instrument(call.market, call.params.text("symbol")).symbol
        prints = self._source.prints(
            call.market,
            symbol,
            aggregate=False,
            from_id=from_id,
            limit=call.params.limit(500, 1000),
            now_ms=call.now_ms,
        )
        return [bodies.trade(call.market, p, call.scale) for p in prints]

    def _agg_trades(self, call: Call) -> object:
        symbol = self._instrument(call.market, call.params.text("symbol")).symbol
        from_id = call.params.integer("fromId")
        start, end = self._times(call)
        if from_id is not None and call.market is Market.USDM and (start is not None or end is not None):
            raise Refused(-1128, "Combination of optional parameters invalid.")
        prints = self._source.prints(
            call.market,
            symbol,
            aggregate=True,
            from_id=from_id,
            start_ms=start,
            end_ms=end,
            limit=call.params.limit(500, 1000),
            now_ms=call.now_ms,
        )
        return [bodies.agg_trade(call.market, p, call.scale) for p in prints]

    def _ticker_day(self, call: Call) -> object:
        rows = []
        for instrument in self._asked(call):
            candles = self._source.candles(
                call.market,
                instrument.symbol,
                start_ms=call.now_ms - DAY_MS,
                end_ms=None,
                limit=1441,
                now_ms=call.now_ms,
            )
            if candles:
                rows.append(bodies.ticker_day(instrument.symbol, candles, call.now_ms * call.scale))
        return self._one_or_all(call, rows)

    def _ticker_price(self, call: Call) -> object:
        rows: list[dict[str, object]] = []
        for instrument in self._asked(call):
            last = self._source.candles(
                call.market, instrument.symbol, start_ms=None, end_ms=None, limit=1, now_ms=call.now_ms
            )
            rows += [{"symbol": instrument.symbol, "price": candle.close} for candle in last]
        return self._one_or_all(call, rows)

    def _ticker_book(self, call: Call) -> object:
        rows: list[dict[str, object]] = []
        for instrument in self._asked(call):
            ladder = self._source.ladder(call.market, instrument.symbol, levels=5, now_ms=call.now_ms)
            if ladder is not None and ladder.bids and ladder.asks:
                (bid, bid_size), (ask, ask_size) = ladder.bids[0], ladder.asks[0]
                rows.append(
                    {"symbol": instrument.symbol, "bidPrice": bid, "bidQty": bid_size, "askPrice": ask,
                     "askQty": ask_size}
                )  # fmt: skip
        return self._one_or_all(call, rows)

    def _one_or_all(self, call: Call, rows: list[dict[str, object]]) -> object:
        """One object for `symbol`, a list else."""
        return rows[0] if "symbol" in call.params.query and rows else rows

    def _times(self, call: Call) -> tuple[int | None, int | None]:
        """Return startTime and endTime in milliseconds; microseconds are told by their size."""
        times = [call.params.integer(name) for name in ("startTime", "endTime")]
        start, end = (t // 1000 if t is not None and t >= 100_000_000_000_000 else t for t in times)
        return start, end
