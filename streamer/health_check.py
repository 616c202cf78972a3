"""The container's health check: 0 while the streamer runs and trades come. Standard library only: it starts in 20 ms.

A streamer that is alive but hears nothing for five minutes is not healthy; a quiet market is given fifteen. One that
starts is given half an hour, for the models of hundreds of symbols on a quarter of a processor. A standby hears nothing
at all: it is healthy while it moves, or a new task would be killed before the old one is told to stop. So is an idle
shard, to which no symbol falls.
"""

import json
import os
import sys
import time

HUNG_S = 30.0
SILENT_S = 300.0
QUIET_S = 900.0
STARTING_S = 1800.0


def verdict(body: dict[str, float], now_s: float) -> str | None:
    """Return what is wrong, None when nothing is."""
    if now_s - body["written_s"] > HUNG_S:
        return f"the streamer has not moved for {now_s - body['written_s']:.0f} s"
    silent_s, state = now_s - body["moved_s"], str(body["state"])
    limit_s = {"standby": silent_s, "idle": silent_s, "starting": STARTING_S, "quiet": QUIET_S}.get(state, SILENT_S)
    if silent_s > limit_s:
        return f"no trade for {silent_s:.0f} s ({body['state']})"
    return None


def main() -> int:
    path = os.environ.get("TAPEWATCH_HEALTH_FILE", "/tmp/tapewatch-health.json")  # noqa: S108 - as health_file.py
    try:
        with open(path, encoding="ascii") as file:
            wrong = verdict(json.load(file), time.time())
    except (OSError, ValueError, KeyError, TypeError) as exc:
        wrong = f"no sign of life: {exc}"
    if wrong:
        sys.stderr.write(wrong + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
