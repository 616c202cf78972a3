"""What is evaluated at once in one process: a recording of trades or frames, the bars of a market, stored windows.

The detectors are the live ones: trades and frames go through the streamer's session, bars through the minute rules
(`local.replay`), and every signal through the alert policy. Where the C loop is not built, trade spikes of CSV archives
take the bulk form, which a test holds equal to the session's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as File

import numpy as np

from local.evaluation.columns import Reader, trade_blocks
from local.evaluation.outcomes import Path, PathBuilder
from local.evaluation.spikes import spikes_of
from local.evaluation.stored_windows import WindowFile, judge_windows, read_windows
from local.recordings import Recording, RecordingKind, Rejected, read_bars, reads_in_blocks
from local.replay import SECTOR_DETECTORS, Replay
from local.replay_policy import ReplayPolicy
from local.replay_trades import TRADE_DETECTORS
from shared.detection.reading import Detector, Direction, Signal
from shared.market.model import UNITS_PER_COIN, Market
from shared.settings import Settings
from shared.times import MINUTE_MS
from streamer.native import load as load_native

NO_NEWS = frozenset({"gate", "learning", "disabled"})
_WAY = {Direction.UP: 1, Direction.DOWN: -1, None: 0}
_OF_BOOKS = frozenset({Detector.ORDER_BOOK_IMBALANCE})
_SPEAKS = {
    RecordingKind.KLINES: SECTOR_DETECTORS | {Detector.VOLUME_SPIKE},
    RecordingKind.TRADES: TRADE_DETECTORS,
    RecordingKind.FRAMES: TRADE_DETECTORS | _OF_BOOKS,
}


@dataclass(frozen=True, slots=True)
class Unit:
    """`recordings` belong together: one of trades or frames, or all bars of one market; or one file of windows.

    Before `told_from_ms` the detectors only learn, as they do from the past that a deployment fetches.
    """

    recordings: tuple[Recording, ...] = ()
    windows: WindowFile | None = None
    told_from_ms: int | None = None

    @property
    def files(self) -> list[File]:
        return [recording.path for recording in self.recordings] + ([self.windows.path] if self.windows else [])

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A signal, as little of it as figures need. `news`: it passed the alert gates; `sent`: the whole policy."""

    detector: Detector
    market: Market
    symbol: str
    event_ms: int
    known_ms: int
    way: int  # +1 up, -1 down, 0 none
    news: bool
    sent: bool


@dataclass(slots=True)
class UnitResult:
    """`spans` are (first, last) times by symbol, `paths` the prices, `judged` what each detector could judge.

    `speaks` are the detectors that the files hold anything for, so that rates are over their own days; None: any.
    """

    files: dict[str, str] = field(default_factory=dict)  # path to sha256
    inputs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    alarms: list[Alarm] = field(default_factory=list)
    spans: list[tuple[Market, str, int, int]] = field(default_factory=list)
    paths: list[tuple[Market, str, Path]] = field(default_factory=list)
    speaks: frozenset[Detector] | None = None


def make_units(recordings: list[Recording], windows: list[WindowFile], told_from_ms: int | None = None) -> list[Unit]:
    """Group recordings: bars of futures are walked together, everything else file by file."""
    futures = [r for r in recordings if r.kind is RecordingKind.KLINES and r.market is Market.USDM]
    units = [Unit((recording,), None, told_from_ms) for recording in recordings if recording not in futures]
    if futures:
        units.append(Unit(tuple(futures), None, told_from_ms))
    return units + [Unit(windows=one) for one in windows]


def evaluate_unit(
    unit: Unit,
    settings: Settings,
    detectors: frozenset[Detector],
    *,
    paths: bool = True,
    until_ms: int | None = None,
    read: Callable[[int], object] | None = None,
) -> UnitResult:
    """Run the detectors over one unit; `read` hears how many bytes of a long recording the detectors have seen."""
    result = UnitResult(files={str(path): _sha256(path) for path in unit.files}, speaks=_speaks(unit))
    policy = ReplayPolicy(settings)
    told: list[Alarm | Signal] = []
    for signal in _signals(unit, settings, detectors, result, paths, until_ms, read):
        # What is no news by itself, nearly all, is decided at once: a month's signals do not fit into memory.
        told.append(_alarm(signal, news=False, sent=False) if policy.not_news(signal) else signal)
    told.sort(key=lambda one: one.known_ms)  # stable: the order of a live day
    for one in told:
        if isinstance(one, Signal):
            reason = policy.decide(one)
            one = _alarm(one, news=reason not in NO_NEWS, sent=reason is None)
        result.alarms.append(one)
    return result


def _alarm(signal: Signal, *, news: bool, sent: bool) -> Alarm:
    way = _WAY[signal.direction]
    return Alarm(signal.detector, signal.market, signal.symbol, signal.event_ms, signal.known_ms, way, news, sent)


def span_of(unit: Unit) -> tuple[int, int] | None:
    """Return the first and the last time of a unit; None for an empty one."""
    if unit.windows is not None:
        ends = [window.end_ms for window in read_windows(unit.windows)]
        return (ends[0], ends[-1]) if ends else None
    result = UnitResult()
    _measure(unit, result)
    if not result.spans:
        return None
    return min(span[2] for span in result.spans), max(span[3] for span in result.spans)


