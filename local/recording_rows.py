"""One recorded row to one value: frames, trade lines, and the CSV rows of data.binance.vision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from math import isfinite
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from shared.clock import MINUTE_MS
from shared.market.bars import make_bars
from shared.market.model import Bar, Market, Side, Trade, TradeKind

_EARLIEST_MS = 1_230_768_000_000  # 2009-01-01: no market data is older
_LATEST_MS = 4_102_444_800_000  # 2100-01-01
_MICROSECONDS_FROM = 100_000_000_000_000  # as milliseconds this would be the year 5138


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used, and why; `text` is its beginning."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One message exactly as received; `recv_ns` is the recorder's clock, None where it noted none."""

    recv_ns: int | None
    data: bytes

    @property
    def recv_ms(self) -> int | None:
        return None if self.recv_ns is None else self.recv_ns // 1_000_000


Row = Trade | Bar | Frame | Rejected


class _FrameLine(msgspec.Struct):
    frame: msgspec.Raw
    recv_ns: int | None = None


class _TradeLine(msgspec.Struct):
    p: float
    q: float
    T: int
    m: bool
    e: str | None = None
    s: str | None = None
    t: int | None = None
    a: int | None = None
    E: int | None = None


_frame_decoder = msgspec.json.Decoder(_FrameLine)
_trade_decoder = msgspec.json.Decoder(_TradeLine, strict=False)  # numbers arrive as strings


def parse_frame(line: bytes) -> Frame | Rejected:
    """Read one `{"recv_ns": ..., "frame": ...}` line; the frame's bytes stay as they are."""
    try:
        row = _frame_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _rejected("bad_json", line)
    return Frame(row.recv_ns, bytes(row.frame))


