"""One recording of trades or frames through the streamer's own session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from local.inflating import DAMAGED, text_blocks
from local.recording_rows import Row
from local.recordings import Frame, Recording, RecordingKind, Rejected, is_header, read, reads_in_blocks, row_parser
from local.replay_results import Found, Summary
from shared.detection.forest_fit import fit_forest
from shared.detection.order_book import OrderBookRule, read_order_book
from shared.detection.reading import Detector
from shared.exchange.binance.events import BookSnapshot, DepthDiff, DepthGap, Ignored, Malformed, Repeat, SetAside
from shared.exchange.binance.stream import StreamParser
from shared.market.model import Trade
from shared.settings import Settings
from streamer.actions import Action, EmitSignal, FitModel, StoreWindows
from streamer.archive import ArchiveRows
from streamer.native import load as load_native
from streamer.session import Session

TRADE_DETECTORS = frozenset({Detector.TRADE_SPIKE, Detector.WINDOW_ANOMALY, Detector.PUMP})


class TradeWalk:
    """One recording of trades or frames: a session for each symbol that appears, fitted at once where a fit is due."""

    def __init__(
        self,
        settings: Settings,
        recording: Recording,
        wanted: frozenset[Detector],
        summary: Summary,
        *,
        asked: frozenset[Detector] = frozenset(),
    ) -> None:
        self._settings = _only(settings, wanted, asked)
        self._recording = recording
        self._wanted = wanted
        self._summary = summary
        self._sessions: dict[str, Session] = {}
        self._windows: Counter[str] = Counter()
        self._book_rules: dict[str, OrderBookRule] = {}
        self._parser = StreamParser(recording.market)
        self._by_rows = load_native() is not None and reads_in_blocks(recording) and bool(wanted & TRADE_DETECTORS)
        self._trade_index = -1
        self._book_index = -1
        self.told_from_ms = -(1 << 62)
        self.read: Callable[[int], object] | None = None  # hears of the bytes read

    def run(self, since_ms: int | None, until_ms: int | None) -> Iterator[Found]:
        if self._by_rows:
            yield from self._rows(since_ms, until_ms)
        else:
            for index, row in read(self._recording):
                yield from self._row(row, index, since_ms, until_ms)
        for symbol, session in self._sessions.items():
            yield from self._execute(symbol, session.finish(), -1)
        if self._recording.kind is RecordingKind.FRAMES:
            self._summary.messages.update(self._parser.messages)

    def _row(self, row: Row, index: int, since_ms: int | None, until_ms: int | None) -> Iterator[Found]:
        self._summary.inputs += 1
        if isinstance(row, Rejected):
            self._summary.rejected[row.reason] += 1
        elif isinstance(row, Frame):
            for event in self._parser.receive(row.data, row.recv_ms or 0):
                yield from self._event(event, since_ms, until_ms)
        elif isinstance(row, Trade):
            if _between(row.event_ms, since_ms, until_ms):
                yield from self._trade(row, index)
        else:
            self._summary.rejected["not_a_trade"] += 1

    def _rows(self, since_ms: int | None, until_ms: int | None) -> Iterator[Found]:
        """Walk a CSV archive block by block: what is plain in C, each other row as `read` and `_row` would."""
        symbol, parse = self._recording.symbol or "", row_parser(self._recording)
        source = self._recording.path.name
        rows: ArchiveRows | None = None
        index = 0
        try:
            for text in text_blocks(self._recording.path, self.read):
                at = 0
                while at < len(text):
                    if rows is None and symbol in self._sessions:
                        rows = ArchiveRows(self._sessions[symbol], symbol)
                    if rows is not None:
                        taken = rows.take(text, at, since_ms, until_ms)
                        for number, signal in taken.signals:
                            yield Found(signal, index + number, source)
                        self._summary.inputs += taken.rows
                        at, index = taken.next, index + taken.rows
                        if taken.trade is not None:
                            yield from self._row(taken.trade, index, since_ms, until_ms)
                            index += 1
                            continue
                        if at >= len(text):
                            break
                    end = text.index(b"\n", at) + 1
                    line, at = text[at:end], end
                    if line.isspace():
                        continue
                    row = parse(line)
                    if index == 0 and isinstance(row, Rejected) and is_header(line):
                        continue
                    yield from self._row(row, index, since_ms, until_ms)
                    index += 1
        except DAMAGED as exc:
            yield from self._row(Rejected("damaged_file", f"{type(exc).__name__}: {exc}"[:200]), index, None, None)

    def _event(self, event: Any, since_ms: int | None, until_ms: int | None) -> Iterator[Found]:
        summary = self._summary
        if isinstance(event, Trade):
            self._trade_index += 1
            if _between(event.event_ms, since_ms, until_ms):
                yield from self._trade(event, self._trade_index)
        elif isinstance(event, SetAside):
            self._trade_index += 1
            summary.rejected[event.reason] += 1
        elif isinstance(event, Repeat):
            self._trade_index += 1
            summary.rejected["repeat"] += 1
        elif isinstance(event, Malformed):
            summary.rejected[event.reason] += 1
        elif isinstance(event, Ignored):
            summary.ignored[event.kind] += 1
        elif isinstance(event, DepthDiff):
            summary.depth_breaks.setdefault(event.symbol, 0)
        elif isinstance(event, DepthGap):
            summary.depth_breaks[event.symbol] += 1
        elif isinstance(event, BookSnapshot):
            self._book_index += 1
            if _between(event.book.event_ms or event.book.recv_ms, since_ms, until_ms):
                yield from self._book(event)

    def _trade(self, trade: Trade, index: int) -> Iterator[Found]:
        if not self._wanted & TRADE_DETECTORS:
            return
        session = self._sessions.get(trade.symbol)
        if session is None:
            session = self._sessions[trade.symbol] = Session(
                self._settings, trade.market, [trade.symbol], kind=trade.kind, rows=self._by_rows
            )
        actions = session.trade(trade)
        if actions:
            yield from self._execute(trade.symbol, actions, index)

    def _execute(self, symbol: str, actions: list[Action], index: int) -> Iterator[Found]:
        session, source = self._sessions[symbol], self._recording.path.name
        for action in actions:
            if isinstance(action, StoreWindows):
                self._windows[symbol] += len(action.verdicts)
                self._summary.windows += len(action.verdicts)
                judged = sum(
                    verdict.prediction is not None and verdict.window.end_ms > self.told_from_ms
                    for verdict in action.verdicts
                )
                self._summary.judged[Detector.WINDOW_ANOMALY.value] += judged
            elif isinstance(action, FitModel):
                anomaly = self._settings.window_anomaly
                model = fit_forest(action.request.features, trees=anomaly.trees, seed=anomaly.seed)
                session.install(symbol, model, action.request)
            elif isinstance(action, EmitSignal):
                window = action.signal.detector is Detector.WINDOW_ANOMALY
                yield Found(action.signal, self._windows[symbol] - 1 if window else index, source)

    def _book(self, event: BookSnapshot) -> Iterator[Found]:
        rules = self._settings.order_book
        if Detector.ORDER_BOOK_IMBALANCE not in self._wanted or not (rules.enabled and rules.alert_enabled):
            return
        book = event.book
        reading = read_order_book(book, levels=rules.levels, timestamp_ms=book.event_ms or book.recv_ms)
        if reading.status == "ok" and reading.timestamp_ms >= self.told_from_ms:
            self._summary.judged[Detector.ORDER_BOOK_IMBALANCE.value] += 1
        rule = self._book_rules.get(book.symbol)
        if rule is None:
            rule = self._book_rules[book.symbol] = OrderBookRule(rules)
        signal = rule.step(reading)
        if signal is not None:
            yield Found(signal, self._book_index, self._recording.path.name)


def _between(event_ms: int, since_ms: int | None, until_ms: int | None) -> bool:
    return (since_ms is None or event_ms >= since_ms) and (until_ms is None or event_ms < until_ms)


def _only(settings: Settings, wanted: frozenset[Detector], asked: frozenset[Detector]) -> Settings:
    """Switch off what was not asked for (forests cost far more than spikes), and on what was asked for by name."""
    replace = msgspec.structs.replace
    return replace(
        settings,
        trade_spike=replace(
            settings.trade_spike, enabled=settings.trade_spike.enabled and Detector.TRADE_SPIKE in wanted
        ),
        pump=replace(
            settings.pump, enabled=Detector.PUMP in wanted and (settings.pump.enabled or Detector.PUMP in asked)
        ),
        window_anomaly=replace(
            settings.window_anomaly, enabled=settings.window_anomaly.enabled and Detector.WINDOW_ANOMALY in wanted
        ),
    )
