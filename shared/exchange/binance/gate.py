"""One door per exchange host: weight budget, bans and blocks, shared by every thread of this process."""

from __future__ import annotations

import threading
from typing import Protocol

from shared.clock import Clock, iso_utc
from shared.errors import Banned, Blocked, ExchangeError, RateLimited, RestrictedLocation, StorageError
from shared.exchange.binance.limits import STATISTICS_LIMIT, STATISTICS_WINDOW_MS, WeightBudget

BLOCK_MS = 300_000
"""How long a host is left alone after a 403."""
RESTRICTED_MS = 900_000
"""How long a host is left alone after a 451."""
STORE_REFRESH_MS = 2_000
PATIENCE_S = 5.0
"""A stop (429) longer than this is an error at once; a shorter one is waited out."""


class BanStore(Protocol):
    """Where a host's "no call before" is kept, so that every process obeys it."""

    def get(self, host: str) -> int | None: ...

    def set(self, host: str, until_ms: int) -> None: ...


class HostGate:
    """Decide when a call to one host may leave. Every method is safe between threads."""

    def __init__(self, host: str, weight_limit: int, share: float, clock: Clock, store: BanStore | None) -> None:
        self.host = host
        self.budget = WeightBudget(weight_limit, share)
        self.statistics = WeightBudget(STATISTICS_LIMIT, share, STATISTICS_WINDOW_MS)
        self._clock = clock
        self._store = store
        self._read_ms: int | None = None
        self._lock = threading.Lock()
        self._banned_until_ms = 0
        self._refused: ExchangeError | None = None  # the last 403 or 451
        self._refused_until_ms = 0
        self._probing = False

    def enter(self, weight: int, statistics: int = 0) -> float:
        """Return 0 when the call may leave now (its weight is taken), or the seconds to wait before asking again.

        Raises:
            RateLimited: the exchange named a time that is more than a few seconds away.
            Banned: the same, after a 418.
            Blocked, RestrictedLocation: the host refused us lately; not even a probe is due.
        """
        with self._lock:
            now_ms = self._clock.now_ms()
            self._read_store(now_ms)
            stop_ms = self.budget.stopped_until_ms - now_ms
            if now_ms < self._banned_until_ms:
                until = self._banned_until_ms
                raise Banned(f"{self.host} has banned this address; no call before {iso_utc(until)}", until_ms=until)
            if stop_ms > PATIENCE_S * 1000:
                raise RateLimited(
                    f"{self.host} asks for a pause; no call before {iso_utc(now_ms + stop_ms)}",
                    retry_after_s=stop_ms / 1000,
                )
            if self._refused is not None and (now_ms < self._refused_until_ms or self._probing):
                raise type(self._refused)(str(self._refused), status=self._refused.status)
            wait_ms = self.statistics.reserve(statistics, now_ms) if statistics else 0
            wait_ms = wait_ms or self.budget.reserve(weight, now_ms)
            if not wait_ms and self._refused is not None:
                self._probing = True  # this one call tries; the others hear the old answer until it is back
            return wait_ms / 1000

    def leave(self, *, answered: bool) -> None:
        """End a call: any answer that was no 403 or 451 opens the door again after a probe."""
        with self._lock:
            self._probing = False
            if answered:
                self._refused = None

    def observe(self, used_weight: int, entered_ms: int) -> None:
        """Learn the exchange's own count from the answer to a call that was let in at `entered_ms`."""
        with self._lock:
            self.budget.observe(used_weight, entered_ms, self._clock.now_ms())

    def set_limit(self, weight_limit: int) -> None:
        with self._lock:
            self.budget.limit = weight_limit

    def stop(self, until_ms: int, *, banned: bool) -> None:
        """Obey a 429 or 418 and tell the other processes."""
        with self._lock:
            self.budget.stop_until(until_ms)
            if banned:
                self._banned_until_ms = max(self._banned_until_ms, until_ms)
            if self._store is not None:
                try:
                    self._store.set(self.host, until_ms)
                except StorageError:
                    self._read_ms = None  # this process obeys all the same; the others will hear it themselves

    def refuse(self, error: Blocked | RestrictedLocation) -> None:
        """Obey a 403 or 451: leave the host alone for minutes, then let a single call try."""
        pause_ms = RESTRICTED_MS if isinstance(error, RestrictedLocation) else BLOCK_MS
        with self._lock:
            self._refused, self._probing = error, False
            self._refused_until_ms = self._clock.now_ms() + pause_ms

    def _read_store(self, now_ms: int) -> None:
        if self._store is None or (self._read_ms is not None and 0 <= now_ms - self._read_ms < STORE_REFRESH_MS):
            return
        try:
            until_ms = self._store.get(self.host)
        except StorageError:
            return
        self._read_ms = now_ms
        if until_ms is not None:
            self.budget.stop_until(until_ms)
