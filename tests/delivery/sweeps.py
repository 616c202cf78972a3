"""The sweeps: every AWS call of a run failed once in every way, every call interrupted by another whole run.

A case takes the state in which its handler is about to run, runs it with one fault, then does what the schedules do:
the same event again (in the same process, unless it was killed), the next links, and ten minutes of redelivery. Lost is
an event that a channel never heard of, a duplicate one it heard twice; a wrong row is one that a run without a fault
would have stored otherwise, or an API answer that is neither right nor an honest 503. `forged` counts what a garbled
yes to a write cost where no retry could notice it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import botocore.endpoint
from aws_faults import KINDS, Killed
from scenarios import SCENARIOS, Case, Cloud, Scenario

__all__ = [
    "SCENARIOS",
    "Case",
    "Cloud",
    "Expected",
    "Row",
    "call_sweep",
    "expected",
    "impatient",
    "interleaving_sweep",
    "table",
]

_NOTICES = ("Publish", "SendMessage")


@dataclass
class Row:
    """One line of the table."""

    scenario: str
    sdk: str
    fault: str
    cases: int = 0
    lost: int = 0
    duplicates: int = 0
    allowed: int = 0
    wrong: int = 0
    forged: int = 0
    first: str = ""  # the first case that was not as it should be

    @property
    def good(self) -> bool:
        return self.cases > 0 and not self.lost and not self.wrong and self.duplicates <= self.allowed

    def cells(self) -> tuple[str, ...]:
        counts = (self.cases, self.lost, self.duplicates, self.allowed, self.wrong, self.forged)
        return (self.scenario, self.sdk, self.fault, *map(str, counts), self.first)


@dataclass(frozen=True)
class Expected:
    """What a run without a fault makes of the prepared state: its calls, what each channel hears, what is stored."""

    before: Case
    operations: tuple[str, ...]
    heard: dict[str, set[str]]
    rows: dict[tuple[str, str], Any]
    answers: tuple[Any, ...]


def expected(cloud: Cloud, scenario: Scenario) -> Expected:
    """Prepare, run and finish once with nothing failing."""
    before = Case(cloud)
    scenario.prepare(before)
    case = before.fork()
    cloud.faults.arm()
    scenario.run(case, case.deps())
    operations = tuple(cloud.faults.operations)
    cloud.faults.disarm()
    answers = tuple(case.answers)
    scenario.after(case)
    _again(scenario, case, None)
    heard = case.heard()
    twice = [one for counts in heard.values() for one, count in counts.items() if count > 1]
    if twice:
        raise AssertionError(f"{scenario.name}: twice without any fault")
    return Expected(before, operations, {name: set(counts) for name, counts in heard.items()}, case.rows(), answers)


def call_sweep(
    cloud: Cloud, scenario: Scenario, kinds: Iterable[str] = KINDS, *, sdk: str = "once", every: int = 1
) -> list[Row]:
    """Fail every call once in every way; `every` 3 takes each third call, beginning with another one for each way."""
    wanted = expected(cloud, scenario)
    rows = []
    with impatient():
        for number, kind in enumerate(kinds):
            row = Row(scenario.name, sdk, kind)
            for at in range(number % min(every, len(wanted.operations)), len(wanted.operations), every):
                case = wanted.before.fork()
                deps = case.deps(sdk)
                cloud.faults.arm(at, kind)
                with suppress(Exception, Killed):
                    scenario.run(case, deps)
                cloud.faults.disarm()
                honest = _honest(case, wanted)
                with suppress(Exception):
                    scenario.after(case)
                _again(scenario, case, None if kind.startswith("kill") else deps)
                _count(row, scenario, case, wanted, at, _allowed(scenario, row, wanted.operations[at]), honest)
            rows.append(row)
    return rows


def interleaving_sweep(cloud: Cloud, scenario: Scenario, *, every: int = 1) -> Row:
    """At each call of run A, run B from start to end."""
    wanted = expected(cloud, scenario)
    row = Row(scenario.name, "once", "another run")
    for at in range(0, len(wanted.operations), every):
        case = wanted.before.fork()
        cloud.faults.arm(at, instead=lambda case=case: scenario.run(case, case.deps()))
        scenario.run(case, case.deps())
        cloud.faults.disarm()
        scenario.after(case)
        _again(scenario, case, None)
        _count(row, scenario, case, wanted, at)
    return row


def _again(scenario: Scenario, case: Case, deps: Any) -> None:
    """The retry, or the next run, its successors, and redelivery."""
    case.answers.clear()
    with suppress(Exception):
        scenario.run(case, deps or case.deps())
    scenario.after(case)
    case.redeliver()


def _honest(case: Case, wanted: Expected) -> bool:
    """An API under a fault answers as it would without, or says that it cannot."""
    return all(answer in wanted.answers or answer[1] == 503 for answer in case.answers)


def _count(
    row: Row, scenario: Scenario, case: Case, wanted: Expected, at: int, allowed: int = 0, honest: bool = True
) -> None:
    heard, rows = case.heard(), case.rows()
    lost = sum(len(ids - set(heard[channel])) for channel, ids in wanted.heard.items())
    duplicates = sum(count - 1 for counts in heard.values() for count in counts.values() if count > 1)
    wrong = sum(rows.get(key) != wanted.rows.get(key) for key in rows.keys() | wanted.rows.keys())
    wrong = 0 if at in scenario.hints else wrong + (not honest)
    row.cases, row.duplicates, row.allowed = row.cases + 1, row.duplicates + duplicates, row.allowed + allowed
    if _forged(row, wanted.operations[at]):
        row.forged += lost + wrong
        return
    row.lost, row.wrong = row.lost + lost, row.wrong + wrong
    if (lost or wrong or duplicates > allowed) and not row.first:
        row.first = f"at call {at}, {wanted.operations[at]}"


def _allowed(scenario: Scenario, row: Row, operation: str) -> int:
    """Faults between "accepted by the channel" and "noted as sent": a repeat with the same alert id is right there."""
    kind = row.fault
    if kind == "garbage":
        return int(_forged(row, operation) and operation == "TransactWriteItems") * 2
    if kind == "lost after":
        return int(operation in _NOTICES) * 2  # a digest of two alerts is one notification of two
    if kind.startswith("kill"):
        return scenario.repeats or int(operation in (*_NOTICES, "TransactWriteItems")) * 2
    return 0


def _forged(row: Row, operation: str) -> bool:
    """A garbled yes to a write that never happened, or a garbled "no such item".

    DynamoDB's checksum shows it, so the shipped retries ask again; without any retry botocore takes it for an empty
    answer, and nothing could know better.
    """
    writes = ("GetItem", "PutItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems")
    return row.fault == "garbage" and row.sdk == "once" and operation in writes


@contextmanager
def impatient() -> Iterator[None]:
    """Let the SDK's own retries come at once."""
    real = botocore.endpoint.time.sleep
    botocore.endpoint.time.sleep = lambda _: None
    try:
        yield
    finally:
        botocore.endpoint.time.sleep = real


def table(rows: Iterable[Row]) -> str:
    """Return the rows as aligned text."""
    head = ("scenario", "sdk", "fault", "cases", "lost", "duplicates", "allowed", "wrong", "forged", "")
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
