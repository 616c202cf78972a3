"""One owner at a time, without trusting anybody's clock.

An owner shows that it lives by raising a counter. Another one takes over when, by its own clock, the counter has
not moved for the lease's length; two clocks are never compared. Each take-over raises the fence. A write that must
come from the owner only carries `Lease.check()` in its transaction: an owner that slept through its lease is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.storage.schema import lease_key
from shared.storage.table import Absent, AllOf, Check, Condition, Equals, Item, Table


@dataclass(frozen=True, slots=True)
class Lease:
    """`fence` grows with each owner, `beat` with each renewal; `ttl_ms` is how long silence is tolerated."""

    name: str
    owner: str
    fence: int
    beat: int
    ttl_ms: int

    def check(self) -> Check:
        """Return the write that lets a transaction apply only while this lease stands."""
        return Check(lease_key(self.name), self._mine())

    def _mine(self) -> Condition:
        return AllOf((Equals("owner", self.owner), Equals("fence", self.fence)))


class LeaseRepository:
    """`now_ms` is always the caller's own clock, best a monotonic one. `owner` names one run of one process."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._seen: dict[str, tuple[Item, int]] = {}  # what stood there, and since when on our clock

    def acquire(self, name: str, owner: str, now_ms: int, ttl_ms: int) -> Lease | None:
        """Return the lease, or None while another owner holds it; ask again about once a second.

        A dead owner's lease is free once this repository has watched it unmoved for its length: at the first
        sight of it the watch only begins. A released one is free at once, and so is one that an earlier run under the
        same name held: from now on that run is refused as any other would be.
        """
        item = self._table.get(lease_key(name))
        if item is None:
            return self._take(Lease(name, owner, 1, 1, ttl_ms), Absent())
        fence, beat = _number(item, "fence"), _number(item, "beat")
        same = AllOf((Equals("fence", fence), Equals("beat", beat)))
        if item.get("owner") not in ("", owner):
            seen, since_ms = self._seen.get(name, (None, now_ms))
            if seen != item:
                self._seen[name] = (item, now_ms)
                return None
            if now_ms - since_ms < _number(item, "ttl_ms"):
                return None
        return self._take(Lease(name, owner, fence + 1, beat + 1, ttl_ms), same)

    def renew(self, lease: Lease) -> Lease | None:
        """Show that the owner lives; None means the lease is lost, and with it the right to write."""
        return self._take(replace(lease, beat=lease.beat + 1), lease._mine())

    def release(self, lease: Lease) -> None:
        """Free the lease for the next owner at once; nothing happens when it was lost before."""
        self._table.put(_item(replace(lease, beat=lease.beat + 1), owner=""), lease._mine())

    def _take(self, lease: Lease, condition: Condition) -> Lease | None:
        result = self._table.put(_item(lease, owner=lease.owner), condition)
        if result.applied or result.existing == _item(lease, owner=lease.owner):  # written, the answer was lost
            self._seen.pop(lease.name, None)
            return lease
        return None


def _item(lease: Lease, *, owner: str) -> Item:
    pk, sk = lease_key(lease.name)
    return {"pk": pk, "sk": sk, "owner": owner, "fence": lease.fence, "beat": lease.beat, "ttl_ms": lease.ttl_ms}


def _number(item: Item, name: str) -> int:
    value = item.get(name, 0)
    return value if isinstance(value, int) else 0