def parse_trade_json(line: bytes, market: Market, symbol: str, kind: TradeKind | None) -> Trade | Rejected:
    """Read one trade object as the stream sends it. An empty `symbol` or a None `kind` takes the row's own."""
    try:
        row = _trade_decoder.decode(line)
    except msgspec.ValidationError:
        return _rejected("bad_field", line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _rejected("bad_json", line)
    if kind is None:
        kind = TradeKind.AGG_TRADE if row.e == "aggTrade" or row.a is not None else TradeKind.TRADE
    trade_id = row.a if kind is TradeKind.AGG_TRADE else row.t
    side = Side.SELL if row.m else Side.BUY
    sent = None if row.E is None else _ms(row.E)
    return _trade(market, symbol or row.s or "", kind, trade_id, row.p, row.q, side, row.T, sent, line)


def parse_trade_row(line: bytes, market: Market, symbol: str) -> Trade | Rejected:
    """Read one CSV row of a trades or aggTrades archive; which of the two is told by where the flag stands.

    trades: id, price, qty, quote_qty, time, is_buyer_maker; aggTrades: id, price, qty, first, last, time,
    is_buyer_maker. Times are milliseconds, or microseconds (spot, from 2025 on). Source: binance-public-data README.
    """
    cells = line.strip().split(b",")
    if len(cells) < 6:
        return _rejected("bad_columns", line)
    try:
        if (flag := _FLAGS.get(cells[5])) is not None:
            kind, time = TradeKind.TRADE, int(cells[4])
        elif len(cells) > 6 and (flag := _FLAGS.get(cells[6])) is not None:
            kind, time = TradeKind.AGG_TRADE, int(cells[5])
        else:
            return _rejected("bad_columns", line)
        trade_id, price, quantity = int(cells[0]), float(cells[1]), float(cells[2])
    except ValueError:
        return _rejected("bad_field", line)
    return _trade(market, symbol, kind, trade_id, price, quantity, Side.SELL if flag else Side.BUY, time, None, line)


def flag_column(line: bytes) -> int | None:
    """Return where a trade archive's row says who the maker was: 5 in trades, 6 in aggTrades; None in neither."""
    cells = line.strip().split(b",")
    return next((at for at in (5, 6) if len(cells) > at and cells[at] in _FLAGS), None)


_FLAGS = {b"true": True, b"True": True, b"TRUE": True, b"false": False, b"False": False, b"FALSE": False}


def parse_kline(line: bytes, market: Market, symbol: str) -> Bar | Rejected:
    """Read one 1-minute kline in Binance's column order; empty trailing columns become None, never 0."""
    cells = line.strip().split(b",")
    if len(cells) < 7:
        return _rejected("bad_columns", line)
    try:
        raw_open, raw_close = int(cells[0]), int(cells[6])
        open_, high, low, close, volume = (float(cell) for cell in cells[1:6])
        quote = float(cells[7]) if len(cells) > 7 and cells[7] else None
        count = int(cells[8]) if len(cells) > 8 and cells[8] else None
        taker = float(cells[9]) if len(cells) > 9 and cells[9] else None
    except ValueError:
        return _rejected("bad_field", line)
    open_ms, close_ms = _ms(raw_open), _ms(raw_close)
    if open_ms is None or close_ms is None or open_ms % MINUTE_MS:
        return _rejected("bad_time", line)
    if close_ms != open_ms + MINUTE_MS - 1:
        return _rejected("not_one_minute", line)
    if not all(isfinite(price) and price > 0 for price in (open_, high, low, close)):
        return _rejected("bad_price", line)
    if not low <= min(open_, close) <= max(open_, close) <= high:
        return _rejected("bad_price", line)
    if not all(isfinite(x) and x >= 0 for x in (volume, quote or 0.0, taker or 0.0)) or (count or 0) < 0:
        return _rejected("bad_quantity", line)
    return Bar(market, symbol, open_ms, close_ms, open_, high, low, close, volume, quote, count, taker)


def parse_klines(lines: Sequence[bytes], market: Market, symbol: str) -> list[Bar] | None:
    """Read many kline rows at once, column by column; None when any of them is not plain and valid.

    Then they are to be read one by one, so that each odd row is told for itself.
    """
    rows = [line.strip().split(b",") for line in lines]
    width = len(rows[0]) if rows else 0
    if width < 7 or any(len(row) != width for row in rows):
        return None
    columns = list(zip(*rows, strict=True))
    try:
        opens, closes = (np.array(columns[at]).astype(np.int64) for at in (0, 6))
        open_, high, low, close, volume = (np.array(columns[at]).astype(np.float64) for at in range(1, 6))
        quote, taker = (_whole_column(columns, at, np.float64) for at in (7, 9))
        count = _whole_column(columns, 8, np.int64)
    except ValueError:
        return None
    if opens.max() >= _MICROSECONDS_FROM:
        if opens.min() < _MICROSECONDS_FROM:
            return None
        opens, closes = opens // 1000, closes // 1000
    prices = np.stack([open_, high, low, close])
    amounts = [column for column in (volume, quote, taker) if column is not None]
    valid = (
        (opens >= _EARLIEST_MS).all()
        and (opens < _LATEST_MS - MINUTE_MS).all()
        and not (opens % MINUTE_MS).any()
        and (closes == opens + MINUTE_MS - 1).all()
        and (np.isfinite(prices) & (prices > 0)).all()
        and (low <= np.minimum(open_, close)).all()
        and (np.maximum(open_, close) <= high).all()
        and all((np.isfinite(column) & (column >= 0)).all() for column in amounts)
        and (count is None or (count >= 0).all())
    )
    if not valid:
        return None
    nothing = repeat(None)
    optional = [nothing if column is None else column.tolist() for column in (quote, count, taker)]
    return make_bars(
        repeat(market), [symbol] * len(rows), opens.tolist(), closes.tolist(), *prices.tolist(), volume.tolist(),
        *optional,
    )  # fmt: skip


def _whole_column(columns: Sequence[Sequence[bytes]], at: int, kind: type) -> npt.NDArray[Any] | None:
    """Return a column as numbers, None where every cell is empty or there is none."""
    if at >= len(columns) or not any(columns[at]):
        return None
    return np.array(columns[at]).astype(kind)


def _trade(
    market: Market,
    symbol: str,
    kind: TradeKind,
    trade_id: int | None,
    price: float,
    quantity: float,
    side: Side,
    raw_time: int,
    sent_ms: int | None,
    line: bytes,
) -> Trade | Rejected:
    if not (isfinite(price) and price > 0):
        return _rejected("bad_price", line)
    if not (isfinite(quantity) and quantity > 0):
        return _rejected("bad_quantity", line)
    event_ms = _ms(raw_time)
    if event_ms is None:
        return _rejected("bad_time", line)
    return Trade(
        market, symbol, kind, trade_id, price, quantity, side, event_ms, event_ms if sent_ms is None else sent_ms
    )


def _ms(time: int) -> int | None:
    """Return milliseconds from milliseconds or microseconds, None outside the years 2009 to 2099."""
    ms = time // 1000 if time >= _MICROSECONDS_FROM else time
    return ms if _EARLIEST_MS <= ms < _LATEST_MS else None


def _rejected(reason: str, line: bytes) -> Rejected:
    return Rejected(reason, line[:200].decode("utf-8", "replace").strip())
