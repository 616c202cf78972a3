"""`tapewatch report`: what happened, as JSON and as one HTML file: counts, top symbols, every event, plots."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "report",
        help="what happened: counts, top symbols, every event",
        description=(
            "Prints (or writes) one JSON object about the time since --since, and with --html one self-contained "
            "page with plots."
        ),
    )
    parser.add_argument("--since", default="24h", help="a span (24h) or an ISO time (default %(default)s)")
    parser.add_argument("--output", metavar="FILE", help="write the JSON there instead of printing it")
    parser.add_argument("--html", metavar="FILE", help="write a self-contained page there; prints no JSON then")


def run(arguments: argparse.Namespace) -> int:
    from local.asking import jobs_for
    from local.durations import since_ms
    from local.world import open_state
    from shared.jobs.report_extras import full_report
    from shared.jobs.report_html import render
    from shared.settings_loader import load_settings

    settings = load_settings(arguments.config).settings
    table = open_state(settings, aws=arguments.aws)
    try:
        deps = jobs_for(settings, table)
        now_ms = deps.clock.now_ms()
        since = since_ms("--since", arguments.since, now_ms)
        answer, charts = full_report(deps, since_ms=since, until_ms=now_ms)
    finally:
        table.close()
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    if arguments.output:
        write_whole(Path(arguments.output), text + "\n")
        print(f"{arguments.output}: {len(answer['events'])} events")
    if arguments.html:
        write_whole(Path(arguments.html), render(answer, charts))
        print(f"{arguments.html}: {len(charts)} charts, {Path(arguments.html).stat().st_size / 1000:.0f} kB")
    if not arguments.output and not arguments.html:
        print(text)
    return 0


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the whole new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent or Path(), prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
