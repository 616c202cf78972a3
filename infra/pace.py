"""The streamer's pace on AWS, where each write is paid for."""

from __future__ import annotations

import msgspec

from shared.settings import Settings, StreamerSettings

HEARTBEAT_S, LEASE_S = 30.0, 60.0
FLUSH_S, FLUSH_MANY_S = 120.0, 600.0
MANY_SYMBOLS = 50


def paced(settings: Settings) -> Settings:
    """Return the settings with a slower heartbeat, lease and flush, where the configuration says nothing else.

    At the pace of one machine they would cost about 4 US dollars a month for two symbols. A deployment hands the lease
    over and flushes at once; only after a crash the next task waits for the lease, and then fetches what was missed,
    the windows included that were closed and not stored.
    """
    plain = StreamerSettings()
    many = settings.universe.all is not None or len(settings.universe.spot_symbols) > MANY_SYMBOLS
    pace = {
        "heartbeat_seconds": HEARTBEAT_S,
        "lease_seconds": LEASE_S,
        "flush_seconds": FLUSH_MANY_S if many else FLUSH_S,
    }
    slower = {name: value for name, value in pace.items() if getattr(settings.streamer, name) == getattr(plain, name)}
    return msgspec.structs.replace(settings, streamer=msgspec.structs.replace(settings.streamer, **slower))
