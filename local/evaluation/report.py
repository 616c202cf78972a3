"""One evaluation from inputs to a JSON-ready report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local.evaluation.engine import LookAhead, Progress, Task, look_ahead, override, run_all
from local.evaluation.figures import alerts_by_day, figures
from local.evaluation.truth import Protocol, outside
from local.evaluation.units import Unit, UnitResult
from shared.alerts.policy import alerts_of
from shared.detection.reading import Detector
from shared.settings import Settings

CUTS = (0.5, 0.9)
CHECKED_UNITS = 2
CHECKED_BYTES = 4 << 20  # larger files are checked only when it is asked for


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one evaluation needs. `variants` are settings, each with what was changed in words."""

    units: Sequence[Unit]
    variants: Sequence[tuple[str, Settings]]
    detectors: tuple[Detector, ...]
    protocol: Protocol
    horizon_ms: int
    labels: dict[str, list[int]] | None
    jobs: int
    check: str = "some"  # look-ahead: none, some, all


def variants(settings: Settings, combinations: Sequence[dict[str, str]]) -> list[tuple[str, Settings]]:
    """Return the settings under each combination, named by it."""
    if not combinations:
        return [("", settings)]
    return [
        (", ".join(f"{name.rsplit('.', 1)[-1]}={value}" for name, value in values.items()), override(settings, values))
        for values in combinations
    ]


def evaluate(plan: Plan, progress: Progress | None = None) -> dict[str, Any]:
    """Run everything and return the report."""
    wanted = frozenset(plan.detectors)
    tasks = [Task(unit, settings, wanted) for _, settings in plan.variants for unit in plan.units]
    answers = run_all(tasks, jobs=plan.jobs, progress=progress)
    rows: list[dict[str, Any]] = []
    for number, (name, settings) in enumerate(plan.variants):
        mine = answers[number * len(plan.units) : (number + 1) * len(plan.units)]
        for row in figures(
            mine, plan.detectors, settings, protocol=plan.protocol, labels=plan.labels, horizon_ms=plan.horizon_ms
        ):
            rows.append({"setting": name, **row} if name else row)
    first = answers[: len(plan.units)]
    files = _files(first)
    return {
        "files": files,
        "data_sha256": hashlib.sha256("".join(f"{n}:{d}\n" for n, d in files.items()).encode()).hexdigest(),
        "inputs": sum(result.inputs for result in first),
        "rejected": _rejected(first),
        "protocol": asdict(plan.protocol),
        "horizon_s": plan.horizon_ms // 1000,
        "results": rows,
        **_labels(plan, first),
        "switched_off": _switched_off(rows, plan.variants[0][1]),
        "alerts_by_day": alerts_by_day(first),
        "look_ahead": [asdict(check) for check in _checks(plan, wanted)],
        "look_ahead_left_out": _left_out(plan),
    }


def _files(results: Sequence[UnitResult]) -> dict[str, str]:
    """Return the hashes by file name; of several of one name the second is called `name (2)`."""
    digests: dict[str, set[str]] = {}
    for result in results:
        for path, digest in result.files.items():
            digests.setdefault(Path(path).name, set()).add(digest)
    return {
        name if not number else f"{name} ({number + 1})": digest
        for name in sorted(digests)
        for number, digest in enumerate(sorted(digests[name]))
    }


def _labels(plan: Plan, results: Sequence[UnitResult]) -> dict[str, int]:
    if plan.labels is None:
        return {}
    spans = [(symbol, first, last) for result in results for _, symbol, first, last in result.spans]
    given = sum(map(len, plan.labels.values()))
    return {"labels_given": given, "labels_outside": outside(plan.labels, spans, plan.protocol)}


def labels_told(report: Mapping[str, Any]) -> str:
    """Return how many labelled events no recording holds, in words; nothing where each is in one."""
    if not report.get("labels_outside"):
        return ""
    return (
        f"labels: {report['labels_outside']} of {report['labels_given']} events lie in no recording after its warm-up, "
        "so nothing is said about them"
    )


def _switched_off(rows: Sequence[dict[str, Any]], settings: Settings) -> list[str]:
    """Return the detectors that said something, and none of whose signals may become an alert."""
    said = {row["detector"] for row in rows if row["alarms"]}
    return sorted(name for name in said if not alerts_of(Detector(name), settings))


def _checks(plan: Plan, wanted: frozenset[Detector]) -> list[LookAhead]:
    """Check the smallest units of each kind, or all."""
    if plan.check == "none":
        return []
    units = sorted(plan.units, key=lambda unit: unit.size)
    if plan.check == "some":
        kinds: dict[str, int] = {}
        chosen = []
        for unit in units:
            kind = _kind(unit)
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= CHECKED_UNITS and unit.size <= CHECKED_BYTES:
                chosen.append(unit)
        units = chosen
    settings = plan.variants[0][1]
    return [check for unit in units for check in look_ahead(unit, settings, wanted, CUTS)]


def _kind(unit: Unit) -> str:
    return "windows" if unit.windows else unit.recordings[0].kind.value


def _left_out(plan: Plan) -> list[str]:
    """Return the kinds of files that the check of some looked at none of, because each is large."""
    if plan.check != "some":
        return []
    small = {_kind(unit) for unit in plan.units if unit.size <= CHECKED_BYTES}
    return sorted({_kind(unit) for unit in plan.units} - small)


def left_out_told(report: Mapping[str, Any]) -> str:
    """Return what the look-ahead check left out, in words; nothing where it saw each kind of file."""
    kinds = ", ".join(report["look_ahead_left_out"])
    return kinds and f"{kinds} not checked, every file is too large to be checked unasked (--look-ahead all)"


def _rejected(results: Sequence[UnitResult]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in results:
        for reason, count in result.rejected.items():
            counts[reason] = counts.get(reason, 0) + count
    return counts


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
