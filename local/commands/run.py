"""`tapewatch run`: the whole system on this machine against the configured exchange."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "run",
        help="the whole system on this machine against the configured exchange",
        description=(
            "Runs the whole system against the configured exchange (Binance by default). State is kept in one SQLite "
            "file across restarts; the first run fetches the history it needs. Ctrl-C stops it cleanly."
        ),
    )
    parser.add_argument("--skip-backfill", action="store_true", help="do not fetch missing history before starting")
    parser.add_argument("--json", action="store_true", help="print each alert as one JSON line")
    parser.add_argument("--for", dest="for_seconds", type=float, metavar="SECONDS", help="stop by itself after so long")


def run(arguments: argparse.Namespace) -> int:

    import os

    from local import logs
    from local.config_watch import ConfigWatch
    from local.reloading import Reloading
    from local.running import Stopped, leave, stop_signals
    from local.world import own_state
    from shared.settings_loader import load_settings

    settings = load_settings(arguments.config).settings
    watch = ConfigWatch(arguments.config, settings, os.environ)
    table, lock = own_state(settings)
    logs.configure(file=Path(settings.storage.sqlite_path).with_suffix(".log"), level="INFO")
    try:
        with stop_signals() as stop:
            running = Reloading(table, watch, stop, as_json=arguments.json, backfill=not arguments.skip_backfill)
            ended = running.run(settings, limit_s=arguments.for_seconds)
    except Stopped:
        return leave(False)
    finally:
        table.close()
        lock.release()
    return leave(ended)
