"""Turn an HTTP answer of the exchange into the error it stands for, or into nothing when it is usable."""

from __future__ import annotations

import re

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
from shared.exchange.binance import rest_wire, wire
from shared.http import HttpResponse
from shared.market.model import Market

RETRY_AFTER_DEFAULT_S = 60
BAN_DEFAULT_S = 120  # the shortest ban that the exchange documents
LONGEST_BAN_S = 4 * 86_400  # it documents 3 days; anything longer is not a time
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")
_RETRYABLE_CODES = frozenset({-1000, -1001, -1006, -1007, -1008, -1016})
_UNKNOWN_SYMBOL_CODES = frozenset({-1121, -1122, -1220})
_KEY_CODES = frozenset({-2008, -2014, -2015})


def error_of(response: HttpResponse, market: Market, host: str, now_ms: int) -> ExchangeError | None:
    """Judge an answer; `now_ms` (epoch milliseconds) turns waiting times into instants. None: the body is usable."""
    status, (code, text) = response.status, _api_error(response)
    said = f" ({code}: {text})" if code is not None else f" ({text})" if text else ""
    if status == 418:
        until_ms = _ban_end(response, text, now_ms)
        return Banned(f"{host} has banned this address{said}", until_ms=until_ms, api_code=code)
    if status == 429 or code == -1003:
        wait_s = retry_after_s(response, RETRY_AFTER_DEFAULT_S)
        if until := _BANNED_UNTIL.search(text):
            wait_s = max(wait_s, min((int(until[1]) - now_ms) / 1000, LONGEST_BAN_S))
        return RateLimited(f"{host}: too many requests{said}", retry_after_s=wait_s, status=status, api_code=code)
    if status == 451:
        return RestrictedLocation(_restricted_text(market, host), status=status, api_code=code)
    if status == 403:
        return Blocked(
            f"{host} answered 403: its firewall refused this address or this call{said}. Calls stop for 5 minutes, "
            "then one is tried; if it stays so, lower exchange.weight_share or leave through another address",
            status=status,
            api_code=code,
        )
    if status in (200, 201) and code is None:
        return None
    if code in _UNKNOWN_SYMBOL_CODES:
        return UnknownSymbol(f"the {market} market does not know this symbol{said}", status=status, api_code=code)
    if code in _RETRYABLE_CODES or status == 408 or status >= 500:
        return ExchangeUnavailable(f"{host} answered {status}{said}", status=status, api_code=code)
    if status == 401 or code in _KEY_CODES:
        return BadRequest(
            f"{host} wants a valid API key for this{said}; name its secret in exchange.api_key_secret",
            status=status,
            api_code=code,
        )
    if 400 <= status < 500 or code is not None:
        return BadRequest(f"{host} refused the call with {status}{said}", status=status, api_code=code)
    return BadResponse(f"{host} answered {status}, which it does not document", status=status)


def retry_after_s(response: HttpResponse, default_s: float) -> float:
    """Return the seconds of the Retry-After header; `default_s` when it is absent or not a number of seconds."""
    value = response.headers.get("retry-after", "").strip()
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        return default_s
    return float(min(int(value), LONGEST_BAN_S))


def used_weight(response: HttpResponse) -> int | None:
    """Return the exchange's count of the weight this address used in the current minute."""
    value = response.headers.get("x-mbx-used-weight-1m", "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _api_error(response: HttpResponse) -> tuple[int | None, str]:
    # Usable bodies may be megabytes; an error begins with its code, and only a short body can be one.
    if response.status == 200 and (len(response.body) > 4096 or b'"code"' not in response.body):
        return None, ""
    code, text = rest_wire.api_error(response.body)
    if response.status == 200 and (code is None or code >= 0):
        return None, ""
    return code, text


def _ban_end(response: HttpResponse, text: str, now_ms: int) -> int:
    """Return the later of Retry-After and the instant in the body; the shortest ban when neither says a time ahead."""
    waits_s = [retry_after_s(response, 0.0)]
    if until := _BANNED_UNTIL.search(text):
        until_ms = wire.time_ms(int(until[1]))
        if until_ms is not None:
            waits_s.append(min((until_ms - now_ms) / 1000, LONGEST_BAN_S))
    wait_s = max(waits_s)
    return now_ms + round((wait_s if wait_s > 0 else BAN_DEFAULT_S) * 1000)


def _restricted_text(market: Market, host: str) -> str:
    why = f"{host} does not serve the place this runs in (HTTP 451, restricted location)"
    if market is Market.SPOT:
        return (
            f"{why}: set exchange.spot_rest_url to https://data-api.binance.vision and exchange.spot_ws_url to "
            "wss://data-stream.binance.vision, which serve market data only, or run from an allowed region"
        )
    return (
        f"{why}: futures have no market-data-only host, so run the sector detector from an allowed region (or set "
        "sector.enabled to false); the spot detectors go on"
    )
