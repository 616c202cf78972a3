"""`tapewatch sector`: the newest features and rule states of every sector symbol."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from shared.detection.features import SymbolFeatures
from shared.detection.sector import bars_learnt, is_learning
from shared.errors import UsageError

if TYPE_CHECKING:
    from shared.market.universe import Universe
    from shared.settings import Settings
    from shared.storage.table import Table


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "sector",
        help="current features and rule states of every sector symbol",
        description=(
            "Shows the newest minute's features of every sector symbol: z-scores, beta, taker share, learning state, "
            "each sector's share, initiators whose followers are still awaited, and cooldowns."
        ),
    )
    parser.add_argument("--sector", action="append", metavar="NAME", help="only this sector (may be given again)")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    from local.world import open_state
    from shared.clock import iso_utc
    from shared.errors import StorageMissing
    from shared.jobs.sector import CHECKPOINT
    from shared.jobs.universe import stored_universe
    from shared.settings_loader import load_settings
    from shared.storage.checkpoints import CheckpointRepository
    from shared.storage.features import FeatureRepository

    settings = load_settings(arguments.config).settings
    table = open_state(settings, aws=arguments.aws)
    try:
        latest = FeatureRepository(table).latest()
        state = CheckpointRepository(table).get(CHECKPOINT)
        pending = state["tracker"]["pending"] if state else []
        if latest is None:
            raise StorageMissing("no features are stored yet: `tapewatch run` computes them each minute")
        universe = stored_universe(table, settings, latest[0])
        names = sorted(arguments.sector or universe.sectors)
        unknown = [name for name in names if name not in universe.sectors]
        if unknown:
            known = ", ".join(sorted(universe.sectors))
            raise UsageError(f"--sector {unknown[0]}: choose from {known}")
        cooling = _cooldowns(table, settings, universe.symbols(), latest[0])
    finally:
        table.close()
    minute_ms, features = latest
    if arguments.json:
        answer = {
            "minute": iso_utc(minute_ms),
            "benchmark": {universe.benchmark: _learning(features.get(universe.benchmark), settings)},
            "sectors": {
                name: {symbol: _learning(features.get(symbol), settings) for symbol in universe.sectors[name]}
                for name in names
            },
            "shares": {name: _share(universe.sectors[name], features, settings) for name in names},
            "pending": pending,
            "cooldowns": cooling,
        }
        print(json.dumps(answer, ensure_ascii=False))
        return 0
    _show(iso_utc(minute_ms), settings, universe, names, features, pending, cooling)
    return 0


def _learning(one: dict[str, Any] | None, settings: Settings) -> dict[str, Any] | None:
    """Return a symbol's features with how many of the bars of a full answer it has had."""
    if one is None:
        return None
    reading = SymbolFeatures.from_json(one)
    learnt, full = bars_learnt(reading, settings.sector)
    return {**one, "learning": is_learning(reading, settings.sector), "bars_learnt": learnt, "bars_full": full}


def _share(symbols: tuple[str, ...], features: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return how many of a sector's coins stand out as followers do, learning ones left out."""
    readings = [_learning(features.get(symbol), settings) for symbol in symbols]
    ready = [one for one in readings if one is not None and not one["learning"]]
    least = settings.sector.thresholds
    moved = sum(
        abs(one["z_excess_return"] or 0.0) >= least.excess_return_z_follower
        and (one["z_volume"] or 0.0) >= least.volume_z_follower
        for one in ready
    )
    return {"stand_out": moved, "coins": len(ready), "share": moved / len(ready) if ready else None}


def _cooldowns(table: Table, settings: Settings, symbols: tuple[str, ...], now_ms: int) -> list[dict[str, Any]]:
    """Return the sector alerts that still hold others back, by symbol and direction."""
    from shared.alerts.policy import Rules, cooldown_key
    from shared.clock import iso_utc
    from shared.detection.reading import Detector, Signal
    from shared.market.model import Market
    from shared.storage.cooldowns import CooldownRepository

    rules, cooldowns, found = Rules(settings), CooldownRepository(table), []
    for detector in (Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION):
        for symbol in symbols:
            key = cooldown_key(Signal(detector, Market.USDM, symbol, now_ms, now_ms, {}, {}))
            for sent in cooldowns.get(key).sent():
                until_ms = sent.at_ms + rules.cooldown_ms(detector)
                if until_ms > now_ms:
                    found.append(
                        {
                            "detector": detector.value,
                            "symbol": symbol,
                            "direction": sent.direction.value if sent.direction else None,
                            "since": iso_utc(sent.at_ms),
                            "until": iso_utc(until_ms),
                        }
                    )
    return found


def _show(
    minute: str,
    settings: Settings,
    universe: Universe,
    names: list[str],
    features: dict[str, Any],
    pending: list[Any],
    cooling: list[dict[str, Any]],
) -> None:
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    from shared.clock import iso_utc

    grid = Grid(title=f"Sectors at {minute}")
    for name in ("sector", "symbol"):
        grid.add_column(name)
    for name in ("r 15m %", "beta", "excess %", "z excess", "z volume", "taker buy %"):
        grid.add_column(name, justify="right")
    grid.add_column("state")
    rows = [("benchmark", universe.benchmark)]
    for name in names:
        share = _share(universe.sectors[name], features, settings)
        of = f" = {share['share']:.0%}" if share["coins"] else ""
        rows.append((f"{name}: {share['stand_out']} of {share['coins']}{of} stand out", ""))
        rows += [(name, symbol) for symbol in universe.sectors[name]]
    for sector, symbol in rows:
        one = _learning(features.get(symbol), settings)
        if not symbol:
            grid.add_row(Text(sector, style="bold"), *[""] * 8)
        elif one is None:
            grid.add_row(Text(sector), Text(symbol), *[""] * 6, "no data")
        else:
            state = one["status"]
            if one["learning"]:
                state = f"learning {one['bars_learnt']}/{one['bars_full']}"
            grid.add_row(
                Text(sector),
                Text(symbol),
                _number(one["r_15m"], 100, 2),
                _number(one["beta"], 1, 2),
                _number(one["excess_return"], 100, 2),
                _number(one["z_excess_return"], 1, 1),
                _number(one["z_volume"], 1, 1),
                _number(one["taker_buy_share"], 100, 1),
                state,
            )
    console = Console()
    console.print(grid)
    for one in pending:
        followers = ", ".join(follower[0] for follower in one["followers"]) or "none yet"
        others = len(universe.peers(one["initiator"]))
        state = "event sent" if one["done"] else "waiting"
        console.print(
            Text(
                f"{one['initiator']} {one['direction']} at {iso_utc(one['initiator_ms'])}: "
                f"followers {followers} ({len(one['followers'])} of {others}, {state})"
            )
        )
    for one in cooling:
        console.print(
            Text(f"{one['detector']} {one['symbol']} {one['direction'] or ''}: quiet until {one['until']}".strip())
        )


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}"
