"""Whether a rare volume precedes more than a merely large one: the rarity of the volume spike beside its bare ratio.

    python -m benchmarks.rarity [FOLDER] [--output FILE.html]

FOLDER holds recorded 1-minute bars (default: TAPEWATCH_RECORDED/klines). At each level the rule with a rarity picks its
alerts, and the bare ratio picks as many of the same minutes: as many for each symbol, or by one threshold for all. Both
thresholds of the ratio are chosen in hindsight, so the comparison rather favours it. Movement after the alerts is in
units of each symbol's usual movement; intervals are 95 % of a paired bootstrap over blocks of six hours of a symbol.
The page holds when in the hour the alerts come. A quarter of a minute.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from local.evaluation import outcomes as after
from local.evaluation.page import STYLE
from local.evaluation.plot import strip_bars
from local.recordings import Recording, RecordingKind, Rejected, discover, read_bars
from local.terminal import Progress
from shared.detection.volume_spike import VolumeSpikeDetector, VolumeSpikeReading
from shared.errors import UsageError
from shared.settings import VolumeSpikeSettings
from shared.times import HOUR_MS, MINUTE_MS

Rule = Callable[[VolumeSpikeReading], bool]

SHOWN = "ratio >= 2, rarest 1 %"  # the level that is drawn
HORIZONS = (("next 5 minutes, summed", 5, "moved"), ("next 15 minutes, summed", 15, "moved"),
            ("next 5 minutes, net", 5, "net"))  # fmt: skip

HEAD = (
    f"{'':<28}{'rarity':>8}{'ratio, per symbol':>19}{'ratio, one':>12}"
    f"{'more than per symbol, 95 %':>29}{'more than one threshold':>27}"
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One reading whose rarity is known, of one file."""

    file: str
    reading: VolumeSpikeReading

    @property
    def ratio(self) -> float:
        return self.reading.ratio or 0.0

    @property
    def minute(self) -> int:
        return self.reading.open_ms % HOUR_MS // MINUTE_MS


Picks = Sequence[Spoken]


def levels() -> dict[str, Rule]:
    """Return the rules that ask for a rarity; all of them ask for the default ratio too."""

    def rarest(share: float, surprise: float = 0.0) -> Rule:
        def rule(reading: VolumeSpikeReading) -> bool:
            rare = reading.spike and reading.rarity is not None and reading.rarity <= share
            return rare and (surprise <= 0 or (reading.surprise is not None and reading.surprise >= surprise))

        return rule

    today = VolumeSpikeSettings()
    return {
        "ratio >= 2, rarest 0.3 %": rarest(0.003),
        SHOWN: rarest(today.rarity_max),
        "ratio >= 2, rarest 3 %": rarest(0.03),
        "... rarest 1 %, surprise >= 3": rarest(today.rarity_max, 3.0),
        "... rarest 1 %, surprise >= 5 (default)": rarest(today.rarity_max, 5.0),
    }


def read(recordings: Sequence[Recording], progress: Progress) -> tuple[list[Spoken], dict[str, after.Path], int]:
    """Return the readings with a known rarity, the prices of each file, and how many minutes had a reading at all."""
    spoken: list[Spoken] = []
    paths: dict[str, after.Path] = {}
    minutes = 0
    for number, recording in enumerate(recordings):
        detector = VolumeSpikeDetector(VolumeSpikeSettings(), recording.market, recording.symbol or "")
        times, prices, name = [], [], recording.path.name
        for _, bar in read_bars(recording):
            if isinstance(bar, Rejected):
                continue
            times.append(bar.open_ms + MINUTE_MS)
            prices.append(bar.close)
            reading = detector.step(bar)
            minutes += reading is not None and reading.ratio is not None
            if reading is not None and reading.rarity is not None:
                spoken.append(Spoken(name, reading))
        paths[name] = after.grid_path(np.array(times, dtype=np.int64), np.array(prices), MINUTE_MS)
        progress(number + 1, len(recordings), name)
    return spoken, paths, minutes


def largest_per_symbol(spoken: Picks, counts: Mapping[str, int]) -> list[Spoken]:
    """Return the largest ratios, so many of each file; of equal ones the earlier."""
    left = dict(counts)
    picked = []
    for one in sorted(spoken, key=lambda one: -one.ratio):
        if left.get(one.file, 0):
            left[one.file] -= 1
            picked.append(one)
    return picked


def largest(spoken: Picks, count: int) -> list[Spoken]:
    """Return the largest ratios of all files together."""
    return sorted(spoken, key=lambda one: -one.ratio)[:count]


