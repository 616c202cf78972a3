"""Binance's REST market data: asked within the weight budget, in time, and never against a ban."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from random import random
from typing import TypeVar

from shared.clock import Clock, SystemClock
from shared.errors import (
    BadRequest,
    BadResponse,
    Banned,
    Blocked,
    ExchangeError,
    ExchangeUnavailable,
    RateLimited,
    RestrictedLocation,
    UnknownSymbol,
)
from shared.exchange.binance import answers, rest_wire, wire
from shared.exchange.binance.endpoints import (
    KLINES_MAX,
    MARKET_DATA_ONLY_HOSTS,
    TRADES_MAX,
    Endpoint,
    depth_limit,
    host_of,
    path_of,
)
from shared.exchange.binance.gate import PATIENCE_S, BanStore, HostGate
from shared.exchange.binance.limits import DEFAULT_WEIGHT_LIMIT, weight_of
from shared.exchange.binance.transport import Transport
from shared.exchange.market_data import Funding, Listing, OpenInterest
from shared.http import HttpResponse
from shared.market.model import Bar, Market, OrderBook, Trade
from shared.settings import ExchangeSettings

ATTEMPTS = 3
BACKOFF_S = (0.2, 0.4, 0.8)
LONGEST_BUDGET_WAIT_S = 65.0
AWAY_MS = 60_000
"""How long the host of past trades is left alone after it could not be reached."""
_Answer = TypeVar("_Answer")


class _PastHost:
    """Where historicalTrades is asked when the spot host serves no such question: a host, with limits of its own."""

    def __init__(self, url: str, gate: HostGate) -> None:
        self.base = url.rstrip("/")
        self.gate = gate
        self.away_until_ms = 0  # it could not be reached; not even tried before


class BinanceMarketData:
    """Implements MarketData over REST. One instance may be shared by any number of threads.

    `counters` counts calls and retries, and errors by their code.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        transport: Transport,
        clock: Clock | None = None,
        *,
        ban_store: BanStore | None = None,
        sleep: Callable[[float], None] | None = None,
        rng: Callable[[], float] = random,
        api_key: str | None = None,
    ) -> None:
        """Make a client; nothing is asked yet.

        Args:
            ban_store: keeps "no call before" per host for other processes.
            sleep: waits, in seconds; the clock's own sleep when absent.
            rng: uniform in [0, 1), for the jitter of retries.
            api_key: the key itself, needed only for USD-M's historical trades.
        """
        self.counters: Counter[str] = Counter()
        self._settings = settings
        self._transport = transport
        self._clock = clock or SystemClock()
        self._sleep = sleep or self._clock.sleep
        self._rng = rng
        self._api_key = api_key
        self._deadline_ms: int | None = None
        self._slots = threading.BoundedSemaphore(settings.max_connections)
        urls = {Market.SPOT: settings.spot_rest_url, Market.USDM: settings.futures_rest_url}
        self._bases = {market: url.rstrip("/") for market, url in urls.items()}
        self._hosts = {market: host_of(url) for market, url in urls.items()}
        # Two markets behind one host:port (a local exchange) still count separately, as they do at the exchange.
        self._gates = {
            market: HostGate(host, DEFAULT_WEIGHT_LIMIT[market], settings.weight_share, self._clock, ban_store)
            for market, host in self._hosts.items()
        }
        self._past: _PastHost | None = None
        past_host = host_of(settings.spot_trades_url)
        if self._serves_newest_only and past_host and past_host not in MARKET_DATA_ONLY_HOSTS:
            gate = HostGate(past_host, DEFAULT_WEIGHT_LIMIT[Market.SPOT], settings.weight_share, self._clock, ban_store)
            self._past = _PastHost(settings.spot_trades_url, gate)

    def until(self, deadline_ms: int) -> BinanceMarketData:
        """Return a view of this client whose calls all end by `deadline_ms`: for functions with a limited time."""
        view = copy.copy(self)
        view._deadline_ms = deadline_ms
        return view

    # --- questions ----------------------------------------------------------------------------------------
    def server_time_ms(self, market: Market) -> int:
        return self._ask(market, Endpoint.TIME, {}, rest_wire.server_time)

    def listings(self, market: Market) -> list[Listing]:
        def parse(body: bytes) -> list[Listing]:
            found, limit = rest_wire.listings(market, body), rest_wire.weight_limit(body)
            if limit is not None:
                self._gates[market].set_limit(limit)
            return found

        return self._ask(market, Endpoint.EXCHANGE_INFO, {}, parse)

    def klines(
        self,
        market: Market,
        symbol: str,
        *,
        limit: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[Bar]:
        """Return at most `limit` (and at most one page of) 1-minute bars, ascending, the running bar included."""
        name = _symbol(symbol)
        params = {"symbol": name, "interval": "1m", "limit": str(_at_most(limit, KLINES_MAX[market]))}
        if start_ms is not None:
            params["startTime"] = str(start_ms)
        if end_ms is not None:
            params["endTime"] = str(end_ms)
        return self._ask(market, Endpoint.KLINES, params, lambda body: rest_wire.klines(market, name, body))

    def depth(self, market: Market, symbol: str, *, levels: int) -> OrderBook:
        name = _symbol(symbol)
        params = {"symbol": name, "limit": str(depth_limit(market, levels))}
        return self._ask(
            market, Endpoint.DEPTH, params, lambda body: rest_wire.depth(market, name, body, self._clock.now_ms())
        )

    def agg_trades(self, market: Market, symbol: str, *, from_id: int, limit: int = 1000) -> list[Trade]:
        name = _symbol(symbol)
        params = {"symbol": name, "fromId": str(from_id), "limit": str(_at_most(limit, TRADES_MAX))}
        return self._ask(
            market,
            Endpoint.AGG_TRADES,
            params,
            lambda body: rest_wire.agg_trades(market, name, body, self._clock.now_ms()),
        )

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        """Return single trades from an id on; None asks for the newest, which every host serves without a key.

        Where past trades cannot be had, spot's rows are those of the newest 1,000 from the id on: the first may
        lie far behind the id.

        Raises:
            BadRequest: USD-M, which wants an API key for past trades.
        """
        name = _symbol(symbol)
        most = _at_most(limit, TRADES_MAX)
        params = {"symbol": name, "limit": str(most)}
        endpoint, headers = Endpoint.TRADES, {}

        def parse(body: bytes) -> list[Trade]:
            return rest_wire.trades(market, name, body, self._clock.now_ms())

        if from_id is not None:
            endpoint, headers = Endpoint.HISTORICAL_TRADES, self._key_for_history(market)
            params["fromId"] = str(from_id)
            if market is Market.SPOT and self._serves_newest_only:
                try:
                    return self._ask_past(params, parse)
                except _NoPast:
                    newest = {"symbol": name, "limit": str(TRADES_MAX)}
                    rows = self._ask(market, Endpoint.TRADES, newest, parse)
                    return [row for row in rows if row.trade_id is not None and row.trade_id >= from_id][:most]
        return self._ask(market, endpoint, params, parse, headers)

    def open_interest(self, symbol: str) -> OpenInterest:
        return self._ask(Market.USDM, Endpoint.OPEN_INTEREST, {"symbol": _symbol(symbol)}, rest_wire.open_interest)

    def open_interest_history(self, symbol: str, *, limit: int = 30) -> list[OpenInterest]:
        params = {"symbol": _symbol(symbol), "period": "5m", "limit": str(_at_most(limit, 500))}
        return self._ask(Market.USDM, Endpoint.OPEN_INTEREST_HISTORY, params, rest_wire.open_interest_history)

    def funding_all(self) -> dict[str, Funding]:
        return self._ask(Market.USDM, Endpoint.PREMIUM_INDEX, {}, rest_wire.funding)

    def funding_hours(self) -> dict[str, float]:
        return self._ask(Market.USDM, Endpoint.FUNDING_INFO, {}, rest_wire.funding_hours)

    @property
    def _serves_newest_only(self) -> bool:
        return self._hosts[Market.SPOT] in MARKET_DATA_ONLY_HOSTS

    def _ask_past(self, params: Mapping[str, str], parse: Callable[[bytes], _Answer]) -> _Answer:
        """Ask the host of past trades.

        Raises:
            _NoPast: there is none, or it does not answer us; another question may be answered later.
        """
        past = self._past
        if past is None or self._clock.now_ms() < past.away_until_ms:
            raise _NoPast
        try:
            return self._ask(Market.SPOT, Endpoint.HISTORICAL_TRADES, params, parse, past=past)
        except (Blocked, RestrictedLocation):
            raise _NoPast from None  # its gate remembers, and lets one call try after minutes
        except BadRequest as exc:
            if exc.status not in (401, 404):
                raise
        except (ExchangeUnavailable, BadResponse):
            if self._remaining_s() <= 0:
                raise
        past.away_until_ms = self._clock.now_ms() + AWAY_MS
        raise _NoPast

    # --- how they are asked -------------------------------------------------------------------------------
    def _ask(
        self,
        market: Market,
        endpoint: Endpoint,
        params: Mapping[str, str],
        parse: Callable[[bytes], _Answer],
        headers: Mapping[str, str] | None = None,
        past: _PastHost | None = None,
    ) -> _Answer:
        """Ask up to three times; only what may be different the next time is asked again."""
        attempt = 1
        while True:
            try:
                return self._once(market, endpoint, params, parse, headers or {}, past)
            except ExchangeError as exc:
                self.counters[exc.code] += 1
                pause_s = self._pause_before_retry(exc, attempt)
                if pause_s is None or (past is not None and _unreachable(exc)):
                    raise  # a host that cannot be reached has a substitute: a gap waits for one time-out, not three
            attempt += 1
            self.counters["retries"] += 1
            self._sleep(pause_s)

    def _pause_before_retry(self, exc: ExchangeError, attempt: int) -> float | None:
        """Return the seconds to wait before asking again, None when asking again is wrong or would end too late."""
        if not exc.retryable or attempt >= ATTEMPTS:
            return None
        if isinstance(exc, RateLimited):
            pause_s = exc.retry_after_s
            if pause_s > PATIENCE_S:
                return None
        else:
            pause_s = BACKOFF_S[attempt - 1] * (0.5 + self._rng())
        return pause_s if self._remaining_s() > pause_s else None

    def _once(
        self,
        market: Market,
        endpoint: Endpoint,
        params: Mapping[str, str],
        parse: Callable[[bytes], _Answer],
        headers: Mapping[str, str],
        past: _PastHost | None,
    ) -> _Answer:
        gate, base = (past.gate, past.base) if past is not None else (self._gates[market], self._bases[market])
        statistics = 1 if endpoint is Endpoint.OPEN_INTEREST_HISTORY else 0
        url = base + path_of(market, endpoint)
        self._enter(gate, weight_of(market, endpoint, params), statistics)
        entered_ms = self._clock.now_ms()
        answered = False
        try:
            response = self._fetch(url, params, headers)
            used = answers.used_weight(response)
            if used is not None:
                gate.observe(used, entered_ms)
            error = answers.error_of(response, market, gate.host, self._clock.now_ms())
            answered = not isinstance(error, Blocked | RestrictedLocation)
            if error is not None:
                self._obey(gate, error)
                raise error
            return parse(response.body)
        finally:
            gate.leave(answered=answered)

    def _fetch(self, url: str, params: Mapping[str, str], headers: Mapping[str, str]) -> HttpResponse:
        """Take one of the connections and fetch; waiting for it counts against the deadline too."""
        remaining_s = self._remaining_s()
        if not self._slots.acquire(timeout=min(max(remaining_s, 0.0), threading.TIMEOUT_MAX)):
            raise ExchangeUnavailable("the time for this run is used up")
        try:
            remaining_s = self._remaining_s()
            if remaining_s <= 0:
                raise ExchangeUnavailable("the time for this run is used up")
            self.counters["calls"] += 1
            return self._transport.get(url, params, headers, min(self._settings.request_timeout_s, remaining_s))
        finally:
            self._slots.release()

    def _enter(self, gate: HostGate, weight: int, statistics: int) -> None:
        """Wait for the budget, as long as that makes sense.

        Raises:
            RateLimited: our own share of the limit is used up for longer than this call may take.
        """
        waited_s = 0.0
        while (wait_s := gate.enter(weight, statistics)) > 0:
            if wait_s >= self._remaining_s() or waited_s + wait_s > LONGEST_BUDGET_WAIT_S:
                raise RateLimited(
                    f"the request budget for {gate.host} is used up for another {wait_s:.0f} s",
                    retry_after_s=wait_s,
                    status=None,
                )
            self._sleep(wait_s)
            waited_s += wait_s

    def _obey(self, gate: HostGate, error: ExchangeError) -> None:
        if isinstance(error, Banned):
            gate.stop(error.until_ms, banned=True)
        elif isinstance(error, RateLimited):
            gate.stop(self._clock.now_ms() + round(error.retry_after_s * 1000), banned=False)
        elif isinstance(error, Blocked | RestrictedLocation):
            gate.refuse(error)

    def _remaining_s(self) -> float:
        if self._deadline_ms is None:
            return float("inf")
        return (self._deadline_ms - self._clock.now_ms()) / 1000

    def _key_for_history(self, market: Market) -> dict[str, str]:
        if market is Market.USDM and self._api_key is None:
            raise BadRequest(
                "historicalTrades of USD-M needs an API key: name its secret in exchange.api_key_secret, "
                "or use aggTrades"
            )
        return {} if self._api_key is None else {"X-MBX-APIKEY": self._api_key}


class _NoPast(Exception):
    """The host of past trades does not answer, or there is none."""


def _unreachable(exc: ExchangeError) -> bool:
    return isinstance(exc, ExchangeUnavailable) and exc.status is None


def _symbol(symbol: str) -> str:
    name = symbol.strip().upper()
    if not wire.is_symbol(name):
        raise UnknownSymbol(f"{symbol[:60]!r} is not a symbol")
    return name


def _at_most(limit: int, most: int) -> int:
    if limit < 1:
        raise BadRequest(f"a limit of {limit} asks for nothing")
    return min(limit, most)
