"""Fixtures of the delivery tests: a Telegram of our own, and the alert examples of the unit tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.telegram import FakeTelegram

_UNIT = Path(__file__).resolve().parents[1] / "unit"
sys.path[:0] = [str(_UNIT / "alerts"), str(_UNIT / "jobs")]


@pytest.fixture
def phone() -> Iterator[FakeTelegram]:
    """A Telegram with one chat."""
    with FakeTelegram() as fake:
        yield fake
