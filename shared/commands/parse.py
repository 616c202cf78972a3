"""What people type to the bot, read into a command. Pure; nonsense is an answer, never an error."""

from __future__ import annotations

import re
from dataclasses import dataclass

NAMES = ("status", "alerts", "top", "why", "mute", "unmute", "mutes", "test", "help", "start")
_COMMAND = re.compile(r"/([a-z]{1,20})(?:@[A-Za-z0-9_]{1,40})?(?:\s+(.*))?", re.S)
_SPAN = re.compile(r"(\d{1,4})\s*([mhd])")
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_MS = 30 * 86_400_000
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    words: tuple[str, ...] = ()


def parse(text: object) -> Command | None:
    """Return the command, `Command("unknown")` for a slash that means nothing, None for what is no command at all."""
    if not isinstance(text, str) or not text.startswith("/"):
        return None
    match = _COMMAND.fullmatch(text[:_LONGEST_TEXT].strip())
    if match is None or match[1] not in NAMES:
        return Command("unknown")
    return Command(match[1], tuple((match[2] or "").split()))


def span_ms(words: str) -> int | None:
    """Return a span such as 30m, 1h, 7d in milliseconds; None when it is none, or longer than 30 days."""
    match = _SPAN.fullmatch(words.strip().lower())
    if match is None:
        return None
    ms = int(match[1]) * _UNITS_MS[match[2]]
    return ms if 0 < ms <= _LONGEST_MS else None
