"""Keys of signals, alerts, outbox, cooldowns and mutes; words and times as in `schema.py`."""

from __future__ import annotations

from shared.storage.schema import time_key, word
from shared.storage.table import Key

ALERT_FEED = "ALERTS"
MUTES = "MUTES"
ALERT_SK = "ALERT"
DELIVERY_PREFIX = "DELIVERY#"

_LAST_MS = 10**15 - 1


def time_part(ms: int) -> str:
    """Return a time as part of a key; one from before 1970, or absurdly late, is moved to the nearest possible."""
    return time_key(min(max(0, ms), _LAST_MS))


def feed_sk(event_ms: int, alert_id: str) -> str:
    """Order a feed by event time. A bare `time_part` sorts before every row of its millisecond."""
    return f"{time_part(event_ms)}#{alert_id}"


def signal_feed(detector: str) -> str:
    return f"SIGNALS#{detector}"


def latest_signal(detector: str, symbol: str) -> Key:
    return f"LATEST#{detector}", word(symbol)


def alert_partition(alert_id: str) -> str:
    """One alert and the notes of its deliveries."""
    return f"ALERT#{word(alert_id)}"


def alert(alert_id: str) -> Key:
    return alert_partition(alert_id), ALERT_SK


def delivery(alert_id: str, channel: str) -> Key:
    return alert_partition(alert_id), DELIVERY_PREFIX + word(channel)


def outbox(channel: str) -> str:
    """What one channel has not confirmed yet, by the time it was decided."""
    return f"OUTBOX#{word(channel)}"


def cooldown(key: str) -> Key:
    return f"COOLDOWN#{word(key)}", "STATE"


def budget(day: int) -> Key:
    return f"BUDGET#{day}", "STATE"


CHANNELS = "CHANNELS"


def channel(name: str) -> Key:
    """What all processes know of one channel: its pace and health."""
    return CHANNELS, word(name)


SNAPSHOT_SK = "SNAPSHOT"
FEEDBACK_PREFIX = "FEEDBACK#"
OUTCOMES = "OUTCOMES"


def snapshot(alert_id: str) -> Key:
    """The bars around an alert, as its picture shows them."""
    return alert_partition(alert_id), SNAPSHOT_SK


def outcome(event_ms: int, alert_id: str) -> Key:
    """What the market did after an alert, ordered like the feed."""
    return OUTCOMES, feed_sk(event_ms, alert_id)


def feedback(alert_id: str, by: str) -> Key:
    """What one person thought of an alert."""
    return alert_partition(alert_id), FEEDBACK_PREFIX + word(by)
