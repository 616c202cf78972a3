"""When to try the next connection: full jitter, and a budget of attempts that no storm can exceed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

MAX_ATTEMPTS = 60
WINDOW_S = 300.0
"""At most 60 attempts in any 5 minutes; the exchange bans an address at 300."""


class AttemptBudget:
    """Say how long to wait before each connection attempt. Pure: told the time and given the randomness."""

    def __init__(
        self,
        *,
        base_s: float = 0.5,
        cap_s: float = 60.0,
        max_attempts: int = MAX_ATTEMPTS,
        window_s: float = WINDOW_S,
    ) -> None:
        self.base_s = base_s
        self.cap_s = cap_s
        self.window_s = window_s
        self.failures = 0
        self._attempts: deque[float] = deque(maxlen=max_attempts)

    def next_delay(self, now_s: float, rng: Callable[[], float]) -> float:
        """Return the seconds to wait before the next attempt, and count that attempt as made then.

        Full jitter: uniform in [0, min(cap, base * 2**failures)]; the first attempt after a success goes at once.
        `rng` returns a uniform number in [0, 1). The budget comes first: its wait may exceed the cap.
        """
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self.failures - 1, 30)) if self.failures else 0.0
        at_s = now_s + rng() * ceiling
        if self._attempts:
            at_s = max(at_s, self._attempts[-1])  # attempts asked for at the same time still come one by one
        if len(self._attempts) == self._attempts.maxlen:
            at_s = max(at_s, self._attempts[0] + self.window_s)
        self._attempts.append(at_s)
        self.failures += 1
        return at_s - now_s

    def succeeded(self) -> None:
        """Forget the failures: the connection delivers. The attempts of the last minutes still count."""
        self.failures = 0
