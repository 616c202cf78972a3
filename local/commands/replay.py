"""`tapewatch replay`: the same detectors over recorded trades, frames and bars."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

_LONG_BYTES = 5_000_000
NAMES = """\
Names that are understood (each also gzipped): spot_BTCUSDT_trade_*.jsonl, usdm_ZECUSDT_1m_*.csv,
spot_BTCUSDT_*.frames.jsonl, ADXBTC_20190705T1700Z.aggtrades.jsonl, and the archives of data.binance.vision
(BTCUSDT-1m-*.zip, BTCUSDT-trades-*.zip, BTCUSDT-aggTrades-*.zip). Any other name needs --symbol."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "replay",
        help="the same detectors over recorded trades, frames and bars",
        description="Runs the detectors over recordings and prints signals, then counts.",
        epilog=NAMES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders")
    parser.add_argument("--since", metavar="TIME", help="ISO time (UTC) or epoch milliseconds; inclusive")
    parser.add_argument("--until", metavar="TIME", help="ISO time (UTC) or epoch milliseconds; exclusive")
    parser.add_argument("--detector", action="append", metavar="NAME", help="only this detector (may be repeated)")
    parser.add_argument("--symbol", help="the symbol, where the file's name does not tell it")
    parser.add_argument("--market", choices=["spot", "usdm"], help="the market, where the file's name does not tell it")
    parser.add_argument("--json", action="store_true", help="one JSON object per signal, then one summary object")


def run(arguments: argparse.Namespace) -> int:
    from local.recordings import discover
    from local.replay import Replay
    from shared.clock import iso_utc
    from shared.market.model import Market
    from shared.settings_loader import load_settings

    settings = load_settings(arguments.config).settings
    recordings = discover(
        arguments.paths,
        symbol=arguments.symbol.strip().upper() if arguments.symbol else None,
        market=Market(arguments.market) if arguments.market else None,
    )
    replay = Replay(
        settings,
        detectors=_detectors(arguments.detector),
        since_ms=_time("--since", arguments.since),
        until_ms=_time("--until", arguments.until),
    )
    done, close = _progress(recordings)
    try:
        for found in replay.run(recordings, done):
            if arguments.json:
                print(json.dumps(found.to_json(), ensure_ascii=False))
            else:
                print(f"{iso_utc(found.signal.event_ms):<24}  {_line(found.signal)}")
    finally:
        close()
    if arguments.json:
        print(json.dumps(replay.summary.to_json(), ensure_ascii=False))
    else:
        _print_summary(replay.summary, len(recordings))
    return 0


def _progress(recordings: list[Any]) -> tuple[Callable[[Any], None], Callable[[], None]]:
    """Return what to tell of each recording that is done, and what ends it.

    Shown for long work whose signals go elsewhere: on one terminal they would run through the bar, and show
    themselves how far it is.
    """
    from local.terminal import Progress

    sizes = [recording.path.stat().st_size for recording in recordings]
    if sys.stdout.isatty() or len(recordings) < 2 or sum(sizes) < _LONG_BYTES:
        return lambda _: None, lambda: None
    progress, total, seen = Progress("replay"), max(1, sum(sizes) >> 10), [0]

    def done(recording: Any) -> None:
        seen[0] += recording.path.stat().st_size
        progress(seen[0] >> 10, total, recording.path.name)

    progress(0, total, "(KiB)")
    return done, progress.close


def _detectors(names: list[str] | None) -> Any:
    from shared.detection.reading import Detector
    from shared.errors import UsageError

    if not names:
        return None
    known = {detector.value: detector for detector in Detector if detector is not Detector.SYSTEM}
    for name in names:
        if name not in known:
            raise UsageError(f"--detector {name}: choose from {', '.join(known)}")
    return frozenset(known[name] for name in names)


def _time(option: str, text: str | None) -> int | None:
    from shared.clock import parse_utc_ms
    from shared.errors import UsageError

    if text is None:
        return None
    try:
        return parse_utc_ms(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no ISO time and no number of milliseconds") from None


def _line(signal: Any) -> str:
    from shared.alerts.render import render

    return f"{signal.detector.value:<20}  {render(signal).title}"


def _print_summary(summary: Any, files: int) -> None:
    print(f"\n{summary.inputs:,} inputs from {files} file{'s' if files != 1 else ''}, {summary.windows:,} windows")
    for title, counts in (
        ("signals", summary.signals),
        ("alerts", summary.alerts),
        ("held back", summary.held),
        ("rejected", summary.rejected),
        ("not used", summary.ignored),
        ("depth breaks", summary.depth_breaks),
    ):
        if counts:
            print(f"{title:<13} " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
