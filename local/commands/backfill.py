"""`tapewatch backfill`: fetch 1-minute bars for the sector universe, with progress, again and again without harm."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "backfill",
        help="fetch 1-minute bars for the sector universe",
        description="Fetches the bars that are not stored yet, within the exchange's limits. Stop it and run it again.",
    )
    parser.add_argument("--hours", type=float, default=17.0, help="how far back (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    from local.asking import jobs_for
    from local.backfilling import run_backfill
    from local.running import stop_signals
    from local.world import own_state
    from shared.errors import UsageError
    from shared.market.model import Market
    from shared.settings_loader import load_settings

    if not 0 < arguments.hours <= 24 * 30:
        raise UsageError("--hours must lie in (0, 720]")
    settings = load_settings(arguments.config).settings
    table, lock = own_state(settings)
    try:
        deps = jobs_for(settings, table)
        now_ms = deps.market_data.server_time_ms(Market.SPOT)
        with stop_signals() as stop:
            report = run_backfill(
                deps,
                now_ms,
                arguments.hours,
                (Market.USDM, Market.SPOT),
                stop,
                lambda text: print(text, file=sys.stderr),
            )
    finally:
        table.close()
        lock.release()
    if arguments.json:
        print(json.dumps(asdict(report), ensure_ascii=False, default=str))
    else:
        print(f"{report.symbols} symbols, {report.pages} pages fetched, {report.bars:,} bars stored")
        for symbol, reason in report.failed.items():
            print(f"{symbol}: {reason}")
        if report.refused:
            print(report.refused)
    return 0 if report.complete and not report.refused else 1
