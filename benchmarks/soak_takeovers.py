"""How long a soak's lease stood without an owner, seen from outside: who was struck, who was awake, who took it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """The lease as the table has it; `owner` is the process id that its holder goes by."""

    owner: str
    fence: int
    beat: int


@dataclass(slots=True)
class _Outage:
    since_s: float
    pid: int
    fence: int
    beat: int


class TakeOvers:
    """Told of each process that begins, is struck (killed or put to sleep) and wakes; looks at the lease in between.

    A take-over counts from the moment from which one process or another was awake throughout to make it: the strike at
    the owner, or later, when the schedule had struck everybody else too. `unowned_s` has the same from the strike. An
    owner that wakes before anybody has taken its lease goes on as its owner: no take-over, counted in `returned`.
    """

    def __init__(self, lease: Callable[[], LeaseSeen], now_s: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._now_s = now_s
        self._awake: dict[int, float] = {}  # since when, by process
        self._outage: _Outage | None = None
        self.took_s: list[float] = []
        self.unowned_s: list[float] = []
        self.returned = 0

    def awake(self, pid: int) -> None:
        """A process has begun, or was woken."""
        self._awake.setdefault(pid, self._now_s())

    def struck(self, pid: int) -> None:
        """A process has just been killed or put to sleep."""
        self.look()
        self._awake.pop(pid, None)
        lease = self._lease()
        if self._outage is None and lease.owner == str(pid):
            self._outage = _Outage(self._now_s(), pid, lease.fence, lease.beat)

    def look(self) -> None:
        outage = self._outage
        if outage is None:
            return
        lease, now_s = self._lease(), self._now_s()
        if lease.fence != outage.fence:
            able_s = min(list(self._awake.values()), default=now_s)  # a copy: another thread wakes the sleepers
            self.took_s.append(now_s - max(outage.since_s, able_s))
            self.unowned_s.append(now_s - outage.since_s)
            self._outage = None
        elif outage.pid not in self._awake:
            outage.beat = lease.beat  # a renewal that was under way when it was struck
        elif lease.beat != outage.beat:
            self.returned += 1
            self._outage = None
