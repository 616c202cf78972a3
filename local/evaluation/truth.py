"""Labelled events, and which alarms found them."""

from __future__ import annotations

import csv
import gzip
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UsageError
from shared.times import HOUR_MS, MINUTE_MS, parse_utc_ms

SYMBOL_COLUMNS = ("symbol", "pair", "market")
TIME_COLUMNS = ("time", "time_ms", "timestamp", "at", "onset", "onset_25s", "onset_15s", "onset_5s", "event_time")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How alarms are matched with events.

    An alarm known from `before_ms` before an event to `within_ms` after it finds the event. After an alarm the same
    detector is not listened to on that symbol for `pause_ms`; nothing counts in the first `warmup_ms` of a recording.
    """

    before_ms: int = 60_000
    within_ms: int = 25_000
    pause_ms: int = 30 * MINUTE_MS
    warmup_ms: int = 6 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Matched:
    """`delays_ms` of the events found, event to first alarm; `missed` names the others. `false` alarms found none."""

    found: tuple[tuple[str, int, int], ...]  # symbol, event, delay
    missed: tuple[tuple[str, int], ...]
    false: int
    alarms: int


def read_labels(path: Path, time_column: str | None = None) -> dict[str, list[int]]:
    """Return the event times by symbol from a CSV with a symbol and a time column; rows without a time are left out.

    Raises:
        UsageError: a column is missing, a time cannot be read, or there is no event at all.
    """
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"--labels {path}: {exc}") from None
    names = {name.strip().lower(): name for name in columns if name}
    symbol = next((names[name] for name in SYMBOL_COLUMNS if name in names), None)
    wanted = (time_column.lower(),) if time_column else TIME_COLUMNS
    time = next((names[name] for name in wanted if name in names), None)
    if symbol is None or time is None:
        raise UsageError(f"--labels {path}: needs a column `symbol` and one of {', '.join(wanted)}")
    labels: dict[str, list[int]] = {}
    for number, row in enumerate(rows, 2):
        text = (row[time] or "").strip()
        if not text:
            continue
        try:
            at_ms = parse_utc_ms(text)
        except ValueError:
            raise UsageError(f"--labels {path}, line {number}: {text!r} is no time") from None
        labels.setdefault((row[symbol] or "").strip().upper(), []).append(at_ms)
    if not labels:
        raise UsageError(f"--labels {path}: holds no event with a time")
    return {name: sorted(set(times)) for name, times in labels.items()}


def outside(labels: Mapping[str, Sequence[int]], spans: Iterable[tuple[str, int, int]], protocol: Protocol) -> int:
    """Count the events that lie in no recording (symbol, first, last) after its warm-up."""
    watches: dict[str, list[tuple[int, int]]] = {}
    for symbol, first, last in spans:
        watches.setdefault(symbol, []).append((first + protocol.warmup_ms, last))
    return sum(
        not any(start <= event <= last for start, last in watches.get(symbol, ()))
        for symbol, events in labels.items()
        for event in events
    )


def thin(times: Iterable[int], pause_ms: int) -> list[int]:
    """Return the alarms that are listened to: each silences the next `pause_ms`."""
    kept: list[int] = []
    for at in sorted(times):
        if not kept or at - kept[-1] >= pause_ms:
            kept.append(at)
    return kept


def match(
    alarms: Mapping[str, Sequence[int]],
    labels: Mapping[str, Sequence[int]],
    spans: Mapping[str, Sequence[tuple[int, int]]],
    protocol: Protocol,
) -> Matched:
    """Match known times of alarms with events, symbol by symbol; only events inside the recorded spans count.

    A span is (first, last) of one recording; its warm-up is taken off here. Each span is a watch of its own, so a
    symbol recorded twice is judged twice, but an event that lies in both counts once.
    """
    found: dict[tuple[str, int], int] = {}
    wanted: set[tuple[str, int]] = set()
    false = listened = 0
    for symbol, watches in spans.items():
        events = labels.get(symbol, ())
        for first, last in watches:
            start = first + protocol.warmup_ms
            inside = list(events[bisect_left(events, start) : bisect_right(events, last)])
            wanted.update((symbol, event) for event in inside)
            # Every event of the symbol excuses an alarm near it, also one just outside the span that counts.
            for at in thin((t for t in alarms.get(symbol, ()) if start <= t <= last + MINUTE_MS), protocol.pause_ms):
                listened += 1
                near = [e for e in events if e - protocol.before_ms <= at <= e + protocol.within_ms]
                if not near:
                    false += 1
                for event in near:
                    key = (symbol, event)
                    found[key] = min(found.get(key, at - event), at - event)
    hits = tuple((symbol, event, found[symbol, event]) for symbol, event in sorted(wanted) if (symbol, event) in found)
    return Matched(hits, tuple(sorted(wanted - found.keys())), false, listened)