def at_quarters(picked: Picks) -> float:
    """Return the share at :00, :15, :30 and :45 over an equal share; NaN without any."""
    return sum(one.minute % 15 == 0 for one in picked) * 15 / len(picked) if picked else float("nan")


def clock(picked: Picks) -> list[float]:
    """Return the alerts by minute of the hour, over their mean."""
    counts = Counter(one.minute for one in picked)
    return [counts[minute] * 60 / len(picked) if picked else 0.0 for minute in range(60)]


def followed(picked: Picks, paths: Mapping[str, after.Path], minutes: int) -> after.Outcomes | None:
    alarms: dict[str, list[tuple[int, int]]] = {}
    for one in picked:
        alarms.setdefault(one.file, []).append((one.reading.timestamp_ms, 0))
    return after.outcomes(paths, alarms, minutes * MINUTE_MS)


def more(ours: after.Outcomes | None, theirs: after.Outcomes | None, what: str) -> after.Difference | None:
    if ours is None or theirs is None:
        return None
    return after.difference(getattr(ours, what), ours.blocks, getattr(theirs, what), theirs.blocks)


def compare(
    spoken: Picks, paths: Mapping[str, after.Path], rule: Rule
) -> tuple[list[str], list[Picks], list[after.Difference]]:
    """Return the lines of one level, its three selections, and the differences."""
    rare = [one for one in spoken if rule(one.reading)]
    picks: list[Picks] = [
        rare, largest_per_symbol(spoken, Counter(one.file for one in rare)), largest(spoken, len(rare)),
    ]  # fmt: skip
    lines: list[str] = []
    gaps: list[after.Difference] = []
    for name, minutes, what in HORIZONS:
        found = [followed(picked, paths, minutes) for picked in picks]
        line = _line(name, [_mean(one, what) for one in found]) + "   "
        for other in found[1:]:
            gap = more(found[0], other, what)
            line += f"{'' if gap is None else f'{gap.more:+.3f} ({gap.low:+.2f} to {gap.high:+.2f})':>26}"
            gaps += [] if gap is None else [gap]
        lines.append(line)
    lines.append(_line("share at :00 :15 :30 :45", [f"{at_quarters(picked):.2f}" for picked in picks]))
    return lines, picks, gaps


def _line(name: str, values: Sequence[str]) -> str:
    return f"  {name:<26}{values[0]:>8}{values[1]:>19}{values[2]:>12}"


def _mean(found: after.Outcomes | None, what: str) -> str:
    return "-" if found is None else f"{getattr(found, what).mean():.3f}"


def page(selections: Sequence[tuple[str, Picks]]) -> str:
    """Return one HTML file without scripts: the alerts by minute of the hour, a strip for each selection."""
    strips = [
        (f"{name}: {len(picked):,}, at the quarters x {at_quarters(picked):.2f}", clock(picked))
        for name, picked in selections
    ]
    title = "Volume spikes by minute of the hour"
    chart = strip_bars(strips, title=title, x="minute of the hour", y="alerts / mean", every=15, level=1.0)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>{chart}</body></html>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("TAPEWATCH_RECORDED")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(root) / "klines" if root else None)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the alerts by minute of the hour as HTML")
    options = parser.parse_args()
    if options.folder is None:
        parser.error("name the folder of klines, or set TAPEWATCH_RECORDED")
    try:
        recordings = [one for one in discover([options.folder]) if one.kind is RecordingKind.KLINES]
    except UsageError as error:
        parser.error(str(error))
    progress = Progress("rarity")
    spoken, paths, minutes = read(recordings, progress)
    progress.close()
    print(f"{len(recordings)} files, {minutes:,} minutes with a ratio, {len(spoken):,} with a rarity too")
    gaps: list[after.Difference] = []
    shown: list[Picks] = []
    for name, rule in levels().items():
        lines, picks, found = compare(spoken, paths, rule)
        print(f"\n{name}: {len(picks[0]):,} alerts\n{HEAD}")
        print("\n".join(lines))
        gaps += found
        if name == SHOWN:
            shown = picks
    above, below = sum(gap.low > 0 for gap in gaps), sum(gap.high < 0 for gap in gaps)
    print(f"\n{len(gaps)} differences: {above} significantly in favour of rarity, {below} of the ratio (95 %)")
    if options.output is not None:
        names = ("rarity (rarest 1 %)", "bare ratio, as many per symbol", "bare ratio, one threshold")
        bare = [one for one in spoken if one.reading.spike]
        selections = [*zip(names, shown, strict=True), ("bare rule, every minute with ratio >= 2", bare)]
        options.output.write_text(page(selections), encoding="utf-8")
        print(f"written: {options.output}")


if __name__ == "__main__":
    main()
