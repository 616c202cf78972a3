"""Does the stream stay too far behind? Pure; told the lag and the time."""

from __future__ import annotations

LAG_MS = 5_000  # further behind than this, the stream is dropped and what it held is fetched over REST
LAG_S = 3.0  # for so long
_NO_LAG_MS = 1 << 60


class LagWatch:
    """Judges the lag against the least one that was seen: the clocks of a recording and of this machine may be years
    apart. An old lag of a silent feed says nothing."""

    def __init__(self) -> None:
        self._least_ms = _NO_LAG_MS
        self._since_s: float | None = None
        self._recv_ms = 0
        self.drops = 0

    def look(self, lag_ms: int, recv_ms: int, now_s: float) -> bool:
        """Tell whether to drop the stream now: what it holds is fetched over REST, which is faster.

        Args:
            lag_ms: receipt minus trade time of the newest trade.
            recv_ms: when that trade was received; 0 before the first.
        """
        fresh, self._recv_ms = recv_ms != self._recv_ms, recv_ms
        if recv_ms:
            self._least_ms = min(lag_ms, self._least_ms)
        if lag_ms - self._least_ms <= LAG_MS or not fresh:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s > LAG_S:
            self._since_s = None
            self.drops += 1
            self._least_ms = _NO_LAG_MS
            return True
        return False
