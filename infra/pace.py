"""The streamer's pace on AWS, where each sign of life is a write that is paid for."""

from __future__ import annotations

import msgspec

from shared.settings import Settings, StreamerSettings

ON_AWS_S = 30.0
_PACED = ("heartbeat_seconds", "lease_seconds")


def paced(settings: Settings) -> Settings:
    """Return the settings with heartbeat and lease every 30 s, where the configuration says nothing else.

    Every 5 s, as on one machine, they would cost about 2 US dollars a month. A deployment hands the lease over at
    once; only after a crash the next task waits for it, and then fetches what was missed.
    """
    plain = StreamerSettings()
    slower = {name: ON_AWS_S for name in _PACED if getattr(settings.streamer, name) == getattr(plain, name)}
    return msgspec.structs.replace(settings, streamer=msgspec.structs.replace(settings.streamer, **slower))
