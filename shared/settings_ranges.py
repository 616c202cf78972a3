"""Ranges that hold for every setting of a kind: numbers are finite and not negative, names are known ones."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

import msgspec

from shared.errors import ConfigurationError
from shared.settings import Settings

DETECTORS = (  # those of shared.detection, which may not be imported here; a test compares them
    "volume_spike", "trade_spike", "order_book_imbalance", "sector_initiator", "sector_diffusion", "window_anomaly",
    "pump", "market_wide", "system",
)  # fmt: skip
CHANNELS = ("console", "sns", "telegram", "webhook")
OUTBOX_KEPT_DAYS = 7
"""How long the outbox keeps what a channel has not taken."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MOST = 2**53  # beyond it a float no longer tells one whole number from the next
_MAY_BE_NEGATIVE = frozenset({"alerts.telegram.chat_id"})
_MAY_NOT_BE_ZERO = frozenset(
    {
        "streamer.watchdog_seconds", "streamer.renew_hours", "streamer.heartbeat_seconds", "streamer.warmup_hours",
        "storage.retention_days", "alerts.max_age_minutes",
    }
)  # fmt: skip


def check_ranges(settings: Settings) -> None:
    """Refuse numbers that are no numbers, negative amounts, and names that nothing answers to.

    Raises:
        ConfigurationError: names the setting and what it may be.
    """
    for path, value in _numbers(msgspec.to_builtins(settings)):
        if not isfinite(value) or abs(value) > _MOST:
            raise ConfigurationError(f"{path} must be a number of ordinary size, is {str(value)[:20]}")
        if value < 0 and path not in _MAY_BE_NEGATIVE:
            raise ConfigurationError(f"{path} must not be negative, is {value}")
        if value == 0 and path in _MAY_NOT_BE_ZERO:
            raise ConfigurationError(f"{path} must be greater than 0")
    for name in settings.alerts.cooldown_minutes:
        if name not in DETECTORS:
            raise ConfigurationError(f"alerts.cooldown_minutes.{name}: no such detector; known: {', '.join(DETECTORS)}")
    for name in settings.alerts.channels or ():
        if name not in CHANNELS:
            raise ConfigurationError(f"alerts.channels: no channel {name!r}; known: {', '.join(CHANNELS)}")
    if settings.api.host not in LOOPBACK and not settings.api.token_secret:
        raise ConfigurationError(
            f"api.host {settings.api.host} would answer strangers: use 127.0.0.1, or name a token in api.token_secret"
        )


def _numbers(tree: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _numbers(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _numbers(value, prefix)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield prefix, tree
