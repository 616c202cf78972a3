"""Recorded market data on disk: what a file holds, told by its name, and its rows, read lazily.

Names that are understood (each also ungzipped): `spot_BTCUSDT_trade_*.jsonl.gz`, `usdm_ZECUSDT_1m_*.csv.gz`,
`spot_BTCUSDT_20240808T2354Z.frames.jsonl.gz`, `ADXBTC_20190705T1700Z.aggtrades.jsonl.gz` (spot), and the archives of
data.binance.vision: `BTCUSDT-1m-2025-02-01.zip`, `BTCUSDT-trades-*.zip`, `BTCUSDT-aggTrades-*.zip` (their market is
told by the folder, `spot` or `um`; spot where no folder tells).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from local.inflating import DAMAGED, handles
from local.recording_rows import (
    Frame,
    Rejected,
    Row,
    parse_frame,
    parse_kline,
    parse_klines,
    parse_trade_json,
    parse_trade_row,
)
from shared.errors import UsageError
from shared.market.model import Bar, Market, Trade, TradeKind

__all__ = ["Frame", "Recording", "RecordingKind", "Rejected", "discover", "read", "read_bars", "read_trades"]


class RecordingKind(StrEnum):
    FRAMES = "frames"
    TRADES = "trades"
    KLINES = "klines"


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of recorded data.

    `symbol` is None where a file of frames holds several symbols; `trade_kind` is None but for trades. The name of
    the file decides the symbol, whatever a row inside says.
    """

    kind: RecordingKind
    market: Market
    symbol: str | None
    path: Path
    trade_kind: TradeKind | None = None


_SUFFIX = r"(?:\.gz)?$"
_PREFIXED_TRADES = re.compile(r"^(spot|usdm)_(.+?)_(trade|aggTrade)(?:_.*)?\.jsonl" + _SUFFIX, re.IGNORECASE)
_PREFIXED_KLINES = re.compile(r"^(spot|usdm)_(.+?)_1m(?:_.*)?\.csv" + _SUFFIX, re.IGNORECASE)
_PREFIXED_FRAMES = re.compile(r"^(spot|usdm)_(.+?)(?:_\d{8}T\d{4}Z)?\.frames\.jsonl" + _SUFFIX, re.IGNORECASE)
_AGG_TRADES = re.compile(r"^(.+?)_\d{8}T\d{4}Z\.aggtrades\.jsonl" + _SUFFIX, re.IGNORECASE)
_ARCHIVE = re.compile(r"^(.+?)-(1m|trades|aggTrades)-\d{4}-\d{2}(?:-\d{2})?\.(?:zip|csv(?:\.gz)?)$", re.IGNORECASE)


def discover(
    paths: Iterable[str | Path], *, symbol: str | None = None, market: Market | None = None
) -> list[Recording]:
    """Return the recordings in files and folders (searched whole), in the order given, folders by name.

    `symbol` and `market` win over what names and folders tell. In a folder, files that are no recordings are passed
    over; a file given by itself whose name tells nothing is judged by its first line, and then needs `symbol`.

    Raises:
        UsageError: a path does not exist, is no recording, or nothing was found.
    """
    found: list[Recording] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            found += [r for p in files if (r := _by_name(p, symbol, market)) is not None]
        elif path.is_file():
            recording = _by_name(path, symbol, market) or _by_first_line(path, symbol, market)
            if recording is None:
                raise UsageError(f"{path}: not a recording of frames, trades or 1-minute klines that can be read here")
            found.append(recording)
        else:
            raise UsageError(f"{path}: no such file or folder")
    if not found:
        raise UsageError("no recordings found; see `tapewatch replay --help` for the names that are understood")
    return found


def read(recording: Recording) -> Iterator[tuple[int, Trade | Bar | Frame | Rejected]]:
    """Yield (0-based position, value) of every row; a bad row is a Rejected in its place, never an exception.

    Header lines and blank lines have no position. A file that breaks off (cut gzip, damaged zip) ends with one
    Rejected of reason `damaged_file`. A recording has no receive time but for frames: a trade's `recv_ms` is its
    message's own time where the row carries one, else the time of the trade.
    """
    index = 0
    parse = row_parser(recording)
    try:
        for line in _lines(recording.path):
            if line.isspace():
                continue
            value = parse(line)
            if index == 0 and isinstance(value, Rejected) and is_header(line):
                continue
            yield index, value
            index += 1
    except DAMAGED as exc:
        yield index, Rejected("damaged_file", f"{type(exc).__name__}: {exc}"[:200])


def read_trades(recording: Recording) -> Iterator[tuple[int, Trade | Rejected]]:
    """Yield the rows of a trade recording; anything else in it is rejected."""
    for index, value in read(recording):
        yield index, value if isinstance(value, Trade | Rejected) else Rejected("not_a_trade", "")


