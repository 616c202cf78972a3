"""Fixtures of the deployment's tests; without the packages of `start.py setup aws-test` none of them is collected."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.settings import Settings
from shared.settings_loader import parse_settings

if TYPE_CHECKING:
    from tests.infra.synths import Synth

collect_ignore_glob = [] if find_spec("aws_cdk") else ["test_*.py"]


@pytest.fixture(scope="session")
def synth(tmp_path_factory: pytest.TempPathFactory) -> Synth:
    """The default deployment."""
    from tests.infra.synths import make_synth

    return make_synth(Settings(), tmp_path_factory.mktemp("default") / "code")


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Synth:
    """Everything switched on."""
    from tests.infra.synths import FULL, make_synth

    return make_synth(parse_settings(FULL), tmp_path_factory.mktemp("full") / "code")


@pytest.fixture
def synth_of(tmp_path: Path) -> Callable[..., Synth]:
    from tests.infra.synths import make_synth

    def make(tree: dict[str, Any], region: str | None = None) -> Synth:
        return make_synth(parse_settings(tree), tmp_path / "code", region)

    return make
