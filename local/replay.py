"""The same detectors over recordings: trades and frames through the streamer's session, bars through the minute rules.

Positions are 0-based in the input they come from: the row of a trade or bar file, the n-th trade of a file of
frames, the n-th closed window of a symbol. Bars of several USD-M symbols are walked minute by minute together, so the
sector rules see what they would have seen live. Confirmations have no recording and are unknown in a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import nan

import numpy as np
import numpy.typing as npt

from local.recordings import Recording, RecordingKind, Rejected, read_bars
from local.replay_policy import ReplayPolicy
from local.replay_results import Found, Summary
from local.replay_trades import TradeWalk
from shared.clock import MINUTE_MS
from shared.detection.confirmation import Confirmation
from shared.detection.features import FeatureEngine, SymbolFeatures
from shared.detection.features_bulk import bulk_features
from shared.detection.market_wide import market_signal
from shared.detection.rarest import RarestBudget
from shared.detection.reading import Detector, Status
from shared.detection.sector import DiffusionTracker
from shared.detection.sector_signals import diffusion_signal, initiator_signal
from shared.detection.volume_spike import VolumeSpikeDetector
from shared.market.model import Bar, Market
from shared.market.universe import Universe
from shared.settings import Settings

UNCONFIRMED = Confirmation()
_MOST_HOLES = 3  # minutes of a recording for each one that has bars
SECTOR_DETECTORS = frozenset({Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION, Detector.MARKET_WIDE})

__all__ = ["Found", "Replay", "Summary"]


class Series:
    """One symbol's bars by open time, and where each stands in its file; of two at one time the later one counts."""

    def __init__(self) -> None:
        self.bars: dict[int, Bar] = {}
        self._files: list[tuple[str, dict[int, int]]] = []

    def take(self, rows: list[tuple[int, Bar]], source: str) -> None:
        self.bars.update((bar.open_ms, bar) for _, bar in rows)
        self._files.append((source, {bar.open_ms: index for index, bar in rows}))

    def position(self, open_ms: int) -> tuple[int, str] | None:
        return next(((at[open_ms], source) for source, at in reversed(self._files) if open_ms in at), None)

    def columns(self, first_ms: int, span: int) -> npt.NDArray[np.float64]:
        """Return closes, volumes and taker volumes of `span` minutes, shape (3, span); NaN is missing."""
        found = np.full((3, span), nan)
        at = (np.array(list(self.bars)) - first_ms) // MINUTE_MS
        bars = self.bars.values()
        found[0, at], found[1, at] = [bar.close for bar in bars], [bar.volume for bar in bars]
        found[2, at] = [nan if (taker := bar.taker_buy_volume) is None else taker for bar in bars]
        return found