def found_in(
    unit: Unit, settings: Settings, detectors: frozenset[Detector], until_ms: int | None = None
) -> list[Signal]:
    """Return the bare signals of one unit, in the order in which they could be known."""
    signals = list(_signals(unit, settings, detectors, UnitResult(), False, until_ms))
    return sorted(signals, key=lambda signal: signal.known_ms)


def _signals(
    unit: Unit,
    settings: Settings,
    detectors: frozenset[Detector],
    result: UnitResult,
    paths: bool,
    until_ms: int | None,
    read: Callable[[int], object] | None = None,
) -> Iterator[Signal]:
    if unit.windows is not None:
        if Detector.WINDOW_ANOMALY in detectors:
            yield from judge_windows(unit.windows, settings.window_anomaly, result, until_ms)
        return
    first = unit.recordings[0]
    wanted, bulk = detectors, reads_in_blocks(first) and until_ms is None and load_native() is None
    if bulk and Detector.TRADE_SPIKE in detectors and settings.trade_spike.enabled:
        reader = Reader(first)
        spikes = (found.signal for found in spikes_of(first, settings.trade_spike, reader))
        yield from (one for one in spikes if unit.told_from_ms is None or one.known_ms >= unit.told_from_ms)
        result.inputs, result.rejected = reader.rows, reader.rejected
        wanted = detectors - {Detector.TRADE_SPIKE}
    if _says(wanted, first, settings):
        replay = Replay(settings, detectors=wanted, until_ms=until_ms, told_from_ms=unit.told_from_ms, read=read)
        yield from (found.signal for found in replay.run(unit.recordings))
        result.inputs, result.rejected = replay.summary.inputs, replay.summary.rejected
        result.judged.update(replay.summary.judged)
    if paths:
        _measure(unit, result)


def _says(wanted: frozenset[Detector], recording: Recording, settings: Settings) -> bool:
    """Return whether any wanted detector has something to do with such a recording, to spare a walk for nothing."""
    return bool(wanted & _SPEAKS[recording.kind])


def _speaks(unit: Unit) -> frozenset[Detector] | None:
    return None if unit.windows is not None else _SPEAKS[unit.recordings[0].kind]


def _measure(unit: Unit, result: UnitResult) -> None:
    """Note spans and price paths, one grid point a minute."""
    for recording in unit.recordings:
        if recording.kind is RecordingKind.KLINES:
            bars = [row for _, row in read_bars(recording) if not isinstance(row, Rejected)]
            times = np.array([bar.open_ms + MINUTE_MS for bar in bars], dtype=np.int64)
            builder = PathBuilder(MINUTE_MS)
            builder.add(times, np.array([bar.close for bar in bars]))
            _note(result, recording.market, recording.symbol or "", builder)
        elif recording.kind is RecordingKind.TRADES:
            builder = PathBuilder(MINUTE_MS)
            for trades in trade_blocks(recording):
                builder.add(trades.times_ms, trades.prices / UNITS_PER_COIN)
            _note(result, recording.market, recording.symbol or "", builder)
        else:
            traded, quoted = _frame_prices(recording)
            result.speaks = (TRADE_DETECTORS if traded else frozenset()) | (_OF_BOOKS if quoted else frozenset())
            for symbol, (frame_times, frame_prices) in {**quoted, **traded}.items():
                builder = PathBuilder(MINUTE_MS)
                builder.add(np.array(frame_times), np.array(frame_prices))
                _note(result, recording.market, symbol, builder)
    start = unit.told_from_ms
    if start is not None:
        spans = result.spans
        result.spans = [(market, name, max(first, start), last) for market, name, first, last in spans if last > start]


def _note(result: UnitResult, market: Market, symbol: str, builder: PathBuilder) -> None:
    if builder.first_ms is not None and builder.last_ms is not None:
        result.spans.append((market, symbol, builder.first_ms, builder.last_ms))
        result.paths.append((market, symbol, builder.path()))


_Quotes = dict[str, tuple[list[int], list[float]]]


def _frame_prices(recording: Recording) -> tuple[_Quotes, _Quotes]:
    """Return times and prices by symbol: of the trades, and of the middles of the books."""
    from local.recordings import Frame, read
    from shared.exchange.binance.events import BookSnapshot
    from shared.exchange.binance.stream import StreamParser
    from shared.market.model import Trade

    parser = StreamParser(recording.market)
    traded: _Quotes = {}
    quoted: _Quotes = {}

    def note(prices: _Quotes, symbol: str, at_ms: int, price: float) -> None:
        times, values = prices.setdefault(symbol, ([], []))
        times.append(max(at_ms, times[-1] if times else 0))
        values.append(price)

    for _, row in read(recording):
        if isinstance(row, Frame):
            for event in parser.receive(row.data, row.recv_ms or 0):
                if isinstance(event, Trade):
                    note(traded, event.symbol, event.event_ms, event.price)
                elif isinstance(event, BookSnapshot) and event.book.bids and event.book.asks:
                    book = event.book
                    middle = (book.bids[0].price + book.asks[0].price) / 2
                    note(quoted, book.symbol, book.event_ms or book.recv_ms, middle)
    return traded, quoted


def _sha256(path: File) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
