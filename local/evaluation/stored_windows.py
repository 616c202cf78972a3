"""Recorded 20-second windows (the columns that `tapewatch windows export` writes) through the window detector."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np

from local.evaluation.outcomes import Path
from shared.detection.reading import Detector, Signal
from shared.detection.window_anomaly import WindowAnomalyDetector
from shared.errors import UsageError
from shared.market.model import Market, Window
from shared.settings import WindowAnomalySettings
from shared.times import parse_utc_ms

if TYPE_CHECKING:
    from local.evaluation.units import UnitResult

_NAME = re.compile(r"^(?:(spot|usdm)_)?([A-Z0-9]+)_(\d+)s(?:_.*)?\.csv(?:\.gz)?$", re.IGNORECASE)
_COLUMNS = ("timestamp", "trade_count", "volume", "avg_trade_size", "return", "volatility")


@dataclass(frozen=True, slots=True)
class WindowFile:
    path: File
    market: Market
    symbol: str
    window_ms: int


def window_file(path: File) -> WindowFile | None:
    """Tell a file of windows by its name, e.g. `BTCUSDT_20s_20260228T1601.csv.gz`, and its header."""
    match = _NAME.match(path.name)
    if match is None:
        return None
    with _opened(path) as handle:
        header = handle.readline().strip().split(",")
    if tuple(header[:6]) != _COLUMNS:
        return None
    return WindowFile(path, Market((match[1] or "spot").lower()), match[2].upper(), int(match[3]) * 1000)


def read_windows(file: WindowFile) -> list[Window]:
    """Return the windows of a file, ascending; their ends are the timestamps, aligned or not.

    Raises:
        UsageError: a row cannot be read.
    """
    windows = []
    with _opened(file.path) as handle:
        for number, row in enumerate(csv.DictReader(handle), 2):
            try:
                end_ms = parse_utc_ms(row["timestamp"])
                count, volume, size, move, volatility = (float(row[name]) for name in _COLUMNS[1:])
            except (KeyError, TypeError, ValueError):
                raise UsageError(f"{file.path}, line {number}: not a window") from None
            windows.append(
                Window(
                    file.market, file.symbol, end_ms - file.window_ms, end_ms, int(count), volume, size, move,
                    volatility, 1.0, 1.0 + move,
                )
            )  # fmt: skip
    return windows


def judge_windows(
    file: WindowFile, settings: WindowAnomalySettings, result: UnitResult, until_ms: int | None = None
) -> Iterator[Signal]:
    """Yield the signals; a fit is installed before the next window, as in a replay.

    The path begins with the first window that was judged: the others are no part of what anomalies are compared with.
    """
    detector = WindowAnomalyDetector(settings, file.market, file.symbol)
    windows = [w for w in read_windows(file) if until_ms is None or w.end_ms <= until_ms]
    first: int | None = None
    for number, window in enumerate(windows):
        verdict = detector.step(window)
        if verdict.prediction is not None:
            first = number if first is None else first
            result.judged[Detector.WINDOW_ANOMALY.value] += 1
        signal = detector.signal(verdict)
        if signal is not None:
            yield signal
        detector.fit_now()
    result.inputs = len(windows)
    if first is not None:
        note_windows(windows[first:], file, settings, result)


def note_windows(windows: list[Window], file: WindowFile, settings: WindowAnomalySettings, result: UnitResult) -> None:
    """Note the span and the prices that windows tell of."""
    if windows:
        result.spans.append((file.market, file.symbol, windows[0].end_ms, windows[-1].end_ms))
        result.paths.append((file.market, file.symbol, _path(windows, file.window_ms, settings)))


def _path(windows: list[Window], step_ms: int, settings: WindowAnomalySettings) -> Path:
    """Chain the windows' own returns; a missing window is no movement."""
    start = windows[0].end_ms
    slots = np.array([round((window.end_ms - start) / step_ms) for window in windows])
    moves = np.zeros(int(slots[-1]) + 1)
    np.add.at(moves, slots, np.log1p([window.return_ for window in windows]))
    moves[0] = 0.0
    return Path(start, step_ms, np.exp(np.cumsum(moves)), round(settings.lateness_seconds * 1000))


def _opened(path: File):  # type: ignore[no-untyped-def]
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")
