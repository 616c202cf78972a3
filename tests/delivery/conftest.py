"""Fixtures of the delivery tests: a Telegram of our own, and the alert examples of the unit tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.telegram import FakeTelegram

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "alerts"))


@pytest.fixture
def phone() -> Iterator[FakeTelegram]:
    """A Telegram with one chat."""
    with FakeTelegram() as fake:
        yield fake
