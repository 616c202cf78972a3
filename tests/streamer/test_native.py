"""The optional loop in C: built where it can be, used only when it fits, and left out without a word otherwise."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from shared.market.model import Market
from streamer import native
from streamer.session import Session
from tests.streamer.streams import settings

ROOT = Path(native.__file__).resolve().parent.parent
BUILDS = shutil.which("cc") is not None and (Path(sysconfig.get_path("include")) / "Python.h").is_file()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources to build from, so that the real library stays as it is."""
    shutil.copytree(ROOT / "native", tmp_path / "native")
    monkeypatch.setattr(native, "_FOLDER", tmp_path / "native")
    monkeypatch.setattr(native, "_LIBRARY", tmp_path / native._LIBRARY.name)
    monkeypatch.delenv("TAPEWATCH_NATIVE", raising=False)
    native._module.cache_clear()
    return tmp_path


@pytest.fixture(autouse=True)
def forget() -> object:
    yield
    native._module.cache_clear()


@pytest.mark.skipif(not BUILDS, reason="no C compiler here")
def test_built_once_it_is_used_until_its_sources_change(elsewhere: Path) -> None:
    assert native.load() is None
    assert native.build() is None
    native._module.cache_clear()
    assert native.load() is not None
    assert Session(settings(), Market.SPOT, ["BTCUSDT"], together=True).loop == "native"
    with (elsewhere / "native" / "hotloop.c").open("a") as source:
        source.write("\n/* changed */\n")
    native._module.cache_clear()
    assert native.load() is None
    assert Session(settings(), Market.SPOT, ["BTCUSDT"], together=True).loop == "python"
    shutil.rmtree(elsewhere / "native")  # in the image there is the library alone
    native._module.cache_clear()
    assert native.load() is not None


@pytest.mark.skipif(not BUILDS, reason="no C compiler here")
def test_a_failed_build_is_one_line_and_leaves_nothing(elsewhere: Path) -> None:
    (elsewhere / "native" / "hotloop.c").write_text("this is not C")
    said = native.build()
    assert said is not None
    assert said.startswith("the compiler said: ")
    assert "\n" not in said
    assert not list(elsewhere.glob("_hotloop*"))


@pytest.mark.parametrize("compiler", ["/nowhere/cc", sys.executable])
def test_a_compiler_that_is_none_is_said(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CC", compiler)
    assert native.build()
    assert not list(elsewhere.glob("_hotloop*"))


@pytest.mark.skipif(native.load() is None, reason="not built here")
def test_frames_are_read_natively_only_from_the_picows_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    native._knows_frames.cache_clear()
    assert native.gatherer() is not None
    native._knows_frames.cache_clear()
    monkeypatch.setattr(native, "_PICOWS", "1.")
    assert native.gatherer() is None
    native._knows_frames.cache_clear()
    with pytest.raises(ValueError, match="not the frame"):
        native.load().frame_fields(object(), 0)


def test_it_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWATCH_NATIVE", "0")
    assert native.load() is None
    assert Session(settings(), Market.SPOT, ["BTCUSDT"], together=True).loop == "python"


def test_setting_up_goes_on_without_a_compiler(tmp_path: Path) -> None:
    """What `start.py` does after installing: one line, status kept, and not tried again until something changes."""
    (tmp_path / "streamer").mkdir()
    shutil.copy(ROOT / "streamer" / "native.py", tmp_path / "streamer")
    shutil.copytree(ROOT / "native", tmp_path / "native")
    shutil.copy(ROOT / "start.py", tmp_path)
    (tmp_path / ".venv").mkdir()
    code = f"import start, pathlib; start.PYTHON = {sys.executable!r}; start.build_native(); start.build_native()"
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": "", "CC": "/nowhere/cc"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0
    assert told.stderr.count("\n") == 1
    assert "was not built: FileNotFoundError" in told.stderr
