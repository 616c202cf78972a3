"""The same detectors over recordings: trades and frames through the streamer's session, bars through the minute rules.

Positions are 0-based in the input they come from: the row of a trade or bar file, the n-th trade of a file of
frames, the n-th closed window of a symbol. Bars of several USD-M symbols are walked minute by minute together, so the
sector rules see what they would have seen live. Confirmations have no recording and are unknown in a replay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import nan
from typing import Any

import msgspec
import numpy as np

from local.recordings import Frame, Recording, RecordingKind, Rejected, read, read_bars
from local.replay_policy import ReplayPolicy
from shared.clock import MINUTE_MS
from shared.detection.features import FeatureEngine, SymbolFeatures
from shared.detection.features_bulk import bulk_features
from shared.detection.forest import fit_forest
from shared.detection.market_wide import market_signal
from shared.detection.order_book import OrderBookRule, read_order_book
from shared.detection.reading import Detector, Signal, Status
from shared.detection.sector import Confirmation, DiffusionTracker, diffusion_signal, initiator_signal
from shared.detection.volume_spike import VolumeSpikeDetector
from shared.exchange.binance.events import BookSnapshot, DepthDiff, DepthGap, Ignored, Malformed, Repeat, SetAside
from shared.exchange.binance.stream import StreamParser
from shared.market.model import Bar, Market, Trade
from shared.market.universe import Universe
from shared.settings import Settings
from streamer.actions import Action, EmitSignal, FitModel, StoreWindows
from streamer.session import Session

TRADE_DETECTORS = frozenset({Detector.TRADE_SPIKE, Detector.WINDOW_ANOMALY})
UNCONFIRMED = Confirmation()
_MOST_HOLES = 3  # minutes of a recording for each one that has bars
SECTOR_DETECTORS = frozenset({Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION, Detector.MARKET_WIDE})


@dataclass(frozen=True, slots=True)
class Found:
    """One signal with its position; what `replay --json` prints a line of."""

    signal: Signal
    index: int
    source: str

    def to_json(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "detector": self.signal.detector.value,
            "symbol": self.signal.symbol,
            "event_time_ms": self.signal.event_ms,
            "index": self.index,
        }
        if self.signal.trade_id is not None:
            line["trade_id"] = self.signal.trade_id
        line["values"] = dict(self.signal.values)
        line["market"] = self.signal.market.value
        line["source"] = self.source
        return line


@dataclass(slots=True)
class Summary:
    """Every input is used or counted under a reason: inputs = used + rejected + ignored."""

    inputs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    depth_breaks: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    judged: Counter[str] = field(default_factory=Counter)  # bars and windows that a detector could judge

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": {
                "inputs": self.inputs,
                "rejected": dict(self.rejected),
                "signals": dict(self.signals),
                "alerts": dict(self.alerts),
                "held": dict(self.held),
                "ignored": dict(self.ignored),
                "messages": dict(self.messages),
                "depth_breaks": dict(self.depth_breaks),
                "windows": self.windows,
            }
        }


class Replay:
    """Walks recordings and yields what the rules find, in the order of each input's time."""

    def __init__(
        self,
        settings: Settings,
        *,
        detectors: frozenset[Detector] | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> None:
        self._settings = settings
        self._wanted = detectors or frozenset(Detector)
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._policy = ReplayPolicy(settings)
        self.summary = Summary()

    def run(self, recordings: Iterable[Recording]) -> Iterator[Found]:
        klines = []
        for recording in recordings:
            if recording.kind is RecordingKind.KLINES:
                klines.append(recording)
            else:
                yield from self._stream(recording)
        if klines:
            yield from self._bars(klines)

    # --- trades and frames ------------------------------------------------------------------------------------
    def _stream(self, recording: Recording) -> Iterator[Found]:
        walk = _TradeWalk(self._settings, recording, self._wanted, self.summary)
        for found in walk.run(self._since_ms, self._until_ms):
            yield from self._judge(found)

    # --- bars -------------------------------------------------------------------------------------------------
    def _bars(self, recordings: list[Recording]) -> Iterator[Found]:
        columns: dict[Recording, list[tuple[int, Bar]]] = {}
        for recording in recordings:
            rows: list[tuple[int, Bar]] = []
            for index, row in read_bars(recording):
                self.summary.inputs += 1
                if isinstance(row, Rejected):
                    self.summary.rejected[row.reason] += 1
                elif self._inside(row.open_ms):
                    rows.append((index, row))
            columns[recording] = rows
            if Detector.VOLUME_SPIKE in self._wanted and self._settings.volume_spike.enabled:
                for found in self._volume(recording, rows):
                    yield from self._judge(found)
        if self._wanted & SECTOR_DETECTORS and self._settings.sector.enabled:
            for found in self._sector(columns):
                yield from self._judge(found)

    def _volume(self, recording: Recording, rows: list[tuple[int, Bar]]) -> Iterator[Found]:
        detector = VolumeSpikeDetector(self._settings.volume_spike, recording.market, recording.symbol or "")
        for index, bar in rows:
            reading = detector.step(bar)
            if reading is not None and reading.ratio is not None:
                self.summary.judged[Detector.VOLUME_SPIKE.value] += 1
            signal = detector.signal(reading) if reading is not None else None
            if signal is not None:
                yield Found(signal, index, recording.path.name)

    def _sector(self, columns: dict[Recording, list[tuple[int, Bar]]]) -> Iterator[Found]:
        minutes: dict[int, dict[str, tuple[int, Bar, str]]] = {}
        for recording, rows in columns.items():
            if recording.market is not Market.USDM or recording.symbol is None:
                continue
            for index, bar in rows:
                minutes.setdefault(bar.open_ms, {})[recording.symbol] = (index, bar, recording.path.name)
        present = {symbol for row in minutes.values() for symbol in row}
        benchmark = self._settings.benchmark_symbol
        sectors = {
            name: tuple(symbol for symbol in members if symbol in present)
            for name, members in self._settings.sectors.items()
        }
        if benchmark not in present or not any(sectors.values()):
            return
        universe = Universe(benchmark, {name: members for name, members in sectors.items() if members})
        tracker = DiffusionTracker(self._settings.sector, universe)
        for open_ms, features in self._features(minutes, universe):
            row = minutes[open_ms]
            decision = tracker.decide(open_ms, features)
            if decision.move is not None and Detector.MARKET_WIDE in self._wanted:
                index, _, source = row.get(benchmark) or next(iter(row.values()))
                yield Found(market_signal(decision.move, benchmark, self._settings.sector), index, source)
            if Detector.SECTOR_INITIATOR in self._wanted:
                for hit in decision.hits:
                    index, _, source = row[hit.symbol]
                    yield Found(initiator_signal(hit, UNCONFIRMED, self._settings.sector), index, source)
            for event in decision.events:
                if Detector.SECTOR_DIFFUSION in self._wanted:
                    signal = diffusion_signal(event, self._settings.sector)
                    index, _, source = row.get(event.initiator) or next(iter(row.values()))
                    yield Found(signal, index, source)

    def _features(
        self, minutes: dict[int, dict[str, tuple[int, Bar, str]]], universe: Universe
    ) -> Iterator[tuple[int, dict[str, SymbolFeatures]]]:
        """Yield the features of every minute that can decide something, all worked out at once.

        A recording with long holes is walked minute by minute: as arrays it would be mostly empty.
        """
        settings, symbols = self._settings.sector, universe.symbols()
        first_ms, last_ms = min(minutes), max(minutes)
        span = (last_ms - first_ms) // MINUTE_MS + 1
        judged = Detector.SECTOR_INITIATOR.value
        if span > _MOST_HOLES * len(minutes):
            engine = FeatureEngine(settings, universe.benchmark, symbols)
            for open_ms in sorted(minutes):
                found = engine.push(open_ms, {symbol: bar for symbol, (_, bar, _) in minutes[open_ms].items()})
                able = sum(one.status is Status.NORMAL for name, one in found.items() if name != universe.benchmark)
                self.summary.judged[judged] += able
                yield open_ms, found
            return
        place = {symbol: number for number, symbol in enumerate(symbols)}
        values = np.full((3, span, len(symbols)), np.nan)
        there = np.zeros(span, dtype=bool)
        for open_ms, bars in minutes.items():
            at = (open_ms - first_ms) // MINUTE_MS
            there[at] = True
            for symbol, (_, bar, _) in bars.items():
                if symbol in place:
                    taker = nan if bar.taker_buy_volume is None else bar.taker_buy_volume
                    values[:, at, place[symbol]] = (bar.close, bar.volume, taker)
        whole = bulk_features(settings, universe.benchmark, symbols, first_ms, *values)
        self.summary.judged[judged] += int((whole.statuses[there, 1:] == 0).sum())
        thresholds = settings.thresholds
        rows: Iterable[int] = whole.loud(
            min(thresholds.excess_return_z_initiator, thresholds.excess_return_z_follower),
            min(thresholds.volume_z_initiator, thresholds.volume_z_follower),
        )
        if settings.market_wide_share is not None or settings.diffusion_p_max is not None:
            rows = range(span)  # these look at quiet minutes too
        for row in rows:
            if there[row]:
                yield first_ms + row * MINUTE_MS, whole.at(row)

    # --- both -------------------------------------------------------------------------------------------------
    def _inside(self, event_ms: int) -> bool:
        if self._since_ms is not None and event_ms < self._since_ms:
            return False
        return self._until_ms is None or event_ms < self._until_ms

    def _judge(self, found: Found) -> Iterator[Found]:
        """Count the signal and what the policy would have made of it, as if it had been known in time."""
        name = found.signal.detector.value
        self.summary.signals[name] += 1
        reason = self._policy.decide(found.signal)
        if reason is None:
            self.summary.alerts[name] += 1
        else:
            self.summary.held[reason] += 1
        yield found


class _TradeWalk:
    """One recording of trades or frames: a session for each symbol that appears, fitted at once where a fit is due."""

    def __init__(self, settings: Settings, recording: Recording, wanted: frozenset[Detector], summary: Summary) -> None:
        self._settings = _only(settings, wanted)
        self._recording = recording
        self._wanted = wanted
        self._summary = summary
        self._sessions: dict[str, Session] = {}
        self._windows: Counter[str] = Counter()
        self._book_rules: dict[str, OrderBookRule] = {}
        self._parser = StreamParser(recording.market)
        self._trade_index = -1
        self._book_index = -1

    def run(self, since_ms: int | None, until_ms: int | None) -> Iterator[Found]:
        for index, row in read(self._recording):
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
        for symbol, session in self._sessions.items():
            yield from self._execute(symbol, session.finish(), -1)
        if self._recording.kind is RecordingKind.FRAMES:
            self._summary.messages.update(self._parser.messages)

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
            yield from self._book(event)

    def _trade(self, trade: Trade, index: int) -> Iterator[Found]:
        if not self._wanted & TRADE_DETECTORS:
            return
        session = self._sessions.get(trade.symbol)
        if session is None:
            session = self._sessions[trade.symbol] = Session(
                self._settings, trade.market, [trade.symbol], kind=trade.kind
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
                judged = sum(verdict.prediction is not None for verdict in action.verdicts)
                self._summary.judged[Detector.WINDOW_ANOMALY.value] += judged
            elif isinstance(action, FitModel):
                anomaly = self._settings.window_anomaly
                model = fit_forest(action.request.features, trees=anomaly.trees, seed=anomaly.seed)
                session.install(symbol, model, action.request)
            elif isinstance(action, EmitSignal):
                window = action.signal.detector is Detector.WINDOW_ANOMALY
                yield Found(action.signal, self._windows[symbol] - 1 if window else index, source)

    def _book(self, event: BookSnapshot) -> Iterator[Found]:
        self._book_index += 1
        rules = self._settings.order_book
        if Detector.ORDER_BOOK_IMBALANCE not in self._wanted or not (rules.enabled and rules.alert_enabled):
            return
        book = event.book
        reading = read_order_book(book, levels=rules.levels, timestamp_ms=book.event_ms or book.recv_ms)
        rule = self._book_rules.get(book.symbol)
        if rule is None:
            rule = self._book_rules[book.symbol] = OrderBookRule(rules)
        signal = rule.step(reading)
        if signal is not None:
            yield Found(signal, self._book_index, self._recording.path.name)


def _between(event_ms: int, since_ms: int | None, until_ms: int | None) -> bool:
    return (since_ms is None or event_ms >= since_ms) and (until_ms is None or event_ms < until_ms)


def _only(settings: Settings, wanted: frozenset[Detector]) -> Settings:
    """Switch off what was not asked for: forests cost far more than spikes."""
    replace = msgspec.structs.replace
    return replace(
        settings,
        trade_spike=replace(
            settings.trade_spike, enabled=settings.trade_spike.enabled and Detector.TRADE_SPIKE in wanted
        ),
        window_anomaly=replace(
            settings.window_anomaly, enabled=settings.window_anomaly.enabled and Detector.WINDOW_ANOMALY in wanted
        ),
    )
