"""Print the sweeps' tables: every AWS call of a run failed in every way, and every call interrupted by another run.

    python -m benchmarks.delivery            everything (some minutes)
    python -m benchmarks.delivery --every 5  each fifth call

`lost` must be 0; `duplicates` may not exceed `allowed`: the faults between "accepted by the channel" and "noted".
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

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
sys.path[:0] = [str(_TESTS / "delivery"), str(_TESTS / "unit" / "alerts"), str(_TESTS)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take each N-th call (default %(default)s)")
    arguments = parser.parse_args()
    import sweeps

    cloud, rows, every = sweeps.Cloud(), [], arguments.every
    for scenario in sweeps.SCENARIOS:
        rows += sweeps.call_sweep(cloud, scenario, every=every)
        rows += sweeps.call_sweep(cloud, scenario, ("lost after", "500", "throttled"), sdk="shipped", every=every)
        rows.append(sweeps.interleaving_sweep(cloud, scenario, every=every))
        print(f"{scenario.name}: done", file=sys.stderr, flush=True)
    print(sweeps.table(rows))
    cases, lost = sum(row.cases for row in rows), sum(row.lost for row in rows)
    twice, allowed = sum(row.duplicates for row in rows), sum(row.allowed for row in rows)
    print(f"cases {cases}, lost {lost}, duplicates {twice} of {allowed} allowed")
    bad = [row for row in rows if row.lost or row.duplicates > row.allowed]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
