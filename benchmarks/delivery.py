"""Print the sweeps' tables: every AWS call of every handler failed in every way, and interrupted by another run.

    python -m benchmarks.delivery                    all of it: some 5,000 cases in five minutes of one core
    python -m benchmarks.delivery --every 5          each fifth call
    python -m benchmarks.delivery --only kline --full    some handlers, one line for each kind of fault

`lost` and `wrong` must be 0; `duplicates` may not exceed `allowed`: the faults between "accepted by the channel" and
"noted as sent". `once` is the SDK without retries of its own, `shipped` with those that run on AWS. `forged` is what a
garbled yes to a write cost where no retry could notice it (`once` only).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps import Row

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "POWERTOOLS_METRICS_DISABLED": "true",
    "POWERTOOLS_SERVICE_NAME": "tapewatch",
    "POWERTOOLS_LOG_LEVEL": "CRITICAL",
}
_TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(_TESTS / part) for part in ("delivery", "unit/alerts", "unit/jobs", ".")]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.delivery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="take each N-th call (default %(default)s)")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--full", action="store_true", help="a line for each kind of fault")
    arguments = parser.parse_args()
    import sweeps

    cloud, rows, every = sweeps.Cloud(), [], arguments.every
    for scenario in sweeps.SCENARIOS:
        if arguments.only not in scenario.name:
            continue
        began = time.process_time()
        found = [row for sdk in ("once", "shipped") for row in sweeps.call_sweep(cloud, scenario, sdk=sdk, every=every)]
        if not scenario.alone:
            found.append(sweeps.interleaving_sweep(cloud, scenario, every=every))
        rows += found
        spent = time.process_time() - began
        print(f"{scenario.name}: {sum(row.cases for row in found)} cases, {spent:.0f} s", file=sys.stderr, flush=True)
        bad = [row for row in found if not row.good]
        if bad:
            print(sweeps.table(bad), file=sys.stderr, flush=True)
    if arguments.full:
        print(sweeps.table(rows))
    else:
        print(sweeps.table(_summed(rows, lambda row: (row.scenario, row.sdk, _kind(row)))))
        print()
        print(sweeps.table(_summed(rows, lambda row: ("all", row.sdk, row.fault))))
    cases, lost, wrong = (sum(getattr(row, name) for row in rows) for name in ("cases", "lost", "wrong"))
    twice, allowed = sum(row.duplicates for row in rows), sum(row.allowed for row in rows)
    forged = sum(row.forged for row in rows)
    print(f"cases {cases}, lost {lost}, wrong {wrong}, duplicates {twice} of {allowed} allowed, forged {forged}")
    return 0 if all(row.good for row in rows) else 1


def _kind(row: Row) -> str:
    return "another run" if row.fault == "another run" else "eight kinds"


def _summed(rows: Iterable[Row], name: Callable[[Row], tuple[str, str, str]]) -> list[Row]:
    import sweeps

    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        total = found.setdefault(name(row), sweeps.Row(*name(row)))
        for count in ("cases", "lost", "duplicates", "allowed", "wrong", "forged"):
            setattr(total, count, getattr(total, count) + getattr(row, count))
    return list(found.values())


if __name__ == "__main__":
    sys.exit(main())
