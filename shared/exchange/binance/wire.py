"""Binance's messages as they are on the wire, and the judgement of single values: numbers, times, symbols.

Source: binance-spot-api-docs web-socket-streams.md (2026-07) and the USD-M connector's stream payloads (2026-08).
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, Any

import msgspec

from shared.market.model import BookLevel

VALUE_LIMIT = 1e15
"""No price and no quantity of the exchange comes near this; beyond it 1e-8 units leave 64 bits by far."""
FIRST_MS, LAST_MS = 1_000_000_000_000, 9_999_999_999_999  # 13 digits: milliseconds
FIRST_US, LAST_US = 1_000_000_000_000_000, 9_999_999_999_999_999  # 16 digits: microseconds
AHEAD_MS = 5_000  # no trade happened later than its own message was made; the exchange's machines differ by less
MAX_ID = 2**63 - 1
MAX_SYMBOL = 40
DEPTH_EPOCH = 1_000_000_000  # an update id further back than this is a new numbering, not a repeat
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{0,20})?")


# Judged while decoding, where a comparison costs a few nanoseconds; NaN and infinity fail both.
Positive = Annotated[float, msgspec.Meta(gt=0, lt=VALUE_LIMIT)]
Milliseconds = Annotated[int, msgspec.Meta(ge=FIRST_MS, le=LAST_MS)]


class WireTrade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    """`trade`: one execution. The id is Any so that a string id is seen as one."""

    s: str
    p: Positive
    q: Positive
    T: Milliseconds
    m: bool
    id: Any = msgspec.field(name="t")
    E: Milliseconds = LAST_MS


class WireAggTrade(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    """`aggTrade`: the fills of one taker order at one price."""

    s: str
    p: Positive
    q: Positive
    T: Milliseconds
    m: bool
    id: Any = msgspec.field(name="a")
    E: Milliseconds = LAST_MS


class TradeFrame(msgspec.Struct, gc=False):
    """A trade wrapped by a combined stream."""

    data: WireTrade | WireAggTrade


class OnlyTradeFrame(msgspec.Struct, gc=False):
    """A combined stream's `trade` and nothing else."""

    data: WireTrade


class OnlyAggTradeFrame(msgspec.Struct, gc=False):
    """A combined stream's `aggTrade` and nothing else."""

    data: WireAggTrade


class Envelope(msgspec.Struct):
    """Whatever may stand at the top of a frame; unset is not the same as null."""

    stream: Any = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    code: Any = msgspec.UNSET
    msg: Any = None
    id: Any = msgspec.UNSET


class Head(msgspec.Struct):
    """Enough of an event to know its kind; events without `e` are known by their other fields."""

    e: Any = msgspec.UNSET
    s: Any = ""
    st: Any = 1
    last_update_id: Any = msgspec.field(name="lastUpdateId", default=msgspec.UNSET)
    open_interest: Any = msgspec.field(name="openInterest", default=msgspec.UNSET)
    best_bid_quantity: Any = msgspec.field(name="B", default=msgspec.UNSET)
    best_ask_quantity: Any = msgspec.field(name="A", default=msgspec.UNSET)


combined_trade: msgspec.json.Decoder[TradeFrame] = msgspec.json.Decoder(TradeFrame, strict=False)
raw_trade: msgspec.json.Decoder[WireTrade | WireAggTrade] = msgspec.json.Decoder(WireTrade | WireAggTrade, strict=False)
combined_trade_lines: msgspec.json.Decoder[OnlyTradeFrame] = msgspec.json.Decoder(OnlyTradeFrame, strict=False)
combined_agg_trade_lines: msgspec.json.Decoder[OnlyAggTradeFrame] = msgspec.json.Decoder(
    OnlyAggTradeFrame, strict=False
)
envelope: msgspec.json.Decoder[Envelope] = msgspec.json.Decoder(Envelope)
head: msgspec.json.Decoder[Head] = msgspec.json.Decoder(Head)
array: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
fields: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def number(value: object) -> float | None:
    """Return a value as the exchange writes numbers: a short decimal string, or a JSON number; else None."""
    if isinstance(value, str):
        return float(value) if _DECIMAL.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if isfinite(converted) else None


def positive(value: object) -> float | None:
    """Return a usable price or traded quantity, else None."""
    converted = number(value)
    return converted if converted is not None and 0.0 < converted < VALUE_LIMIT else None


def amount(value: object) -> float | None:
    """Return a usable volume, which may be 0, else None."""
    converted = number(value)
    return converted if converted is not None and 0.0 <= converted < VALUE_LIMIT * 1e6 else None


def time_ms(value: object) -> int | None:
    """Return a time in milliseconds; the unit is known by the number of digits (13 or 16), else None."""
    if value.__class__ is not int:
        return None
    assert isinstance(value, int)  # noqa: S101 - tells the type checker what the line above made sure of
    if FIRST_MS <= value <= LAST_MS:
        return value
    return value // 1000 if FIRST_US <= value <= LAST_US else None


def whole(value: object) -> int | None:
    """Return an id that the exchange can have given, else None."""
    if value.__class__ is not int:
        return None
    assert isinstance(value, int)  # noqa: S101 - as above
    return value if 0 <= value <= MAX_ID else None


def is_symbol(value: object) -> bool:
    """Tell whether a value can be a symbol: printable, short, not necessarily ASCII."""
    return isinstance(value, str) and 0 < len(value) <= MAX_SYMBOL and value.isprintable() and " " not in value


def is_coin_margined(symbol: str) -> bool:
    """Tell COIN-M contracts (BTCUSD_PERP, BTCUSD_220624) from USD-M ones (BTCUSDT, BTCUSDT_220624)."""
    return "USD_" in symbol


def levels(rows: object, *, zero: bool) -> tuple[tuple[BookLevel, ...], int]:
    """Return the readable levels in the order given, and how many could not be read.

    `zero` says whether a quantity of 0 is a level (it removes one in a difference) or nothing.
    """
    if not isinstance(rows, list):
        return (), 1
    kept: list[BookLevel] = []
    skipped = 0
    for row in rows:
        price = positive(row[0]) if isinstance(row, list) and len(row) >= 2 else None
        quantity = amount(row[1]) if price is not None else None
        if price is None or quantity is None or quantity >= VALUE_LIMIT:
            skipped += 1
        elif quantity > 0 or zero:
            kept.append(BookLevel(price, quantity))
    return tuple(kept), skipped
