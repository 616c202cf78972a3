"""A Python 3.13 for the bundles: taken where it is, else fetched by uv; without either, a plain answer."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.python313 import fetch_python_313, found_in, working

pytestmark = pytest.mark.aws


class FakeUv:
    """Runs commands: `uv python install` makes a file that then answers for 3.13, or fails."""

    def __init__(self, made: Path | None) -> None:
        self.made, self.commands = made, list[list[str]]()

    def __call__(self, command: list[str], **words: Any) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        if "install" in command:
            if self.made is None:
                raise subprocess.CalledProcessError(2, command)
            self.made.parent.mkdir(parents=True)
            self.made.write_text("")
        return subprocess.CompletedProcess(command, 0)


def test_uv_fetches_one_where_there_is_none(tmp_path: Path) -> None:
    python = tmp_path / "cpython-3.13.5-linux-x86_64-gnu" / "bin" / "python3.13"
    uv = FakeUv(python)
    assert fetch_python_313(tmp_path, uv) == str(python)
    assert uv.commands[0][uv.commands[0].index("--install-dir") + 1] == str(tmp_path)
    assert found_in(tmp_path) == [python]


def test_without_a_network_there_is_none(tmp_path: Path) -> None:
    assert fetch_python_313(tmp_path, FakeUv(None)) is None


def test_what_only_looks_like_one_is_passed_over(tmp_path: Path) -> None:
    for number, code in ((1, 1), (2, 0)):
        path = tmp_path / f"3.13.{number}" / "bin" / "python3.13"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\nexit {code}\n")
        path.chmod(0o755)
    assert list(working(map(str, found_in(tmp_path)))) == [str(tmp_path / "3.13.2" / "bin" / "python3.13")]
