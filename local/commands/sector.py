"""`tapewatch sector`: the newest features and rule states of every sector symbol."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "sector",
        help="current features and rule states of every sector symbol",
        description=(
            "Shows the newest minute's features of every sector symbol: z-scores, beta, taker share, learning state, "
            "and initiators whose followers are still awaited."
        ),
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    from local.world import open_state
    from shared.clock import iso_utc
    from shared.errors import StorageMissing
    from shared.jobs.sector import CHECKPOINT
    from shared.settings_loader import load_settings
    from shared.storage.checkpoints import CheckpointRepository
    from shared.storage.features import FeatureRepository

    settings = load_settings(arguments.config).settings
    table = open_state(settings)
    try:
        latest = FeatureRepository(table).latest()
        state = CheckpointRepository(table).get(CHECKPOINT)
        pending = state["tracker"]["pending"] if state else []
    finally:
        table.close()
    if latest is None:
        raise StorageMissing("no features are stored yet: `tapewatch run` computes them each minute")
    minute_ms, features = latest
    if arguments.json:
        sectors = {
            name: {symbol: features.get(symbol) for symbol in members} for name, members in settings.sectors.items()
        }
        benchmark = {settings.benchmark_symbol: features.get(settings.benchmark_symbol)}
        answer = {"minute": iso_utc(minute_ms), "benchmark": benchmark, "sectors": sectors, "pending": pending}
        print(json.dumps(answer, ensure_ascii=False))
        return 0
    _table(iso_utc(minute_ms), settings, features, pending)
    return 0


def _table(minute: str, settings: Any, features: dict[str, Any], pending: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from shared.clock import iso_utc

    full = settings.sector.windows.zscore_lookback_bars
    grid = Table(title=f"Sectors at {minute}")
    for name in ("sector", "symbol"):
        grid.add_column(name)
    for name in ("r 15m %", "beta", "excess %", "z excess", "z volume", "taker buy %"):
        grid.add_column(name, justify="right")
    grid.add_column("state")
    rows = [("benchmark", settings.benchmark_symbol)]
    rows += [(name, symbol) for name, members in settings.sectors.items() for symbol in members]
    for sector, symbol in rows:
        one = features.get(symbol)
        if one is None:
            grid.add_row(Text(sector), Text(symbol), *[""] * 6, "no data")
            continue
        learning = one["status"] == "warming"
        grid.add_row(
            Text(sector),
            Text(symbol),
            _number(one["r_15m"], 100, 2),
            _number(one["beta"], 1, 2),
            _number(one["excess_return"], 100, 2),
            _number(one["z_excess_return"], 1, 1),
            _number(one["z_volume"], 1, 1),
            _number(one["taker_buy_share"], 100, 1),
            f"learning {one['bars']}/{full}" if learning else one["status"],
        )
    console = Console()
    console.print(grid)
    for one in pending:
        followers = ", ".join(follower[0] for follower in one["followers"]) or "none yet"
        state = "event sent" if one["done"] else "waiting"
        console.print(
            Text(
                f"{one['initiator']} {one['direction']} at {iso_utc(one['initiator_ms'])}: "
                f"followers {followers} ({state})"
            )
        )


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}"
