"""docs/reliability.md names, for each fault that must be survived, the tests that hold it: they must be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = {100: 20, 200: 11, 300: 11, 400: 13, 500: 9, 600: 6, 700: 14}  # so many rows from F101, F201, ... on


def test_every_fault_has_a_test_that_carries_its_id() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (F\d{3}) \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    assert list(rows) == [f"F{first + n}" for first, count in FAULTS.items() for n in range(1, count + 1)]
    for fault, cell in rows.items():
        files = re.findall(r"`([^`]+)`", cell)
        assert files, fault
        for name in files:
            text = (ROOT / "tests" / name).read_text(encoding="utf-8")
            assert re.search(fault, text, re.IGNORECASE), f"{fault} is not named in tests/{name}"
