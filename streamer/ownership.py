"""Who streams: one task holds the lease of its shard, any other one waits beside it.

The lease is renewed in a thread of its own, so that neither a busy loop nor slow storage lets it run out. A task that
slept through its lease finds out at its next renewal, and until then the table refuses its writes: each carries the
lease's fence. Nothing here compares two machines' clocks.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

from shared.errors import TapewatchError
from shared.storage.lease import Lease, LeaseRepository
from shared.storage.table import Table

logger = logging.getLogger(__name__)

_POLL_S = 0.4  # twice this may pass between an owner's death and the end of its lease


def new_owner() -> str:
    """Return a name for one run of one process."""
    return uuid.uuid4().hex


class Ownership:
    """Acquires, renews and releases the lease. Thread-safe.

    The lock is held while the table is written, for as long as storage takes; what is asked on the event loop (`lease`,
    `fresh`, `keep`) never waits for it.

    `lost` is called once, on the renewing thread, when another owner has taken over.
    """

    def __init__(
        self,
        table: Table,
        name: str,
        owner: str,
        ttl_s: float,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = LeaseRepository(table)
        self._name = name
        self._owner = owner
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._lock = threading.Lock()  # one renewal or release at a time
        self._lease: Lease | None = None
        self.renewed_s = 0.0  # when the lease was last ours for sure, by this process's own monotonic clock
        self.acquired_s: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.waited_s = 0.0  # how long the last acquisition took

    def acquire(self, stopped: Callable[[], bool], wait: Callable[[float], object]) -> bool:
        """Wait for the lease; False when `stopped` came first."""
        began_s = self._now_s()
        while not stopped():
            try:
                lease = self._leases.acquire(
                    self._name, self._owner, int(self._now_s() * 1000), int(self._ttl_s * 1000)
                )
            except TapewatchError as exc:
                if not exc.retryable:
                    raise
                logger.warning("lease_unreadable", extra={"reason": str(exc)})
                lease = None
            if lease is not None:
                with self._lock:
                    self._lease = lease
                    self.renewed_s = self.acquired_s = self._now_s()
                self.waited_s = self._now_s() - began_s
                logger.info("lease_acquired", extra={"lease": self._name, "fence": lease.fence})
                return True
            wait(min(_POLL_S, self._ttl_s / 5))
        return False

    def keep(self, lost: Callable[[], None]) -> None:
        """Renew three times in a lease's length, until `release` or the next `keep`."""
        self._stop.set()  # a lease lost by a refused write has left its thread behind
        self._stop = stop = threading.Event()

        def renew_for_ever() -> None:
            while not stop.wait(self._ttl_s / 3):
                if not self.confirm():
                    lost()
                    return

        self._thread = threading.Thread(target=renew_for_ever, name="streamer-lease", daemon=True)
        self._thread.start()

    def confirm(self) -> bool:
        """Renew the lease now; False when it is another's. A storage that does not answer proves nothing."""
        with self._lock:
            if self._lease is None:
                return False
            try:
                renewed = self._leases.renew(self._lease)
            except TapewatchError as exc:
                logger.warning("lease_not_renewed", extra={"reason": str(exc)})
                return True
            self._lease = renewed
            self.renewed_s = self._now_s()
            return renewed is not None

    @property
    def fresh(self) -> bool:
        """The lease was renewed so recently that nobody else can have it."""
        return self._lease is not None and self._now_s() - self.renewed_s < self._ttl_s * 0.8

    @property
    def lease(self) -> Lease | None:
        return self._lease

    def release(self) -> None:
        """Let the next owner in at once; nothing happens when the lease is not ours."""
        self._stop.set()
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            try:
                self._leases.release(lease)
            except TapewatchError as exc:
                logger.warning("lease_not_released", extra={"reason": str(exc)})
