"""`tapewatch check-config`: validate the configuration, print the effective values and where each came from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shared.settings_loader import load_settings


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "check-config",
        help="validate the configuration and print the effective values",
        description="Validates the configuration and prints every effective value and where it came from.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: values and sources by path")


def run(arguments: argparse.Namespace) -> int:
    loaded = load_settings(arguments.config)
    tree = msgspec.to_builtins(loaded.settings)
    rows = [(path, value, _source(path, loaded.sources)) for path, value in _leaves(tree)]
    if arguments.json:
        print(json.dumps({path: {"value": value, "source": source} for path, value, source in rows}, indent=2))
        return 0
    width = max(len(path) for path, _, _ in rows)
    for path, value, source in rows:
        print(f"{path:<{width}}  {json.dumps(value, ensure_ascii=False)}  # {source}")
    return 0


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _source(path: str, sources: Mapping[str, str]) -> str:
    """The nearest source at or above the path: a whole section may come from one variable."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        found = sources.get(".".join(parts[:end]))
        if found is not None:
            return found
    return "default"
