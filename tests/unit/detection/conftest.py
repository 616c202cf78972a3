"""Recorded bars and trades as the market model, read the plain way."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.market.model import Bar, Market, Side, Trade, TradeKind


def _trades(path: Path) -> Iterator[Trade]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield Trade(
                Market.SPOT, "X", TradeKind.TRADE, row.get("t"), float(row["p"]), float(row["q"]),
                Side.SELL if row["m"] else Side.BUY, row["T"], row["T"],
            )  # fmt: skip


def _bars(path: Path) -> list[Bar]:
    symbol = path.name.split("_")[1]
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return [
            Bar(
                Market.USDM, symbol, int(row["open_time"]), int(row["close_time"]), float(row["open"]),
                float(row["high"]), float(row["low"]), float(row["close"]), float(row["volume"]),
                taker_buy_volume=float(row["taker_buy_volume"]) if row["taker_buy_volume"] else None,
            )
            for row in csv.DictReader(lines)
        ]  # fmt: skip


@pytest.fixture(scope="session")
def read_trades() -> Callable[[Path], Iterator[Trade]]:
    return _trades


@pytest.fixture(scope="session")
def read_bars() -> Callable[[Path], list[Bar]]:
    return _bars
