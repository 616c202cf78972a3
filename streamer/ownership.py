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

RELEASE_S = 1.0  # a storage that answers has done it long before
_POLL_S = 0.4  # twice this may pass between an owner's death and the end of its lease


def new_owner() -> str:
    """Return a name for one run of one process."""
    return uuid.uuid4().hex


class Ownership:
    """Acquires, renews and releases the lease. Thread-safe.

    The lock is held while the table is written, for as long as storage takes; what is asked on the event loop (`lease`,
    `fresh`, `keep`) never waits for it, and `release` for a moment only.

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
        self._released = False  # from the moment it is asked for: a renewal may still be under way
        self._releasing: threading.Thread | None = None
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
                    self._lease, self._released = lease, False
                    self.renewed_s = self.acquired_s = self._now_s()
                if stopped():  # while storage was answering: nobody will use it
                    self.release()
                    return False
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
        """Renew the lease now; False when it is not ours. A storage that does not answer proves nothing."""
        if self._released:
            return False
        with self._lock:
            if self._lease is None:
                return False
            try:
                renewed = self._leases.renew(self._lease)
            except TapewatchError as exc:
                logger.warning("lease_not_renewed", extra={"reason": str(exc)})
                return not self._released
            self._lease = renewed
            self.renewed_s = self._now_s()
            return renewed is not None and not self._released

    @property
    def fresh(self) -> bool:
        """The lease was renewed so recently that nobody else can have it."""
        return self.lease is not None and self._now_s() - self.renewed_s < self._ttl_s * 0.8

    @property
    def lease(self) -> Lease | None:
        return None if self._released else self._lease

    def release(self, within_s: float = RELEASE_S) -> None:
        """Let the next owner in at once; nothing happens when the lease is not ours.

        It is no longer ours when this returns. What storage has not answered `within_s` is left to a thread that nobody
        waits for: the table is told as soon as it answers, or the lease runs out.
        """
        self._stop.set()
        self._released = True
        self._releasing = releasing = threading.Thread(target=self._release, name="streamer-lease-end", daemon=True)
        releasing.start()
        releasing.join(within_s)

    def _release(self) -> None:
        with self._lock:  # a renewal that is under way writes first, or it would take back what is given up here
            if not self._released:
                return
            lease, self._lease = self._lease, None
        if lease is not None:
            try:
                self._leases.release(lease)
            except TapewatchError as exc:
                logger.warning("lease_not_released", extra={"reason": str(exc)})
