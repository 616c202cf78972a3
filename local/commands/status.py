"""`tapewatch status`: health of every part, from the signs of life in the state file."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "status",
        help="health of every part",
        description="Shows each part's last sign of life, the newest minute and bans. Exit status 1 if any is silent.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    from local.asking import jobs_for
    from local.world import open_state
    from shared.jobs.health import health
    from shared.settings_loader import load_settings

    settings = load_settings(arguments.config).settings
    table = open_state(settings, aws=arguments.aws)
    try:
        deps = jobs_for(settings, table)
        answer = health(deps)
    finally:
        table.close()
    if arguments.json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        _show(answer)
    return 1 if answer["status"] == "silent" else 0


def _show(answer: dict[str, Any]) -> None:
    print(f"{answer['status']} at {answer['time']}")
    for name, one in answer["components"].items():
        fields = one.get("fields", {})
        loop = f", {fields['loop']} loop" if "loop" in fields else ""
        print(f"  {name:<14} {one.get('state', ''):<8} last sign of life {one.get('last_beat') or 'never'}{loop}")
        if problem := fields.get("problem"):
            print(f"  {'':<14} {problem}")
