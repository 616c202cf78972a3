"""Ask what else confirms an initiator: open interest, liquidations, funding. Late answers are unknown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.clock import DAY_MS, HOUR_MS, MINUTE_MS
from shared.detection.confirmation import (
    FUNDING_HOURS,
    Confirmation,
    confirm_funding,
    confirm_liquidations,
    confirm_open_interest,
)
from shared.errors import ExchangeError, StorageError
from shared.exchange.market_data import Funding, OpenInterest
from shared.jobs.common import open_interest_of, readings_of
from shared.jobs.deps import Dependencies

T = TypeVar("T")

LIQUIDATIONS = "liquidations"
"""The kind of the streamer's minute sums: `symbol -> {"notional": quote}`; a minute that was listened to has an item,
even when nobody was liquidated in it."""

MAX_DELAY_S = 2.0  # an alert waits no longer than this for all its confirmations together
_OPEN_INTEREST_POINTS = 500  # of 5 minutes each: 41 hours of the symbol's own history
_LIQUIDATION_MINUTES = 15
_LIQUIDATION_HISTORY_MS = DAY_MS
_FUNDING_FRESH_MS = 15 * MINUTE_MS
_SAMPLE_MINUTES = 3  # the newest minute's own sample is usually taken after the decision
_PATIENCE = 0.7  # of the time, before other figures are looked for
_GRID_MS = 5 * MINUTE_MS
_SAMPLES_MS = 25 * HOUR_MS  # of our own samples, where the exchange's history cannot be had

Sums = Callable[[str], tuple[float | None, list[float]]]
Samples = dict[int, dict[str, float]]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What came in time; None and absent names are silence."""

    histories: Mapping[str, list[OpenInterest]]
    samples: Samples
    funding: Mapping[str, Funding] | None
    hours: Mapping[str, float] | None
    sums: Sums | None


