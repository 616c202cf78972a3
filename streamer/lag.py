"""Does the stream stay too far behind? Pure; told the lag and the time. Our own delay is counted on the machine's
monotonic clock: the market's may jump, wait in a backlog, or run at sixty times its speed."""

from __future__ import annotations

LAG_MS = 5_000  # further behind than this, the stream is dropped and what it held is fetched over REST
LAG_S = 3.0  # for so long
SLOW_MS = 1_000  # a read that took longer makes the next one go in parts
_NO_LAG_MS = 1 << 60


class LagWatch:
    """Judges the lag of receipts against the least one that was seen: the clocks of a recording and of this machine may
    be years apart. An old lag of a silent feed says nothing. What we ourselves need for a read comes on top: a slow
    consumer takes everything that waits in one read, whose newest trade is never old when it is received.
    """

    def __init__(self) -> None:
        self._least_ms = _NO_LAG_MS
        self._since_s: float | None = None
        self._recv_ms = 0
        self.held_ms = 0
        self._began_s, self._late_s = -1.0, -1.0
        self.drops = 0

    @property
    def slow(self) -> bool:
        """The last read took so long that the next one should be decided in parts."""
        return self.held_ms > SLOW_MS

    def decided(self, began_s: float, now_s: float) -> bool:
        """Note that a part of the read that began to be decided at `began_s` has been decided at `now_s`.

        Tells whether to drop what is left of the read, and the stream: its parts have come too late for too long. One
        that came late alone is a pause of this process (a sleep), after which the rest is quick.
        """
        self.held_ms = round((now_s - began_s) * 1000)
        if began_s != self._began_s:
            self._began_s, self._late_s = began_s, -1.0
        if self.held_ms <= LAG_MS:
            return False
        if self._late_s < 0:
            self._late_s = now_s
        if now_s - self._late_s <= LAG_S:
            return False
        self._drop()
        return True

    def look(self, lag_ms: int, recv_ms: int, now_s: float) -> bool:
        """Tell whether to drop the stream now: what it holds is fetched over REST, which is faster.

        Args:
            lag_ms: receipt minus trade time of the newest trade.
            recv_ms: when that trade was received; 0 before the first.
        """
        fresh, self._recv_ms = recv_ms != self._recv_ms, recv_ms
        if recv_ms:
            self._least_ms = min(lag_ms, self._least_ms)
        if lag_ms - self._least_ms + self.held_ms <= LAG_MS or not fresh:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s > LAG_S:
            self._drop()
            return True
        return False

    def _drop(self) -> None:
        """Begin anew: what the old connection still hands on is no news of the next one."""
        self.drops += 1
        self.held_ms, self._late_s, self._since_s, self._least_ms = 0, -1.0, None, _NO_LAG_MS
