"""`tapewatch order-book`: order-book imbalance, one JSON line an interval, for ever or N times."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "order-book",
        help="order-book imbalance, one JSON line an interval",
        description=(
            "Prints (bid - ask) / (bid + ask) of the notional over the best levels as one JSON line an interval, "
            "until Ctrl-C or --count lines."
        ),
    )
    parser.add_argument("--symbol", required=True, help="a pair or a coin: BTCUSDT, btc")
    parser.add_argument("--levels", type=int, help="levels per side (default: order_book.levels, 5)")
    parser.add_argument("--interval-seconds", type=float, help="seconds between lines (default: 60)")
    parser.add_argument("--count", type=int, help="stop after so many lines")


def run(arguments: argparse.Namespace) -> int:
    from local.asking import exchange_for, find_symbol
    from shared.clock import SystemClock
    from shared.detection.order_book import read_order_book
    from shared.errors import ExchangeError, UsageError
    from shared.market.model import Market
    from shared.settings_loader import load_settings

    settings = load_settings(arguments.config).settings
    levels = settings.order_book.levels if arguments.levels is None else arguments.levels
    interval_s = arguments.interval_seconds
    if interval_s is None:
        interval_s = float(settings.order_book.interval_seconds)
    if not 1 <= levels <= 1000:
        raise UsageError(f"--levels must lie in 1..1000, is {levels}")
    if not interval_s > 0:
        raise UsageError("--interval-seconds must be greater than 0")
    if arguments.count is not None and arguments.count < 1:
        raise UsageError("--count must be at least 1")
    market_data, clock = exchange_for(settings), SystemClock()
    symbol = find_symbol(market_data, arguments.symbol, settings)
    written, due = 0, time.monotonic()
    while True:
        try:
            book = market_data.depth(Market.SPOT, symbol, levels=levels)
        except ExchangeError as exc:
            # The first line decides whether the call makes sense at all; later ones ride out what passes by itself.
            if written == 0 or not exc.retryable:
                raise
            print(json.dumps({"error": str(exc), "code": exc.code}, ensure_ascii=False), file=sys.stderr)
        else:
            reading = read_order_book(book, levels=levels, timestamp_ms=clock.now_ms())
            print(json.dumps(reading.to_json(), ensure_ascii=False), flush=True)
            written += 1
        if arguments.count is not None and written >= arguments.count:
            return 0
        due += interval_s
        clock.sleep(due - time.monotonic())
