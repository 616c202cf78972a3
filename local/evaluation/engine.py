"""Runs units over the cores, checks them for look-ahead, and varies settings."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import msgspec

from local.evaluation.units import Unit, UnitResult, evaluate_unit, found_in, span_of
from shared.detection.reading import Detector, Signal
from shared.errors import UsageError
from shared.settings import Settings
from shared.settings_loader import parse_settings
from shared.times import iso_utc

Progress = Callable[[int, int, str], None]
_CHECKED_SHARE = 0.6
_TELL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Task:
    unit: Unit
    settings: Settings
    detectors: frozenset[Detector]


def run_all(tasks: Sequence[Task], *, jobs: int, progress: Progress | None = None) -> list[UnitResult]:
    """Evaluate every task, the largest first, over `jobs` processes; the answers stand in the order of the tasks."""
    total = sum(task.unit.size for task in tasks) or 1
    answers: list[UnitResult | None] = [None] * len(tasks)
    done = 0

    def finished(number: int, result: UnitResult) -> None:
        nonlocal done
        answers[number] = result
        done += tasks[number].unit.size
        if progress is not None:
            progress(done, total, tasks[number].unit.files[0].name)

    order = sorted(range(len(tasks)), key=lambda number: -tasks[number].unit.size)

    def reads(number: int) -> Callable[[int], None]:
        name, last = tasks[number].unit.files[0].name, [0]

        def read(position: int) -> None:  # what follows, the prices, is another tenth of the work
            if progress is not None and position - last[0] >= _TELL_BYTES:
                last[0] = position
                progress(done + position * 9 // 10, total, name)

        return read

    if jobs <= 1 or len(tasks) <= 1:
        for number in order:
            finished(number, _work(tasks[number], reads(number)))
    else:
        # Spawned, not forked: a progress bar has threads of its own.
        with ProcessPoolExecutor(min(jobs, len(tasks)), multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(_work, tasks[number]): number for number in order}
            while waiting:
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    finished(waiting.pop(future), future.result())
    return [answer for answer in answers if answer is not None]


def _work(task: Task, read: Callable[[int], object] | None = None) -> UnitResult:
    return evaluate_unit(task.unit, task.settings, task.detectors, read=read)


@dataclass(frozen=True, slots=True)
class LookAhead:
    """`broken` names what was said differently once the input was cut; empty means that nobody looked ahead.

    `said` counts the compared signals of each detector.
    """

    file: str
    cut: str
    compared: int
    broken: tuple[str, ...]
    said: dict[str, int] = field(default_factory=dict)


def everything_on(settings: Settings) -> Settings:
    """Switch on the detectors that are off by default, so that the check sees every one of them."""
    replace = msgspec.structs.replace
    share = settings.sector.market_wide_share
    return replace(
        settings,
        pump=replace(settings.pump, enabled=True),
        order_book=replace(settings.order_book, enabled=True, alert_enabled=True),
        sector=replace(settings.sector, market_wide_share=_CHECKED_SHARE if share is None else share),
    )


def look_ahead(
    unit: Unit, settings: Settings, detectors: frozenset[Detector], shares: Iterable[float]
) -> list[LookAhead]:
    """Cut the input at shares of its time: nothing known before the cut may change."""
    span = span_of(unit)
    if span is None:
        return []
    first, last = span
    settings = everything_on(settings)
    whole = found_in(unit, settings, detectors)
    checks = []
    for share in shares:
        cut = first + round((last - first) * share)
        # `until_ms` leaves out what begins at the cut or later, so a bar or window that lies across it is still read.
        before = [signal for signal in whole if signal.known_ms < cut]
        after = [signal for signal in found_in(unit, settings, detectors, cut) if signal.known_ms < cut]
        broken = _differences(before, after)
        said = dict(sorted(Counter(signal.detector.value for signal in before).items()))
        checks.append(LookAhead(unit.files[0].name, iso_utc(cut), len(before), tuple(broken), said))
    return checks


def _differences(before: Sequence[Signal], after: Sequence[Signal]) -> list[str]:
    said = [[msgspec.json.encode(_plain(signal)) for signal in side] for side in (before, after)]
    odd = set(said[0]) ^ set(said[1])
    return sorted(line.decode()[:200] for line in odd)


def _plain(signal: Signal) -> dict[str, Any]:
    return {
        "detector": signal.detector.value,
        "symbol": signal.symbol,
        "event_ms": signal.event_ms,
        "known_ms": signal.known_ms,
        "direction": signal.direction,
        "values": dict(signal.values),
        "thresholds": dict(signal.thresholds),
        "snapshot": dict(signal.snapshot),
    }


def override(settings: Settings, values: Mapping[str, str]) -> Settings:
    """Return the settings with dotted paths set, e.g. `trade_spike.multiple` to `12`.

    Raises:
        UsageError: a path that is no setting.
        ConfigurationError: a value that cannot be used.
    """
    tree = msgspec.to_builtins(settings)
    for path, text in values.items():
        here = tree
        *sections, name = path.strip().split(".")
        for section in sections:
            here = here.get(section) if isinstance(here, dict) else None
        if not isinstance(here, dict) or name not in here:
            raise UsageError(f"{path} is no setting; `tapewatch check-config` lists them")
        here[name] = _value(text)
    return parse_settings(tree)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def grid(sweeps: Sequence[tuple[str, Sequence[str]]]) -> Iterator[dict[str, str]]:
    """Yield every combination of the swept values."""
    names = [name for name, _ in sweeps]
    for values in product(*(choices for _, choices in sweeps)):
        yield dict(zip(names, values, strict=True))
