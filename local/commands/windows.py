"""`tapewatch windows`: analysis of the Isolation Forest's windows."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "windows",
        help="analysis of the Isolation Forest's windows",
        description=(
            "summary: counts, scores, rate and lift. rate: share of anomalies by hour. scores: their distribution. "
            "export: every window as CSV on stdout."
        ),
    )
    parser.add_argument("what", choices=["summary", "rate", "scores", "export"])
    parser.add_argument("--symbol", help="a pair or a coin (default: the first of universe.spot_symbols)")
    parser.add_argument("--since", default="24h", help="a span (24h) or an ISO time (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", metavar="FILE.png", help="scores: write the histogram as a picture")
    parser.add_argument("--svg", metavar="FILE.svg", help="scores: write the histogram as SVG")


def run(arguments: argparse.Namespace) -> int:
    from local.durations import since_ms
    from local.exchange_time import state_clock
    from local.world import open_state
    from shared.clock import HOUR_MS
    from shared.errors import NotEnoughData, UsageError
    from shared.jobs import window_analysis
    from shared.market.model import Market
    from shared.market.universe import normalize_symbol
    from shared.settings_loader import load_settings
    from shared.storage.windows import WindowRepository

    if (arguments.plot or arguments.svg) and arguments.what != "scores":
        raise UsageError("--plot and --svg belong to `windows scores`")
    settings = load_settings(arguments.config).settings
    if not arguments.symbol and not settings.universe.spot_symbols:
        raise UsageError("--symbol is needed: universe.spot_symbols is empty")
    try:
        symbol = normalize_symbol(arguments.symbol or settings.universe.spot_symbols[0], settings.universe.spot_symbols)
    except ValueError as exc:
        raise UsageError(f"--symbol: {exc}") from None
    table = open_state(settings, aws=arguments.aws)
    try:
        now_ms = state_clock(table).now_ms()
        start = since_ms("--since", arguments.since, now_ms)
        rows = WindowRepository(table).range(Market.SPOT.value, symbol, start, now_ms + HOUR_MS)
    finally:
        table.close()
    if not rows:
        raise NotEnoughData(f"no windows of {symbol} are stored in this time; `tapewatch run` stores one every 20 s")
    if arguments.plot or arguments.svg:
        return _draw(symbol, rows, arguments.plot, arguments.svg)
    if arguments.what == "export":
        window_analysis.export_csv(rows, sys.stdout)
        return 0
    answer: Any = {
        "summary": lambda: window_analysis.summary(rows),
        "rate": lambda: window_analysis.rate(rows),
        "scores": lambda: {
            "summary": window_analysis.summary(rows)["scores"],
            "distribution": window_analysis.distribution(rows),
        },
    }[arguments.what]()
    if arguments.json:
        print(json.dumps({"symbol": symbol, **answer}, ensure_ascii=False))
    else:
        _show(symbol, arguments.what, answer)
    return 0


def _draw(symbol: str, rows: Any, png: str | None, svg: str | None) -> int:
    """Write the histogram of the scores, with the newest threshold."""
    from pathlib import Path

    from shared.errors import NotEnoughData
    from shared.jobs import window_analysis
    from shared.pictures.plots import PRINT, histogram
    from shared.pictures.png import png_of

    bins = window_analysis.distribution(rows, bins=40)
    if not bins:
        raise NotEnoughData(f"no window of {symbol} has a score yet: the first model comes after 500 windows")
    edges = [row["from"] for row in bins] + [bins[-1]["to"]]
    counts = [int(row["count"]) for row in bins]
    threshold = next((row["threshold"] for row in reversed(rows) if row.get("threshold") is not None), None)
    label = f"Isolation Forest scores of {symbol}: {sum(counts)} windows"
    drawn = histogram(edges, counts, label, PRINT, threshold=threshold, height=320, heading=True)
    for name, data in ((svg, drawn.encode()), (png, png_of(drawn) if png else b"")):
        if name:
            Path(name).write_bytes(data)
            print(f"{name}: {sum(counts)} scores of {symbol}")
    return 0


def _show(symbol: str, what: str, answer: Any) -> None:
    if what == "rate":
        overall = answer["overall"]
        print(f"{symbol}: {overall['anomalies']} anomalies in {overall['judged']} judged windows{_share(overall)}")
        for row in answer["hours"]:
            print(f"  {row['hour']}  {row['anomalies']:>4} of {row['judged']:>4}{_share(row)}")
    elif what == "scores":
        if not answer["distribution"]:
            print(f"{symbol}: no window has a score yet")
        most = max((row["count"] for row in answer["distribution"]), default=1)
        for row in answer["distribution"]:
            print(f"{row['from']:>9.4f} .. {row['to']:>8.4f} {row['count']:>6} {'#' * round(40 * row['count'] / most)}")
    else:
        print(f"{symbol}: {answer['windows']} windows from {answer['first']} to {answer['last']}")
        print("  states: " + ", ".join(f"{name} {count}" for name, count in answer["states"].items()))
        print(
            f"  anomalies: {answer['rate']['anomalies']} of {answer['rate']['judged']} judged{_share(answer['rate'])}"
        )
        if answer["scores"]:
            scores = answer["scores"]
            print(f"  scores: median {scores['p50']:.4f}, 1 % {scores['p1']:.4f}, lowest {scores['min']:.4f}")
        for horizon, row in answer["lift"].items():
            if row is not None:
                print(f"  lift over {horizon}: {row['lift']:.2f} ({row['anomalies']} anomalies)")


def _share(row: Any) -> str:
    return "" if row["rate"] is None else f" ({100 * row['rate']:.2f} %)"
