"""Ask what else confirms an initiator: open interest, liquidations, funding. Late answers are unknown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.clock import DAY_MS, MINUTE_MS
from shared.detection.sector import Confirmation, confirm_funding, confirm_liquidations, confirm_open_interest
from shared.errors import ExchangeError
from shared.exchange.market_data import Funding, OpenInterest
from shared.jobs.common import readings_of
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
            histories, funding = self._ask(new, max(0.0, self.max_delay_s - self._spent_s))
            self._spent_s += time.monotonic() - started
            sums = self._liquidations(minute_ms)
            for name in new:
                self._known[name, minute_ms] = self._judge(name, minute_ms, histories.get(name), funding, sums)
        return {name: self._known[name, minute_ms] for name in names}

    def _ask(self, names: list[str], seconds: float) -> tuple[dict[str, list[OpenInterest]], dict[str, Funding] | None]:
        data = self.deps.market_data
        workers = max(1, min(self.deps.settings.exchange.max_connections, len(names) + 1))
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="confirm")
        try:
            funding = pool.submit(data.funding_all)
            histories = {
                name: pool.submit(data.open_interest_history, name, limit=_OPEN_INTEREST_POINTS) for name in names
            }
            asked: list[Future[Any]] = [funding, *histories.values()]
            wait(asked, timeout=seconds)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        answered = {name: points for name, future in histories.items() if (points := _answer(future)) is not None}
        return answered, _answer(funding)

    def _judge(
        self,
        name: str,
        minute_ms: int,
        history: list[OpenInterest] | None,
        funding: dict[str, Funding] | None,
        sums: Callable[[str], tuple[float | None, list[float]]],
    ) -> Confirmation:
        settings = self.deps.settings.sector
        close_ms = minute_ms + MINUTE_MS
        points = [(point.event_ms, point.contracts) for point in history or []]
        interest, interest_z = confirm_open_interest(points, close_ms, settings)
        latest = None if funding is None else funding.get(name)
        # The exchange tells only the present rate: for a minute that is being caught up it would be another one's.
        rate = None if latest is None or abs(latest.event_ms - close_ms) > _FUNDING_FRESH_MS else latest.rate
        notional, earlier = sums(name)
        liquidated, liquidated_z = confirm_liquidations(notional, earlier, settings)
        found = Confirmation(
            open_interest=interest,
            open_interest_z=interest_z,
            liquidations=liquidated,
            liquidation_z=liquidated_z,
            funding=confirm_funding(rate, settings),
            funding_rate=rate,
        )
        for source, state in (("open_interest", interest), ("liquidations", liquidated), ("funding", found.funding)):
            if state == "unknown":
                self.unknown[source] = self.unknown.get(source, 0) + 1
        return found

    def _liquidations(self, minute_ms: int) -> Callable[[str], tuple[float | None, list[float]]]:
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


def _answer(future: Future[T]) -> T | None:
    """Return what has come in time, None for a refusal or silence."""
    if not future.done() or future.cancelled():
        return None
    try:
        return future.result()
    except ExchangeError:
        return None
