"""The exchange's request weights and what happens to a client that exceeds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.clock import MINUTE_MS
from shared.market.model import Market

LIMITS = {Market.SPOT: 6000, Market.USDM: 2400}
BAN_AFTER = 20  # calls made in spite of 429 before the ban
BAN_MS = 2 * MINUTE_MS

_SPOT = {
    "ping": 1, "time": 1, "exchangeInfo": 20, "klines": 2, "uiKlines": 2, "trades": 25, "historicalTrades": 25,
    "aggTrades": 4, "ticker/24hr": 2, "ticker/price": 2, "ticker/bookTicker": 2,
}  # fmt: skip
_FUTURES = {
    "ping": 1, "time": 1, "exchangeInfo": 1, "aggTrades": 20, "trades": 5, "historicalTrades": 200,
    "ticker/24hr": 1, "ticker/price": 1, "ticker/bookTicker": 2, "openInterest": 1, "fundingRate": 1,
}  # fmt: skip


def weight_of(market: Market, name: str, params: Mapping[str, str]) -> int:
    """Return the weight of one call. Source: exchange-facts, sections 2a and 2b."""
    limit = int(params["limit"]) if params.get("limit", "").isascii() and params.get("limit", "").isdigit() else None
    if market is Market.SPOT:
        if name == "depth":
            return _step(limit or 100, ((100, 5), (500, 25), (1000, 50)), 250)
        if name == "ticker/24hr" and "symbol" not in params:
            count = params.get("symbols", "").count('"') // 2
            return 80 if not count or count > 100 else 40 if count > 20 else 2
        return _SPOT.get(name, 1)
    if name == "klines":
        return _step(limit or 500, ((99, 1), (499, 2), (1000, 5)), 10)
    if name == "depth":
        return _step(limit or 500, ((50, 2), (100, 5), (500, 10)), 20)
    if name in ("ticker/24hr", "premiumIndex") and "symbol" not in params:
        return 40 if name == "ticker/24hr" else 10
    if name in ("openInterestHist", "takerlongshortRatio", "fundingInfo"):
        return 0
    return _FUTURES.get(name, 1)


def _step(value: int, steps: tuple[tuple[int, int], ...], above: int) -> int:
    return next((weight for bound, weight in steps if value <= bound), above)


@dataclass(slots=True)
class Meter:
    """One client's use of one market's budget, by minutes of the exchange's clock."""

    limit: int
    minute: int = -1
    used: int = 0
    refused: int = 0
    banned_until_ms: int = 0

    def take(self, weight: int, now_ms: int) -> tuple[int, int]:
        """Return (status, seconds to wait): 200, 429 over the limit, 418 when the client went on after 429s."""
        if now_ms < self.banned_until_ms:
            return 418, -(-(self.banned_until_ms - now_ms) // 1000)
        if now_ms // MINUTE_MS != self.minute:
            self.minute, self.used, self.refused = now_ms // MINUTE_MS, 0, 0
        self.used += weight
        if self.used <= self.limit:
            return 200, 0
        self.refused += 1
        if self.refused > BAN_AFTER:
            self.banned_until_ms = now_ms + BAN_MS
            return 418, BAN_MS // 1000
        return 429, max(1, -(-(MINUTE_MS - now_ms % MINUTE_MS) // 1000))
