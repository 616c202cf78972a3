"""`tapewatch demo`: the whole system against a simulated market, time sped up; no network, no account, no key."""

from __future__ import annotations

import argparse
from typing import Any

DEFAULT_SPEED = 60.0


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "demo",
        help="the whole system on this machine against a simulated market; no network, no account",
        description=(
            "Runs the whole system (minute jobs, trade streamer, detectors, alerts, state) against the local exchange "
            "with a simulated market whose time is sped up. Planted events make each kind of alert appear within a "
            "minute. Ctrl-C ends it; nothing is left behind."
        ),
    )
    parser.add_argument("--seed", type=int, default=7, help="the simulated market's seed (default %(default)s)")
    parser.add_argument(
        "--speed", type=float, default=DEFAULT_SPEED, help="market seconds per real second (default %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8080, help="the API's port; a free one is taken if it is in use")
    parser.add_argument("--json", action="store_true", help="print each alert as one JSON line")
    parser.add_argument("--for", dest="for_seconds", type=float, metavar="SECONDS", help="stop by itself after so long")
    parser.add_argument(
        "--until-all", action="store_true", help="stop by itself once each of the six kinds has been shown"
    )


def run(arguments: argparse.Namespace) -> int:
    from local.demo import run_demo
    from shared.errors import UsageError

    if not 1 <= arguments.speed <= 600:
        raise UsageError("--speed must lie in 1..600")
    return run_demo(
        seed=arguments.seed,
        speed=arguments.speed,
        port=arguments.port,
        as_json=arguments.json,
        for_seconds=arguments.for_seconds,
        until_all=arguments.until_all,
    )