def read_bars(recording: Recording) -> Iterator[tuple[int, Bar | Rejected]]:
    """Yield the rows of a kline recording; anything else in it is rejected."""
    if (bars := _all_bars(recording)) is not None:
        yield from enumerate(bars)
        return
    for index, value in read(recording):
        yield index, value if isinstance(value, Bar | Rejected) else Rejected("not_a_bar", "")


def _all_bars(recording: Recording) -> list[Bar] | None:
    """Read a file without a flaw at once; None sends it through the reader that tells each flaw."""
    if recording.kind is not RecordingKind.KLINES:
        return None
    try:
        lines = [line for handle in handles(recording.path) for line in handle.read().splitlines()]
        lines = [line for line in lines if line and not line.isspace()]
    except DAMAGED:
        return None
    if lines and is_header(lines[0]):
        del lines[0]
    return parse_klines(lines, recording.market, recording.symbol or "") if lines else None


def row_parser(recording: Recording) -> Callable[[bytes], Row]:
    """Choose the reader of a recording's rows once, so that each row costs one call."""
    symbol, market, kind = recording.symbol or "", recording.market, recording.trade_kind
    if recording.kind is RecordingKind.FRAMES:
        return parse_frame
    if recording.kind is RecordingKind.KLINES:
        return lambda line: parse_kline(line, market, symbol)
    if ".jsonl" in recording.path.name.lower():
        return lambda line: parse_trade_json(line, market, symbol, kind)
    return lambda line: parse_trade_row(line, market, symbol)


def reads_in_blocks(recording: Recording) -> bool:
    """Tell whether a recording is a CSV archive of trades."""
    return recording.kind is RecordingKind.TRADES and ".jsonl" not in recording.path.name.lower()


def is_header(line: bytes) -> bool:
    """A header is a line whose first field is a word, as in `open_time` or `id`; JSON never begins so."""
    return re.match(rb'^(?:\xef\xbb\xbf)?"?[A-Za-z_]', line) is not None


def _lines(path: Path) -> Iterator[bytes]:
    for handle in handles(path):
        yield from handle


def _by_name(path: Path, symbol: str | None, market: Market | None) -> Recording | None:
    name = path.name
    if match := _PREFIXED_TRADES.match(name):
        kind = TradeKind.TRADE if match[3].lower() == "trade" else TradeKind.AGG_TRADE
        return Recording(
            RecordingKind.TRADES, market or Market(match[1].lower()), symbol or match[2].upper(), path, kind
        )
    if match := _PREFIXED_KLINES.match(name):
        return Recording(RecordingKind.KLINES, market or Market(match[1].lower()), symbol or match[2].upper(), path)
    if match := _PREFIXED_FRAMES.match(name):
        alone = None if "_" in match[2] else match[2].upper()
        return Recording(RecordingKind.FRAMES, market or Market(match[1].lower()), symbol or alone, path)
    if match := _AGG_TRADES.match(name):
        return Recording(
            RecordingKind.TRADES, market or Market.SPOT, symbol or match[1].upper(), path, TradeKind.AGG_TRADE
        )
    if match := _ARCHIVE.match(name):
        folders = {part.lower() for part in path.parts[:-1]}
        told = market or (Market.USDM if {"um", "usdm", "futures"} & folders else Market.SPOT)
        word = match[2].lower()
        if word == "1m":
            return Recording(RecordingKind.KLINES, told, symbol or match[1].upper(), path)
        kind = TradeKind.TRADE if word == "trades" else TradeKind.AGG_TRADE
        return Recording(RecordingKind.TRADES, told, symbol or match[1].upper(), path, kind)
    return None


def _by_first_line(path: Path, symbol: str | None, market: Market | None) -> Recording | None:
    told = market or Market.SPOT
    try:
        line = next((text for text in _lines(path) if text.strip() and not is_header(text)), b"")
    except DAMAGED:
        return None
    if isinstance(parse_frame(line), Frame):
        return Recording(RecordingKind.FRAMES, told, symbol, path)
    trade = parse_trade_json(line, told, symbol or "", None) if line.lstrip().startswith(b"{") else None
    if trade is None:
        trade = parse_trade_row(line, told, symbol or "")
    if isinstance(trade, Trade) and (symbol or trade.symbol):
        return Recording(RecordingKind.TRADES, told, symbol or trade.symbol, path, trade.kind)
    if isinstance(parse_kline(line, told, symbol or ""), Bar):
        if symbol is None:
            raise UsageError(f"{path}: its name does not tell the symbol; say it with --symbol (and --market)")
        return Recording(RecordingKind.KLINES, told, symbol, path)
    return None
