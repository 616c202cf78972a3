"""Telegram's limits on one bot: a message a second to a chat, twenty a minute to a group, and the pauses it names."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field

from shared.clock import Clock

_BETWEEN_MS = 1_000
_GROUP_MESSAGES = 20
_GROUP_WINDOW_MS = 60_000
_LONGEST_WAIT_MS = 3_000


@dataclass(slots=True)
class ChatLimits:
    """Safe to share between threads; messages to one chat leave in the order in which they asked."""

    clock: Clock
    _sent: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    _not_before_ms: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, chat: int | str, longest_ms: int = _LONGEST_WAIT_MS) -> float:
        """Take the next place in the chat, waiting for it; or return the seconds to come back after, taking none."""
        with self._lock:
            now_ms = self.clock.now_ms()
            at_ms = max(now_ms, self._next_ms(str(chat), now_ms))
            if at_ms - now_ms > longest_ms:
                return (at_ms - now_ms) / 1000
            self._sent[str(chat)].append(at_ms)
        if at_ms > now_ms:
            self.clock.sleep((at_ms - now_ms) / 1000)
        return 0.0

    def pause(self, chat: int | str, seconds: float) -> None:
        """Send nothing to the chat before so many seconds have passed: the exchange of a 429."""
        with self._lock:
            until_ms = self.clock.now_ms() + round(seconds * 1000)
            self._not_before_ms[str(chat)] = max(until_ms, self._not_before_ms.get(str(chat), 0))

    def _next_ms(self, chat: str, now_ms: int) -> int:
        sent = self._sent[chat]
        while sent and sent[0] <= now_ms - _GROUP_WINDOW_MS:
            sent.popleft()
        at_ms = self._not_before_ms.get(chat, 0)
        if sent:
            at_ms = max(at_ms, sent[-1] + _BETWEEN_MS)
        if is_group(chat) and len(sent) >= _GROUP_MESSAGES:
            at_ms = max(at_ms, sent[-_GROUP_MESSAGES] + _GROUP_WINDOW_MS)
        return at_ms


def is_group(chat: int | str) -> bool:
    """Groups and channels have negative ids, or a name that begins with @."""
    return str(chat).startswith(("-", "@"))
