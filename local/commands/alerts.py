"""`tapewatch alerts`: the alert log of the running or the last system."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "alerts",
        help="the alert log",
        description="Prints the alerts of the state file, oldest first; --follow goes on as new ones come.",
    )
    parser.add_argument("--since", default="24h", help="a span (24h) or an ISO time (default %(default)s)")
    parser.add_argument("--symbol", help="only this symbol")
    parser.add_argument("--detector", help="only this detector")
    parser.add_argument("--limit", type=int, default=200, help="at most so many (default %(default)s)")
    parser.add_argument("--follow", action="store_true", help="keep printing new alerts until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="one JSON object per alert")


def run(arguments: argparse.Namespace) -> int:
    from local.durations import since_ms
    from local.exchange_time import state_clock
    from local.world import open_state
    from shared.alerts.model import Alert
    from shared.detection.reading import Detector
    from shared.errors import UsageError
    from shared.settings_loader import load_settings
    from shared.storage.alerts import AlertRepository

    if arguments.limit < 1:
        raise UsageError("--limit must be at least 1")
    detector = None
    if arguments.detector:
        try:
            detector = Detector(arguments.detector)
        except ValueError:
            names = ", ".join(one.value for one in Detector)
            raise UsageError(f"--detector {arguments.detector}: choose from {names}") from None
    settings = load_settings(arguments.config).settings
    table = open_state(settings, aws=arguments.aws)
    repository, start = AlertRepository(table), since_ms("--since", arguments.since, state_clock(table).now_ms())
    symbol = arguments.symbol.strip().upper() if arguments.symbol else None
    seen: set[str] = set()

    def fresh() -> list[Alert]:
        found: list[Alert] = []
        cursor: str | None = None
        while len(found) < arguments.limit:
            page, cursor = repository.range(
                symbol=symbol, detector=detector, since_ms=start, limit=arguments.limit, cursor=cursor
            )
            found.extend(alert for alert in page if alert.alert_id not in seen)
            if cursor is None:
                break
        seen.update(alert.alert_id for alert in found)
        return found[: arguments.limit][::-1]

    try:
        _print(fresh(), arguments.json)
        while arguments.follow:
            time.sleep(1.0)
            _print(fresh(), arguments.json)
    finally:
        table.close()
    if not seen and not arguments.json:
        print("no alerts in this time")
    return 0


def _print(alerts: list[Any], as_json: bool) -> None:
    from shared.clock import iso_utc

    for alert in alerts:
        if as_json:
            print(json.dumps(alert.to_json(), ensure_ascii=False), flush=True)
        else:
            print(
                f"{iso_utc(alert.event_ms)}  {alert.severity.value:<8}  {alert.title}  [{alert.alert_id[:12]}]",
                flush=True,
            )
