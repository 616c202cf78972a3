"""What the choices of the window detector are worth on recorded windows: the figures of docs/evaluation.md.

    python -m benchmarks.window_choices [FOLDER] [--only rates|choices|pacing|waking] [--seeds N]

FOLDER holds windows as `tapewatch windows export` writes them (default: TAPEWATCH_RECORDED/windows). `rates`: share
of anomalies and lift beside trailing quantiles of volatility and of trade count; `choices`: other features, buffers and
calibrations; `pacing`: what keeping the rate costs; `waking`: the rate where simulated activity doubles. Lift is the
summed absolute return of the next five minutes over that after all other judged windows, bounds are 95 % of a bootstrap
over blocks of six hours. Two minutes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import window_features as features
from benchmarks.waking_market import waking_market
from benchmarks.window_judging import Floats, Judged, Said, Worth, forest_scores, lead, live_scores, said_of, with_flags
from local.evaluation.outcomes import Difference
from local.evaluation.stored_windows import WindowFile, judge_windows, read_windows, window_file
from local.evaluation.units import UnitResult
from local.terminal import Progress
from shared.detection.calibration import PacedQuantile, TrailingQuantile
from shared.market.model import Window
from shared.settings import WindowAnomalySettings

RATES = (0.005, 0.01, 0.05)
RATE = 0.01  # at which the choices are compared
BARE, TODAY = "the bare features", "smoothed, without the sign, 0.3"
SECTIONS = ("rates", "choices", "pacing", "waking")

Scores = Callable[[], Floats]


def settings_with(**changes: object) -> WindowAnomalySettings:
    return msgspec.structs.replace(WindowAnomalySettings(), **changes)


def choices(windows: Sequence[Window]) -> list[tuple[str, Scores]]:
    """Return each alternative's name and how its scores come about: live settings where these are enough."""
    seen = features.bare(windows)
    size, today = features.unsigned(seen), WindowAnomalySettings()
    smooth = features.smoothed(size, today.smoothing)
    two = [features.COUNT, features.VOLATILITY]

    def live(**changes: object) -> Scores:
        return lambda: live_scores(windows, settings_with(**changes))

    def forest(shown: Floats) -> Scores:
        return lambda: forest_scores(shown, today)

    def one_sided_score(weight: float, span: int) -> Scores:
        def scores() -> Floats:
            found = live_scores(windows, settings_with(smoothing=weight))
            calm = np.isfinite(found) & ~features.busier(smooth if weight < 1 else size, span)
            return np.where(calm, 0.5, found)  # 0.5: no window is less anomalous

        return scores

    made: list[tuple[str, Scores]] = [
        (BARE, live(smoothing=1.0)),
        ("... and the return without its sign", forest(size)),
        ("smoothed, with the return's sign, 0.3", forest(features.smoothed(seen, 0.3))),
        *((f"smoothed, without the sign, {w:g}", live(smoothing=w)) for w in (0.15, 0.2, 0.3, 0.5)),
        ("logarithms", forest(features.logarithms(seen))),
        *((f"relative to the median of {n:,}", forest(features.relative(seen, n))) for n in (180, 500, 1500)),
        ("relative to the median of 500, smoothed", forest(features.smoothed(features.relative(size, 500), 0.3))),
        *((f"above the median of {n:,}, else 0", forest(features.one_sided(seen, n))) for n in (180, 500, 1500)),
        ("bare, one-sided score, median of 500", one_sided_score(1.0, 500)),
        ("smoothed, one-sided score, median of 500", one_sided_score(0.3, 500)),
        *((f"bare, a buffer of {n:,}", live(smoothing=1.0, buffer=n)) for n in (1000, 1500)),
        *((f"smoothed, a buffer of {n:,}", live(buffer=n)) for n in (1000, 1500)),
        ("count and volatility alone, bare", forest(seen[:, two])),
        ("count and volatility alone, smoothed", forest(smooth[:, two])),
        ("smoothed and bare together", forest(np.hstack([smooth, seen]))),
    ]
    return made