@dataclass(slots=True)
class Confirmer:
    """Confirms the initiators of one run; all its questions together take at most `max_delay_s`.

    Answers are kept, so that a decision that has to be taken anew is taken on the same answers.
    """

    deps: Dependencies
    max_delay_s: float = MAX_DELAY_S
    unknown: dict[str, int] = field(default_factory=dict)
    _spent_s: float = 0.0
    _known: dict[tuple[str, int], Confirmation] = field(default_factory=dict)

    def confirm(self, symbols: Iterable[str], minute_ms: int) -> dict[str, Confirmation]:
        """Return a confirmation for each symbol whose initiator's bar opened at `minute_ms`."""
        names = list(dict.fromkeys(symbols))
        new = [name for name in names if (name, minute_ms) not in self._known]
        if new:
            started = time.monotonic()
            answers = self._ask(new, minute_ms, max(0.0, self.max_delay_s - self._spent_s))
            self._spent_s += time.monotonic() - started
            for name in new:
                self._known[name, minute_ms] = self._judge(name, minute_ms, answers)
        return {name: self._known[name, minute_ms] for name in names}

    def _ask(self, names: list[str], minute_ms: int, seconds: float) -> _Answers:
        """Ask everything at once and take what has come when the time is up."""
        data, close_ms = self.deps.market_data, minute_ms + MINUTE_MS
        until = time.monotonic() + seconds
        workers = max(4, min(self.deps.settings.exchange.max_connections, len(names) + 4))
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="confirm")
        try:
            funding = pool.submit(data.funding_all)
            hours = pool.submit(self._funding_hours, minute_ms)
            sums = pool.submit(self._liquidations, minute_ms)
            samples = pool.submit(self._samples, _newest_and_hour_before(close_ms))
            histories = {
                name: pool.submit(data.open_interest_history, name, limit=_OPEN_INTEREST_POINTS) for name in names
            }
            asked: list[Future[Any]] = [funding, hours, sums, samples, *histories.values()]
            wait(asked, timeout=seconds * _PATIENCE)
            sampled = _answer(samples)
            own: Samples = {} if sampled is None else sampled
            if own and any(_answer(future) is None for future in histories.values()):
                newest = max(own)  # our own samples stand in for the exchange's history
                grid = pool.submit(self._samples, range(newest, newest - _SAMPLES_MS, -_GRID_MS))
                asked.append(grid)
                wait(asked, timeout=until - time.monotonic())
                gridded = _answer(grid)
                own = own if gridded is None else {**gridded, **own}
            else:
                wait(asked, timeout=until - time.monotonic())
            answered = {name: points for name, future in histories.items() if (points := _answer(future)) is not None}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return _Answers(answered, own, _answer(funding), _answer(hours), _answer(sums))

    def _judge(self, name: str, minute_ms: int, answers: _Answers) -> Confirmation:
        settings = self.deps.settings.sector
        close_ms = minute_ms + MINUTE_MS
        points = _points(name, close_ms, answers)
        interest, interest_z = confirm_open_interest(points, close_ms, settings)
        latest = None if answers.funding is None else answers.funding.get(name)
        # The exchange tells only the present rate: for a minute that is being caught up it would be another one's.
        rate = None if latest is None or abs(latest.event_ms - close_ms) > _FUNDING_FRESH_MS else latest.rate
        hours = None if answers.hours is None else answers.hours.get(name, FUNDING_HOURS)
        notional, earlier = (None, []) if answers.sums is None else answers.sums(name)
        liquidated, liquidated_z = confirm_liquidations(notional, earlier, settings)
        silent = {
            "open_interest": name not in answers.histories and not points,
            "liquidations": answers.sums is None,
            "funding": answers.funding is None or answers.hours is None,
        }
        found = Confirmation(
            open_interest=interest,
            open_interest_z=interest_z,
            liquidations=liquidated,
            liquidation_z=liquidated_z,
            funding=confirm_funding(rate, settings, hours),
            funding_rate=rate,
            funding_hours=None if rate is None else hours,
            failed=tuple(source for source, is_silent in silent.items() if is_silent),
        )
        for source, state in (("open_interest", interest), ("liquidations", liquidated), ("funding", found.funding)):
            if state == "unknown":
                self.unknown[source] = self.unknown.get(source, 0) + 1
        return found

    def _funding_hours(self, minute_ms: int) -> Mapping[str, float]:
        """Return the intervals that are not 8 h; asked once an hour, an old answer is better than none."""
        known, hour = self.deps.warm.funding_hours, minute_ms // HOUR_MS
        if known is not None and known[0] == hour:
            return known[1]
        try:
            found = self.deps.market_data.funding_hours()
        except ExchangeError:
            if known is None:
                raise
            return known[1]
        self.deps.warm.funding_hours = (hour, found)
        return found

    def _samples(self, times_ms: Iterable[int]) -> Samples:
        if not self.deps.settings.sector.open_interest_minutes:
            return {}
        return open_interest_of(self.deps).many(times_ms)

    def _liquidations(self, minute_ms: int) -> Sums:
        """Return the lookup of a symbol's last 15-minute sum and the day's earlier ones; a gap makes a sum unknown."""
        end_ms = minute_ms + MINUTE_MS
        stored = dict(readings_of(self.deps).range(LIQUIDATIONS, end_ms - _LIQUIDATION_HISTORY_MS, end_ms))

        def window(symbol: str, last_ms: int) -> float | None:
            minutes = range(last_ms - (_LIQUIDATION_MINUTES - 1) * MINUTE_MS, last_ms + 1, MINUTE_MS)
            if any(at_ms not in stored for at_ms in minutes):
                return None
            return sum(float(stored[at_ms].get(symbol, {}).get("notional", 0.0)) for at_ms in minutes)

        def sums(symbol: str) -> tuple[float | None, list[float]]:
            if not stored:
                return None, []
            step_ms = _LIQUIDATION_MINUTES * MINUTE_MS
            starts = range(minute_ms - step_ms, end_ms - _LIQUIDATION_HISTORY_MS, -step_ms)
            earlier = [value for last_ms in starts if (value := window(symbol, last_ms)) is not None]
            return window(symbol, minute_ms), earlier

        return sums


def _newest_and_hour_before(close_ms: int) -> list[int]:
    newest = [close_ms - number * MINUTE_MS for number in range(_SAMPLE_MINUTES)]
    return [*newest, *(at_ms - HOUR_MS for at_ms in newest)]


def _points(name: str, close_ms: int, answers: _Answers) -> list[tuple[int, float]]:
    """Return (instant, contracts): the exchange's 5-minute history, else our samples on the same grid, and before
    all the newest sample that has one an hour before it."""
    own = {at_ms: rows[name] for at_ms, rows in answers.samples.items() if name in rows and at_ms <= close_ms}
    newest = max((at_ms for at_ms in own if at_ms - HOUR_MS in own), default=None)
    history = answers.histories.get(name)
    if history is not None:
        points = {point.event_ms: point.contracts for point in history}
        if newest is not None and newest >= max(points, default=0):
            points |= {at_ms: own[at_ms] for at_ms in (newest - HOUR_MS, newest)}
        return sorted(points.items())
    if newest is None:
        return []
    return sorted((at_ms, value) for at_ms, value in own.items() if (newest - at_ms) % _GRID_MS == 0)


def _answer(future: Future[T]) -> T | None:
    """Return what has come in time, None for a refusal or silence."""
    if not future.done() or future.cancelled():
        return None
    try:
        return future.result()
    except (ExchangeError, StorageError):
        return None
