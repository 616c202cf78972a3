"""Shared fixtures. No test reaches beyond loopback: a guard refuses every other address."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

os.environ.setdefault("POWERTOOLS_METRICS_NAMESPACE", "Tapewatch")
os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "tapewatch")
os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

# The page's tests need the packages of `start.py setup browser`.
collect_ignore_glob = [] if find_spec("playwright") else ["browser"]

_REPOSITORY = Path(__file__).resolve().parent.parent


def _recorded_root() -> Path:
    configured = os.environ.get("TAPEWATCH_RECORDED")
    return Path(configured) if configured else _REPOSITORY.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = _recorded_root()
    if (root / "expected.json").is_file():
        return
    skip = pytest.mark.skip(reason=f"recorded market data not found in {root}; set TAPEWATCH_RECORDED to its folder")
    for item in items:
        if item.get_closest_marker("recorded"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def recorded_dir() -> Path:
    """The folder of recorded market data; tests that use it carry the marker `recorded`."""
    return _recorded_root()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if not (host.startswith("127.") or host in ("localhost", "::1")):
                raise OSError(f"a test tried to connect to {host}: only loopback is allowed")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