def print_rates(file: WindowFile, windows: Sequence[Window], progress: Progress) -> None:
    """Print the detector through `judge_windows` beside quantiles that are fed the same windows, and all of them.

    Smoothed quantiles tell what the forest adds to the smoothing.
    """
    today = WindowAnomalySettings()
    judged = Judged(file, windows, today)
    scored = np.arange(len(windows)) >= today.first_fit
    seen = features.bare(windows)
    smooth = features.smoothed(seen, today.smoothing)
    columns = tuple(
        (f"{how}{name}", made[:, column])
        for how, made in (("", seen), ("smoothed ", smooth))
        for name, column in (("volatility", features.VOLATILITY), ("trade count", features.COUNT))
    )
    rows: list[tuple[float, str, Worth, Difference | None]] = []
    for number, rate in enumerate(RATES):
        ours = detector_worth(file, windows, judged, rate)
        rows.append((rate, "the detector", ours, None))
        for how, make in (("the same pacing", PacedQuantile), ("unpaced", TrailingQuantile)):
            for name, column in columns:
                same = judged.worth(said_of(np.where(scored, -column, np.nan), make(rate)))
                rows.append((rate, f"{name}, {how}", same, lead(ours, same)))
        for name, column in columns[:2]:
            every = judged.worth(said_of(-column, TrailingQuantile(rate)))
            rows.append((rate, f"{name}, unpaced, all windows", every, None))
        progress(number + 1, len(RATES), f"{rate:.1%}")
    print(f"\n{'asked':>6}  {'threshold on':<36}{HEAD}  {'the detector has more, 95 %'}")
    for rate, name, worth, more in rows:
        print(f"{rate:>6.1%}  {name:<36}{cells(worth)}  {told(more)}")


def detector_worth(file: WindowFile, windows: Sequence[Window], judged: Judged, rate: float) -> Worth:
    """Run the detector through the code that `tapewatch evaluate` uses."""
    result, settings = UnitResult(), settings_with(alert_rate=rate)
    signals = {signal.event_ms for signal in judge_windows(file, settings, result)}
    count = sum(result.judged.values())
    said = [None] * (len(windows) - count) + [window.start_ms in signals for window in windows[len(windows) - count :]]
    return judged.worth(said)


def print_choices(file: WindowFile, windows: Sequence[Window], progress: Progress) -> None:
    """Print lift at 1 % without pacing; then at equal numbers of flags, overall and in both halves of the windows."""
    judged = Judged(file, windows, WindowAnomalySettings())
    rows: list[tuple[str, Callable[[float], Said]]] = []
    made, kept = choices(windows), {}

    def judge(found: Floats, capacity: int = 1500, most: tuple[int, int] | None = None) -> Callable[[float], Said]:
        return lambda rate: said_of(found, TrailingQuantile(rate, capacity), most)

    for number, (name, scores) in enumerate(made):
        kept[name] = scores()
        rows.append((name, judge(kept[name])))
        progress(number + 1, len(made), name)
    for label, found in (("bare", kept[BARE]), ("smoothed", kept[TODAY])):
        for count in (3000, 4320):
            rows.append((f"{label}, calibrated on {count:,} scores", judge(found, count)))
        for most in (9, 18):  # of the 180 windows of an hour
            rows.append((f"{label}, at most {most} flags an hour", judge(found, 1500, (most, 180))))
    wanted = round(RATE * judged.worth(rows[0][1](RATE)).judged)
    base = judged.worth(with_flags(wanted, rows[0][1]))
    print(f"\n{'unpaced':<42}{'asked for 1 %':>23}    at {wanted} flags")
    print(f"{'':<42}{'flags':>6}{'realised':>10}{'lift':>7}{HEAD}{'1st half':>9}{'2nd half':>9}  more than bare, 95 %")
    for name, at_rate in rows:
        asked, said = judged.worth(at_rate(RATE)), with_flags(wanted, at_rate)
        equal, (early, late) = judged.worth(said), judged.halves(said)
        more = None if name == BARE else lead(equal, base)
        print(
            f"{name:<42}{asked.flagged:>6}{asked.realised:>10.2%}{lift_text(asked, 7)}{cells(equal)}"
            f"{lift_text(early)}{lift_text(late)}  {told(more)}"
        )


