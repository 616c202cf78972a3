"""How much may be asked: weights of REST calls and the budget they are taken from. Told the time, holds no clock."""

from __future__ import annotations

from collections.abc import Mapping

from shared.exchange.binance.endpoints import Endpoint
from shared.market.model import Market

DEFAULT_WEIGHT_LIMIT: Mapping[Market, int] = {Market.SPOT: 6000, Market.USDM: 2400}
"""Per minute, until exchangeInfo has been read. USD-M shares its limit with COIN-M."""
STATISTICS_LIMIT, STATISTICS_WINDOW_MS = 1000, 300_000
"""Requests per 5 minutes to /futures/data, which weigh nothing in the other budget."""
CLOCK_DOUBT_MS = 2_000
"""How far our clock may be from the exchange's where counts are told apart by their minute."""

_FIXED: Mapping[tuple[Market, Endpoint], int] = {
    (Market.SPOT, Endpoint.TIME): 1,
    (Market.SPOT, Endpoint.EXCHANGE_INFO): 20,
    (Market.SPOT, Endpoint.KLINES): 2,
    (Market.SPOT, Endpoint.TRADES): 25,
    (Market.SPOT, Endpoint.HISTORICAL_TRADES): 25,
    (Market.SPOT, Endpoint.AGG_TRADES): 4,
    (Market.USDM, Endpoint.TIME): 1,
    (Market.USDM, Endpoint.EXCHANGE_INFO): 1,
    (Market.USDM, Endpoint.TRADES): 5,
    (Market.USDM, Endpoint.HISTORICAL_TRADES): 200,
    (Market.USDM, Endpoint.AGG_TRADES): 20,
    (Market.USDM, Endpoint.OPEN_INTEREST): 1,
    (Market.USDM, Endpoint.OPEN_INTEREST_HISTORY): 0,
    (Market.USDM, Endpoint.FUNDING_INFO): 0,
}
_BY_LIMIT: Mapping[tuple[Market, Endpoint], tuple[int, tuple[tuple[int, int], ...]]] = {
    # (the exchange's default limit, (largest limit, weight) ascending)
    (Market.SPOT, Endpoint.DEPTH): (100, ((100, 5), (500, 25), (1000, 50), (5000, 250))),
    (Market.USDM, Endpoint.DEPTH): (500, ((50, 2), (100, 5), (500, 10), (1000, 20))),
    (Market.USDM, Endpoint.KLINES): (500, ((99, 1), (499, 2), (1000, 5), (1500, 10))),
}


def weight_of(market: Market, endpoint: Endpoint, params: Mapping[str, str]) -> int:
    """Return what a call weighs. Source: the documented tables, state of 2026."""
    if endpoint is Endpoint.PREMIUM_INDEX:
        return 1 if "symbol" in params else 10
    stepped = _BY_LIMIT.get((market, endpoint))
    if stepped is None:
        return _FIXED.get((market, endpoint), 1)
    default, steps = stepped
    limit = int(params.get("limit", default))
    return next((weight for largest, weight in steps if limit <= largest), steps[-1][1])


class WeightBudget:
    """A share of a limit that the exchange counts per fixed window (a minute, starting at its clock's full minute).

    The exchange's own count, which holds other processes behind the same address too, overrules ours when larger.
    """

    def __init__(self, limit: int, share: float = 1.0, window_ms: int = 60_000) -> None:
        self.share = share
        self.window_ms = window_ms
        self.limit = limit
        self.used = 0
        self.stopped_until_ms = 0
        self._window = -1
        self._before = 0  # used in the window before this one; 0: not known

    @property
    def allowed(self) -> int:
        """Weight that we allow ourselves per window."""
        return max(1, int(self.limit * self.share))

    def reserve(self, weight: int, now_ms: int) -> int:
        """Take `weight` from the window; return 0, or the milliseconds to wait before asking again (nothing taken).

        A call heavier than the whole share is let through at the start of a window rather than never.
        """
        if now_ms < self.stopped_until_ms:
            return self.stopped_until_ms - now_ms
        self._turn(now_ms)
        if weight == 0 or self.used == 0 or self.used + weight <= self.allowed:
            self.used += weight
            return 0
        return min((self._window + 1) * self.window_ms - now_ms, self.window_ms)

    def observe(self, used_weight: int, entered_ms: int, now_ms: int) -> None:
        """Learn the exchange's own count from an answer's header; the call was let in at `entered_ms`.

        A call of the window before tells nothing of this one. Nor does one of this window's first moments, by a clock
        that may be ahead of the exchange's, when its count could be that of the window before.
        """
        self._turn(now_ms)
        since_ms = entered_ms - self._window * self.window_ms
        if since_ms < 0 or (since_ms < CLOCK_DOUBT_MS and 0 < self._before <= 2 * used_weight):
            return
        self.used = max(self.used, used_weight)

    def stop_until(self, until_ms: int) -> None:
        """Allow nothing before `until_ms`; an earlier stop never shortens a later one."""
        self.stopped_until_ms = max(self.stopped_until_ms, until_ms)

    def _turn(self, now_ms: int) -> None:
        window = now_ms // self.window_ms
        # A clock set back by more than a window begins anew, lest nothing be allowed for as long as the step; one that
        # trembles at the turn does not get the window before a second time.
        if window > self._window or window < self._window - 1:
            self._before = self.used if window == self._window + 1 else 0
            self._window, self.used = window, 0