class Replay:
    """Walks recordings and yields what the rules find, in the order of each input's time."""

    def __init__(
        self,
        settings: Settings,
        *,
        detectors: frozenset[Detector] | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        told_from_ms: int | None = None,
        read: Callable[[int], object] | None = None,
    ) -> None:
        """`told_from_ms`: before it the detectors only learn, and nothing is told, judged or counted.

        `read` hears how many bytes of an archive of trades have been read.
        """
        self._settings = settings
        self._wanted = detectors or frozenset(Detector)
        self._asked = detectors or frozenset()
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._told_from_ms = -(1 << 62) if told_from_ms is None else told_from_ms
        self._read = read
        self._policy = ReplayPolicy(settings)
        self.summary = Summary()

    def run(
        self, recordings: Iterable[Recording], done: Callable[[Recording], object] = lambda _: None
    ) -> Iterator[Found]:
        """Yield what is found; `done` is told of each recording that has been walked."""
        klines = []
        for recording in recordings:
            if recording.kind is RecordingKind.KLINES:
                klines.append(recording)
            else:
                yield from self._stream(recording)
                done(recording)
        if klines:
            yield from self._bars(klines)
        for recording in klines:
            done(recording)

    # --- trades and frames ------------------------------------------------------------------------------------
    def _stream(self, recording: Recording) -> Iterator[Found]:
        walk = TradeWalk(self._settings, recording, self._wanted, self.summary, asked=self._asked)
        walk.told_from_ms, walk.read = self._told_from_ms, self._read
        for found in walk.run(self._since_ms, self._until_ms):
            yield from self._judge(found)

    # --- bars -------------------------------------------------------------------------------------------------
    def _bars(self, recordings: list[Recording]) -> Iterator[Found]:
        columns: dict[Recording, list[tuple[int, Bar]]] = {}
        for recording in recordings:
            whole = list(read_bars(recording))
            self.summary.inputs += len(whole)
            self.summary.rejected.update(row.reason for _, row in whole if isinstance(row, Rejected))
            rows = [(index, row) for index, row in whole if isinstance(row, Bar) and self._inside(row.open_ms)]
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
            if reading is not None and reading.ratio is not None and reading.timestamp_ms >= self._told_from_ms:
                self.summary.judged[Detector.VOLUME_SPIKE.value] += 1
            signal = detector.signal(reading) if reading is not None else None
            if signal is not None:
                yield Found(signal, index, recording.path.name)

    def _sector(self, columns: dict[Recording, list[tuple[int, Bar]]]) -> Iterator[Found]:
        series: dict[str, Series] = {}
        for recording, rows in columns.items():
            if recording.market is Market.USDM and recording.symbol is not None and rows:
                series.setdefault(recording.symbol, Series()).take(rows, recording.path.name)
        benchmark = self._settings.benchmark_symbol
        sectors = {
            name: tuple(symbol for symbol in members if symbol in series)
            for name, members in self._settings.sectors.items()
        }
        if benchmark not in series or not any(sectors.values()):
            return
        universe = Universe(benchmark, {name: members for name, members in sectors.items() if members})
        settings = self._settings.sector
        tracker = DiffusionTracker(settings, universe)
        budget = None if settings.budget_per_day is None else RarestBudget(settings.budget_per_day)
        for open_ms, features in self._features(series, universe):
            decision = tracker.decide(open_ms, features)
            if tracker.watches_market and open_ms >= self._told_from_ms:
                self.summary.judged[Detector.MARKET_WIDE.value] += any(
                    one.z_volume is not None for one in features.values()
                )
            found = [initiator_signal(hit, UNCONFIRMED, settings) for hit in decision.hits]
            found += [diffusion_signal(event, settings) for event in decision.events]
            if budget is not None:
                found = [budget.judged(signal) for signal in found]
            if decision.move is not None:
                found.insert(0, market_signal(decision.move, benchmark, settings))
            for signal in found:
                if signal.detector in self._wanted:
                    # An initiator's own minute may lack its bar by now: then any bar of the minute stands for it.
                    there = [series[signal.symbol], *series.values()]
                    index, source = next(at for one in there if (at := one.position(open_ms)) is not None)
                    yield Found(signal, index, source)

    def _features(
        self, series: dict[str, Series], universe: Universe
    ) -> Iterator[tuple[int, dict[str, SymbolFeatures]]]:
        """Yield the features of every minute that can decide something, all worked out at once.

        A recording with long holes is walked minute by minute: as arrays it would be mostly empty.
        """
        settings, symbols = self._settings.sector, universe.symbols()
        minutes = sorted(set[int]().union(*(one.bars for one in series.values())))
        first_ms = minutes[0]
        span = (minutes[-1] - first_ms) // MINUTE_MS + 1
        judged = Detector.SECTOR_INITIATOR.value
        if span > _MOST_HOLES * len(minutes):
            engine = FeatureEngine(settings, universe.benchmark, symbols)
            for open_ms in minutes:
                found = engine.push(open_ms, {s: one.bars[open_ms] for s, one in series.items() if open_ms in one.bars})
                able = sum(one.status is Status.NORMAL for name, one in found.items() if name != universe.benchmark)
                self.summary.judged[judged] += able if open_ms >= self._told_from_ms else 0
                yield open_ms, found
            return
        there = np.zeros(span, dtype=bool)
        there[(np.array(minutes) - first_ms) // MINUTE_MS] = True
        values = np.stack([series[symbol].columns(first_ms, span) for symbol in symbols], axis=2)
        whole = bulk_features(settings, universe.benchmark, symbols, first_ms, *values)
        counted = there & (first_ms + np.arange(span) * MINUTE_MS >= self._told_from_ms)
        self.summary.judged[judged] += int((whole.statuses[counted, 1:] == 0).sum())
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
        if found.signal.known_ms < self._told_from_ms:
            return
        name = found.signal.detector.value
        self.summary.signals[name] += 1
        reason = self._policy.decide(found.signal)
        if reason is None:
            self.summary.alerts[name] += 1
        else:
            self.summary.held[reason] += 1
        yield found