def print_pacing(file: WindowFile, windows: Sequence[Window], progress: Progress) -> None:
    """Print the same scores with and without pacing."""
    judged = Judged(file, windows, WindowAnomalySettings())
    scores = live_scores(windows, WindowAnomalySettings())
    print(f"\n{'asked':>6}  {'quantile':<10}{HEAD}  more than unpaced, 95 %")
    for number, rate in enumerate(RATES):
        paced = judged.worth(said_of(scores, PacedQuantile(rate)))
        free = judged.worth(said_of(scores, TrailingQuantile(rate)))
        print(f"{rate:>6.1%}  {'paced':<10}{cells(paced)}  {told(lead(paced, free))}")
        print(f"{rate:>6.1%}  {'unpaced':<10}{cells(free)}")
        progress(number + 1, len(RATES), f"{rate:.1%}")


def print_waking(seeds: int, progress: Progress) -> None:
    """Print realised over asked, nearest to and farthest from 1, over the seeds of a market that doubles."""
    today = WindowAnomalySettings()
    shares: dict[tuple[float, str], list[float]] = {}
    for seed in range(seeds):
        windows = waking_market(seed)
        seen = features.smoothed(features.unsigned(features.bare(windows)), today.smoothing)
        scores = forest_scores(seen, today)
        for rate in RATES:
            for name, quantile in (("paced", PacedQuantile(rate)), ("unpaced", TrailingQuantile(rate))):
                said = [one for one in said_of(scores, quantile) if one is not None]
                shares.setdefault((rate, name), []).append(sum(said) / len(said) / rate)
        progress(seed + 1, seeds, f"seed {seed}")
    print(
        f"\n{seeds} seeds, realised / asked\n{'asked':>6}  {'quantile':<10}{'least':>7}{'most':>7}{'beyond 15 %':>13}"
    )
    for (rate, name), found in shares.items():
        beyond = sum(abs(share - 1) > 0.15 for share in found)
        print(f"{rate:>6.1%}  {name:<10}{min(found):>7.2f}{max(found):>7.2f}{beyond:>13}")


HEAD = f"{'flags':>6}{'realised':>10}{'lift':>7}  95 %        "


def cells(worth: Worth) -> str:
    span = f"{worth.low:.2f} - {worth.high:.2f}" if worth.low is not None and worth.high is not None else ""
    return f"{worth.flagged:>6}{worth.realised:>10.2%}{lift_text(worth, 7)}  {span:<12}"


def lift_text(worth: Worth, width: int = 9) -> str:
    return f"{'-' if worth.lift is None else f'{worth.lift:.2f}':>{width}}"


def told(more: Difference | None) -> str:
    return "" if more is None else f"{more.more:+.2f} ({more.low:+.2f} to {more.high:+.2f})"


def recorded(name: str) -> Path | None:
    """Return a folder of the recorded data, None where it is not told where they are."""
    root = os.environ.get("TAPEWATCH_RECORDED")
    return Path(root) / name if root else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=recorded("windows"), metavar="FOLDER")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="only this section (may be repeated)")
    parser.add_argument("--seeds", type=int, default=32, help="of the market that doubles (default %(default)s)")
    options = parser.parse_args()
    wanted = options.only or SECTIONS
    files: list[WindowFile] = []
    if set(wanted) != {"waking"}:
        if options.folder is None:
            parser.error("name the folder of windows, or set TAPEWATCH_RECORDED")
        paths = sorted(path for path in options.folder.glob("*") if path.is_file())
        files = [file for path in paths if (file := window_file(path)) is not None]
        if not files:
            parser.error(f"{options.folder} holds no file of windows")
    parts = {"rates": print_rates, "choices": print_choices, "pacing": print_pacing}
    for file in files:
        windows = read_windows(file)
        print(f"{file.path.name}: {len(windows):,} windows")
        for name in SECTIONS:
            if name in wanted and name in parts:
                progress = Progress(name)
                parts[name](file, windows, progress)
                progress.close()
    if "waking" in wanted:
        progress = Progress("waking")
        print_waking(options.seeds, progress)
        progress.close()


if __name__ == "__main__":
    main()
