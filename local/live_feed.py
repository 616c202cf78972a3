"""Is the trade stream of this process silent? Its own reconnects must not make a dead feed look alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_WINDOW_S = 5.0  # the streamer's rate is that of its last five seconds
_EXPECTED = 10.0  # trades that should have come within it: the chance of none is e**-10
_WEIGHT = 0.1


class LiveFeed:
    """Asks the streamer, and calls it silent when no trade comes where many did before."""

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status
        self._usual = 0.0

    def __call__(self) -> dict[str, Any]:
        now = dict(self._status())
        rate = float(now.get("trades_per_s") or 0.0)
        if rate > 0:
            self._usual = rate if not self._usual else (1 - _WEIGHT) * self._usual + _WEIGHT * rate
        elif now.get("state") == "live" and self._usual * _WINDOW_S >= _EXPECTED:
            now |= {"state": "silent", "reason": f"no trade for {_WINDOW_S:g} s"}
        return now
