"""Trades of an archive as arrays: zipped CSV to numbers in blocks, with the row parser for whatever is irregular.

A block whose every row has the plain form is read at once; any other block goes through `local.recording_rows`, row by
row, so that a value is accepted, rejected and positioned exactly as in a replay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from local.evaluation.digits import PAD, Bytes, Ints, Words, hundred_millionths, integers, words
from local.inflating import DAMAGED, text_blocks
from local.recording_rows import Rejected, flag_column
from local.recordings import Recording, is_header, read, reads_in_blocks
from shared.market.model import Side, Trade, units
from streamer.native import load as load_native

Bools = npt.NDArray[np.bool_]

_EXACT = 1 << 53  # integers below are exact as floats, and so is their quotient by 1e8, correctly rounded
_EARLIEST_MS, _LATEST_MS = 1_230_768_000_000, 4_102_444_800_000
_MICROSECONDS_FROM = 100_000_000_000_000
_COMMA, _NEWLINE = 44, 10
_LOWER_FOUR = np.uint64(0xDFDFDFDF)  # the first four bytes of a word, without the bit of lower case
_TRUE, _ALSE = (np.uint64(int.from_bytes(word, "little")) for word in (b"TRUE", b"ALSE"))


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Trades in order of arrival, arrays (n,). Prices and quantities are integers of 1e-8; `index` is the row."""

    index: Ints
    ids: Ints
    prices: Ints
    quantities: Ints
    times_ms: Ints
    sells: Bools  # where the taker sold

    def __len__(self) -> int:
        return len(self.index)


@dataclass(slots=True)
class Reader:
    """Reads one trade recording block by block; afterwards says how many rows there were and what was rejected."""

    recording: Recording
    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    slow_rows: int = 0

    def blocks(self) -> Iterator[Trades]:
        """Yield the trades; a file that breaks off ends with a rejected row of reason `damaged_file`."""
        if not reads_in_blocks(self.recording):
            raise ValueError("only CSV archives of trades are read in blocks")
        first = True
        try:
            for text in text_blocks(self.recording.path):
                if first and is_header(text):
                    text = text[text.index(b"\n") + 1 :]
                first = False
                if text:
                    yield self._block(text)
        except DAMAGED:
            self.rows += 1
            self.rejected["damaged_file"] += 1

    def _block(self, text: bytes) -> Trades:
        made = _native(text, self.rows) or _plain(text, self.rows)
        if made is None:
            made = self._by_rows(text)
        else:
            self.rows += len(made)
        return made

    def _by_rows(self, text: bytes) -> Trades:
        from local.recording_rows import parse_trade_row

        columns: list[list[int]] = [[], [], [], [], [], []]
        for line in text.splitlines():
            if not line or line.isspace():
                continue
            value = parse_trade_row(line, self.recording.market, self.recording.symbol or "")
            self.slow_rows += 1
            if isinstance(value, Rejected):
                self.rejected[value.reason] += 1
            elif max(value.price, value.quantity) >= 9e10 or not units(value.quantity) or not units(value.price):
                self.rejected["beyond_integers"] += 1
            else:
                for column, number in zip(columns, _numbers(self.rows, value), strict=True):
                    column.append(number)
            self.rows += 1
        return _trades(columns)


def _numbers(row: int, trade: Trade) -> tuple[int, ...]:
    sold = int(trade.side is Side.SELL)
    return (row, trade.trade_id or 0, units(trade.price), units(trade.quantity), trade.event_ms, sold)


def _native(text: bytes, first_row: int) -> Trades | None:
    """Read a block in C; None without the extension, and where a row has not the archive's own form."""
    native = load_native()
    flag = flag_column(text[: text.index(b"\n")]) if native is not None else None
    columns = None if native is None or flag is None else native.columns(text, flag)
    if columns is None:
        return None
    ids, prices, quantities, times = (np.frombuffer(column, dtype=np.int64) for column in columns[:4])
    index = np.arange(first_row, first_row + len(ids))
    return Trades(index, ids, prices, quantities, times, np.frombuffer(columns[4], dtype=np.bool_))


def _plain(block: bytes, first_row: int) -> Trades | None:
    """Read a block of which every row has the archive's own form; None where one has not."""
    text = np.frombuffer(b"\0" * PAD + block + b"\0" * PAD, dtype=np.uint8)
    body = text[PAD:-PAD]
    cuts = np.flatnonzero(body < 45)  # every comma and line end, and whatever should not be there
    cuts += PAD
    columns = block[: block.index(b"\n")].count(b",") + 1
    rows = len(cuts) // columns
    if not 6 <= columns <= 8 or len(cuts) % columns or np.count_nonzero(body == _NEWLINE) != rows:
        return None
    ends = cuts.reshape(-1, columns)
    if not (text[ends[:, -1]] == _NEWLINE).all() or np.count_nonzero(body == _COMMA) != len(cuts) - rows:
        return None
    first_flag = text[cuts[4] + 1] | 32
    flag, time = (5, 4) if first_flag in b"tf" else (6, 5)
    if flag >= columns:
        return None
    end = [np.ascontiguousarray(ends[:, n]) for n in range(flag + 1)]
    at = words(text)
    ids = integers(at, np.concatenate(([PAD], ends[:-1, -1] + 1)), end[0])
    prices = hundred_millionths(text, at, end[0] + 1, end[1])
    quantities = hundred_millionths(text, at, end[1] + 1, end[2])
    times = integers(at, end[time - 1] + 1, end[time])
    sells = _flags(text, at, end[flag - 1] + 1, end[flag])
    if sells is None or ids is None or times is None or prices is None or quantities is None:
        return None
    if times.max() >= _MICROSECONDS_FROM:
        times = np.where(times >= _MICROSECONDS_FROM, times // 1000, times)
    sound = (
        times.min() >= _EARLIEST_MS
        and times.max() < _LATEST_MS
        and prices.min() > 0
        and prices.max() < _EXACT
        and quantities.min() > 0
        and quantities.max() < _EXACT
    )
    if not sound:
        return None
    return Trades(np.arange(first_row, first_row + rows), ids, prices, quantities, times, sells)


def _flags(text: Bytes, at: Words, start: Ints, end: Ints) -> Bools | None:
    """Return True for `true` (the buyer was the maker, so the taker sold), False for `false`; None for other words."""
    true = end - start == 4
    letters = at[end - 4] & _LOWER_FOUR
    sound = np.where(true, letters == _TRUE, (letters == _ALSE) & (text[start] | 32 == ord("f")) & (end - start == 5))
    return true if bool(sound.all()) else None


def trade_blocks(recording: Recording) -> Iterator[Trades]:
    """Yield every trade of a recording in order, some at a time; JSON lines all at once, the slow way."""
    if reads_in_blocks(recording):
        yield from Reader(recording).blocks()
        return
    rows = [_numbers(index, row) for index, row in read(recording) if isinstance(row, Trade)]
    yield _trades([list(column) for column in zip(*rows, strict=True)] or [[]] * 6)


def _trades(columns: list[list[int]]) -> Trades:
    index, ids, prices, quantities, times, sold = (np.array(column, dtype=np.int64) for column in columns)
    return Trades(index, ids, prices, quantities, times, sold.astype(np.bool_))
