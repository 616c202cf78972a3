from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import FakeContext, FakeWorld


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    made = FakeWorld()
    yield made
    made.table.close()


@pytest.fixture
def lambda_context() -> FakeContext:
    return FakeContext()
