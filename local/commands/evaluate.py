"""`tapewatch evaluate`: what the alerts are worth, on labels, outcomes, and a market without events."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

EPILOG = """\
Three kinds of truth:
  labels    --labels FILE: a CSV with a symbol and a time column; which events were found, how late, at which price
  outcomes  always: how far the market moved after an alarm, against all other minutes of the same symbol
  null      --null DAYS: a seeded market without events; whatever is said about it is a false alarm

Every detector is judged at three levels: every signal, those that pass the alert gates (news), and the alerts that
the whole policy lets through. --sweep tries settings: --sweep trade_spike.multiple=8,10,15 (may be repeated)."""


_OFF_BY_DEFAULT = {
    "pump": ("pump.enabled",),
    "order_book_imbalance": ("order_book.enabled", "order_book.alert_enabled"),
}
"""What `--detector` switches on."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="what the alerts are worth: on labels, outcomes, and a market without events",
        description="Runs the live detectors over recordings and measures what they say.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files and folders, as for `tapewatch replay`; windows"
    )
    parser.add_argument("--labels", metavar="FILE", help="CSV of symbol and time")
    parser.add_argument("--time-column", metavar="NAME", help="its time column (default: the first known name)")
    parser.add_argument("--null", metavar="DAYS", type=float, help="evaluate a seeded market without events instead")
    parser.add_argument(
        "--cold", action="store_true", help="it begins without the past that a deployment fetches on its first run"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the market without events (default %(default)s)")
    parser.add_argument(
        "--detector", action="append", metavar="NAME",
        help="only this detector, switched on where it is off by default (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", default=[], help="change a setting")
    parser.add_argument("--sweep", action="append", metavar="KEY=A,B,C", default=[], help="try each value of a setting")
    parser.add_argument("--before", default="60s", help="how early an alarm still finds an event (default %(default)s)")
    parser.add_argument("--within", default="25s", help="how late (default %(default)s)")
    parser.add_argument("--pause", default="30m", help="after an alarm nobody listens so long (default %(default)s)")
    parser.add_argument("--warmup", default=None, help="of each recording, not judged (default 6h with labels, else 0)")
    parser.add_argument("--horizon", default="5m", help="how far ahead outcomes are measured (default %(default)s)")
    parser.add_argument("--look-ahead", choices=["some", "all", "none"], default="some", help="which files are cut")
    parser.add_argument("--jobs", type=int, default=None, help="processes (default: one for each core)")
    parser.add_argument("--symbol", help="the symbol, where the file's name does not tell it")
    parser.add_argument("--market", choices=["spot", "usdm"], help="the market, where the file's name does not tell it")
    parser.add_argument("--output", metavar="NAME", default="evaluation", help="writes NAME.json and NAME.html")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    import tempfile

    from shared.errors import UsageError

    if bool(arguments.paths) == (arguments.null is not None):
        raise UsageError("name recordings to evaluate, or --null DAYS for a market without events")
    settings = _settings(arguments)
    _try_output(Path(arguments.output))
    if arguments.null is None:
        return _evaluate(arguments, settings, [Path(path) for path in arguments.paths])
    if not 0 < arguments.null <= 366:
        raise UsageError(f"--null {arguments.null:g}: between 0 and 366 days")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: 0 or more")
    from local.evaluation.null_market import START_MS, futures_of, write_market

    with tempfile.TemporaryDirectory(prefix="tapewatch-null-") as folder:
        write_market(
            Path(folder), days=arguments.null, seed=arguments.seed, past=not arguments.cold,
            futures=futures_of(settings.futures_symbols) if settings.sector.enabled else (), thin=settings.pump.enabled,
        )  # fmt: skip
        return _evaluate(arguments, settings, [Path(folder)], None if arguments.cold else START_MS)


def _settings(arguments: argparse.Namespace) -> Any:
    from local.evaluation.engine import override
    from shared.settings_loader import load_settings

    asked = {path: "true" for name in arguments.detector or () for path in _OFF_BY_DEFAULT.get(name, ())}
    changes = {**asked, **dict(_pair("--set", text) for text in arguments.set)}
    return override(load_settings(arguments.config).settings, changes)


def _try_output(name: Path) -> None:
    """Find out before minutes of work whether their report can be written."""
    from shared.errors import UsageError

    folder = next(one for one in name.absolute().parents if one.exists())  # the others are made when there is a report
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--output {name}: nothing can be written into {folder}")


def _evaluate(arguments: argparse.Namespace, settings: Any, paths: list[Path], told_from_ms: int | None = None) -> int:
    from local.durations import parse_span_ms
    from local.evaluation.engine import grid
    from local.evaluation.keeping import keep_for_page
    from local.evaluation.page import page
    from local.evaluation.report import Plan, evaluate, variants, write
    from local.evaluation.truth import Protocol, read_labels
    from local.evaluation.units import make_units
    from local.terminal import Progress
    from shared.errors import UsageError
    from shared.times import iso_utc

    sweeps = [(name, values.split(",")) for name, values in (_pair("--sweep", text) for text in arguments.sweep)]
    for swept, times in Counter(name for name, _ in sweeps).items():
        if times > 1:
            raise UsageError(f"--sweep {swept}: name a setting once, with all its values: {swept}=A,B,C")
    labels = read_labels(Path(arguments.labels), arguments.time_column) if arguments.labels else None
    warmup = arguments.warmup or ("6h" if labels is not None else "0s")
    span = {name: parse_span_ms(f"--{name}", getattr(arguments, name)) for name in ("before", "within", "pause")}
    protocol = Protocol(
        span["before"], span["within"], span["pause"],
        0 if warmup in ("0", "0s") else parse_span_ms("--warmup", warmup),
    )  # fmt: skip
    jobs = arguments.jobs if arguments.jobs is not None else (os.cpu_count() or 1)
    if jobs < 1:
        raise UsageError("--jobs must be at least 1")
    plan = Plan(
        units=make_units(*_inputs(arguments, paths), told_from_ms),
        variants=variants(settings, list(grid(sweeps)) if sweeps else []),
        detectors=_detectors(arguments.detector),
        protocol=protocol,
        horizon_ms=parse_span_ms("--horizon", arguments.horizon),
        labels=labels,
        jobs=jobs,
        check=arguments.look_ahead,
    )
    progress = Progress("evaluate")
    try:
        report = evaluate(plan, progress)
    finally:
        progress.close()
    from importlib.metadata import version

    from shared.clock import SystemClock

    truth = "labels and outcomes" if labels is not None else "outcomes"
    null = arguments.null is not None
    report = {
        "created": iso_utc(SystemClock().now_ms() // 1000 * 1000),
        "version": version("tapewatch"),
        "truth": _null_truth(arguments) if null else truth,
        "settings_changed": list(arguments.set),
        "sweep": list(arguments.sweep),
        **report,
    }
    name = Path(arguments.output)
    write(name.with_name(name.name + ".json"), json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    write(name.with_name(name.name + ".html"), page(report))
    keep_for_page(settings, report, aws=arguments.aws)
    if arguments.json:
        print(json.dumps(report, ensure_ascii=False, allow_nan=False))
    else:
        _show(report, name)
    return 1 if any(check["broken"] for check in report["look_ahead"]) else 0


def _null_truth(arguments: argparse.Namespace) -> str:
    start = ", a cold start" if arguments.cold else ""
    return f"a market without events, {arguments.null:g} days, seed {arguments.seed}{start}"


def _pair(option: str, text: str) -> tuple[str, str]:
    from shared.errors import UsageError

    name, sign, value = text.partition("=")
    if not sign or not name.strip() or not value:
        raise UsageError(f"{option} {text!r}: write KEY=VALUE, such as trade_spike.multiple=12")
    return name.strip(), value


def _inputs(arguments: argparse.Namespace, paths: list[Path]) -> tuple[list[Any], list[Any]]:
    """Tell files of windows from recordings; a folder may hold both."""
    from local.evaluation.stored_windows import WindowFile, window_file
    from local.recordings import discover
    from shared.errors import UsageError
    from shared.market.model import Market

    symbol = arguments.symbol.strip().upper() if arguments.symbol else None
    market = Market(arguments.market) if arguments.market else None
    windows: list[WindowFile] = []
    recordings: list[Any] = []
    for path in paths:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        mine = [one for file in files if file.is_file() and (one := window_file(file)) is not None]
        windows += mine
        if path.is_dir() and mine:
            try:
                recordings += discover([path], symbol=symbol, market=market)
            except UsageError:
                continue  # nothing but windows
        elif not mine:
            recordings += discover([path], symbol=symbol, market=market)
    return _once(recordings), _once(windows)


def _once(many: list[Any]) -> list[Any]:
    return list({one.path.resolve(): one for one in many}.values())


def _detectors(names: list[str] | None) -> tuple[Any, ...]:
    from shared.detection.reading import Detector
    from shared.errors import UsageError

    known = {detector.value: detector for detector in Detector if detector is not Detector.SYSTEM}
    for name in names or ():
        if name not in known:
            raise UsageError(f"--detector {name}: choose from {', '.join(known)}")
    return tuple(detector for value, detector in known.items() if not names or value in names)


def _show(report: dict[str, Any], name: Path) -> None:
    from local.evaluation.page import bounds
    from local.evaluation.report import labels_told, left_out_told

    print(f"{report['inputs']:,} inputs from {len(report['files'])} files, data {report['data_sha256'][:16]}")
    print(f"truth: {report['truth']}\n")
    print(f"{'detector':<22}{'level':<9}{'alarms':>8}{'/sym-day':>10}{'asked':>9}{'realised':>10}{'lift':>7}  95 %")
    for row in report["results"]:
        lift = row["lift"] or {}
        told = f"{_number(lift.get('lift'), 7, 2)}  {bounds(lift)}"
        print(
            f"{row['detector']:<22}{row['level']:<9}{row['alarms']:>8}{_number(row['per_symbol_day'], 10, 3)}"
            f"{_percent(row['rate_asked'], 9)}{_percent(row['rate_realised'], 10)}{told}  {row.get('setting', '')}"
        )
    if any(row.get("labels") for row in report["results"]):
        print(
            f"\n{'detector':<22}{'level':<9}{'found':>9}{'precision':>11}{'recall':>8}{'F1':>7}{'delay s':>9}"
            f"{'p90':>7}{'false/sym-day':>15}"
        )
        for row in report["results"]:
            one = row.get("labels")
            if one:
                print(
                    f"{row['detector']:<22}{row['level']:<9}{one['found']:>4} /{one['events']:>3}"
                    f"{_number(one['precision'], 11, 3)}{_number(one['recall'], 8, 3)}{_number(one['f1'], 7, 3)}"
                    f"{_number(one['delay_s_median'], 9, 1)}{_number(one['delay_s_p90'], 7, 1)}"
                    f"{_number(one['false_per_symbol_day'], 15, 3)}  {row.get('setting', '')}"
                )
    if told := labels_told(report):
        print(f"\n{told}")
    for off in report["switched_off"]:
        print(f"\n{off}: no alerts, because alerts of it are switched off; `--detector {off}` judges it as if on")
    if days := report["alerts_by_day"]:
        counts = sorted(days.values())
        told = ", ".join(map(str, days.values())) if len(days) <= 31 else f"{len(days)} days"
        print(f"\nalerts a day, all of these together: {told}; median {counts[len(counts) // 2]}, most {counts[-1]}")
    for check in report["look_ahead"]:
        what = "nothing changed" if not check["broken"] else f"CHANGED: {check['broken'][0]}"
        said = ", ".join(f"{name} {count}" for name, count in check["said"].items()) or "no signal"
        print(f"look-ahead: {check['file']} cut at {check['cut']}: {said}: {what}")
    if told := left_out_told(report):
        print(f"look-ahead: {told}")
    print(f"\nwritten: {name}.json, {name}.html")


def _number(value: float | None, width: int, decimals: int) -> str:
    return f"{'–' if value is None else f'{value:,.{decimals}f}':>{width}}"


def _percent(value: float | None, width: int) -> str:
    return f"{'–' if value is None else f'{100 * value:.2f} %':>{width}}"
