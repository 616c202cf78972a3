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

    from local import logs
    from local.asking import exchange_for
    from local.backfilling import backfill_if_needed
    from local.exchange_time import follow, note_offset
    from local.running import Stopped, interruptible, leave, run_until_stopped, stop_signals
    from local.terminal import Terminal
    from local.world import World, own_state, probe
    from shared.alerts.channels.console import ConsoleChannel
    from shared.alerts.wiring import messengers
    from shared.clock import OffsetClock, SystemClock
    from shared.pictures.drawing import Drawing
    from shared.settings_loader import load_settings

    settings = load_settings(arguments.config).settings
    table, lock = own_state(settings)
    logs.configure(file=Path(settings.storage.sqlite_path).with_suffix(".log"), level="INFO")
    try:
        base = SystemClock()
        clock = OffsetClock(base)
        market_data = exchange_for(settings, clock=clock, table=table)
        with stop_signals() as stop:
            available = interruptible(lambda: probe(settings, market_data), stop)
            available.notes.extend(filter(None, [interruptible(lambda: follow(clock, market_data, base), stop)]))
            note_offset(table, clock, base)
            drawing = Drawing(table, market_data, settings.storage.retention_days)

            def keep_time() -> None:
                follow(clock, market_data, base)
                note_offset(table, clock, base)

            world: World | None = None
            terminal = Terminal(lambda: world.status_line() if world else "starting", as_json=arguments.json)
            world = World(
                settings,
                clock=clock,
                table=table,
                market_data=market_data,
                channels=[ConsoleChannel(terminal.alert), *messengers(settings, clock, table, picture=drawing.png)],
                available=available,
                every_minute=keep_time,
            )
            for note in available.notes:
                terminal.note(note)
            if not arguments.skip_backfill:
                ready = world
                interruptible(lambda: backfill_if_needed(ready, terminal.note, stop), stop)
            with terminal:
                ended = run_until_stopped(world, terminal, stop, limit_s=arguments.for_seconds)
    except Stopped:
        return leave(False)
    finally:
        table.close()
        lock.release()
    return leave(ended)
