"""`tapewatch cooldowns`: what keeps alerts back now; lift one."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "cooldowns",
        help="what keeps alerts back now; lift one",
        description="Lists the cooldowns in force. --release lifts a symbol's, so that its next signal may alert.",
    )
    parser.add_argument("--release", metavar="SYMBOL", help="lift the cooldowns of this symbol")
    parser.add_argument("--detector", help="only of this detector")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from local.asking import jobs_for
    from local.world import open_state
    from shared.detection.reading import Detector
    from shared.errors import UsageError
    from shared.jobs import overview
    from shared.market.universe import normalize_symbol
    from shared.settings_loader import load_settings
    from shared.storage.cooldowns import CooldownRepository

    names = {one.value for one in Detector}
    if arguments.detector is not None and arguments.detector not in names:
        raise UsageError(f"--detector {arguments.detector}: choose from {', '.join(sorted(names))}")
    settings = load_settings(arguments.config).settings
    table = open_state(settings, aws=arguments.aws)
    try:
        deps = jobs_for(settings, table)
        now_ms = deps.clock.now_ms()
        if arguments.release is not None:
            watched = {*settings.universe.spot_symbols, *settings.futures_symbols}
            try:
                symbol = normalize_symbol(arguments.release, watched)
            except ValueError as exc:
                raise UsageError(f"--release: {exc}") from None
            keys = {row["key"] for row in _rows(overview.cooldowns(deps, now_ms), arguments.detector)
                    if row["symbol"] == symbol}  # fmt: skip
            for key in sorted(keys):
                CooldownRepository(table).release(key, now_ms)
        rows = _rows(overview.cooldowns(deps, now_ms), arguments.detector)
    finally:
        table.close()
    if arguments.json:
        print(json.dumps([{name: value for name, value in row.items() if name != "key"} for row in rows]))
    elif not rows:
        print("no cooldown is in force")
    else:
        for row in rows:
            held = f"  {row['held']} held" if row["held"] else ""
            print(f"{row['detector']:<22}{row['symbol']:<14}{row['direction'] or '':<6}until {row['until']}{held}")
    return 0


def _rows(rows: list[dict[str, Any]], detector: str | None) -> list[dict[str, Any]]:
    return [row for row in rows if detector in (None, row["detector"])]
