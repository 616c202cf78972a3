"""Find a Python 3.13 for the bundles: only it can compile the bytecode that Lambda's runtime reads.

Where the machine has none, uv fetches one into `.tapewatch/`; the system stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

WANTED = (3, 13)
KEPT = Path(__file__).resolve().parent.parent / ".tapewatch" / "python"
_WITHIN_S = 300
_CHECK = "import sys; sys.exit(sys.version_info[:2] != (3, 13))"

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def python_313() -> str | None:
    """Return the path of a working Python 3.13 that is here already, None where there is none."""
    if sys.version_info[:2] == WANTED:
        return sys.executable
    candidates = [shutil.which("python3.13")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local" / "share" / "uv" / "python"))
    for folder in (pyenv, uv, KEPT):
        candidates += map(str, found_in(folder))
    return next(iter(working(candidates)), None)


def found_in(folder: Path) -> list[Path]:
    """Return what looks like a Python 3.13 below a folder of versions, as pyenv and uv name them."""
    return sorted(folder.glob("*3.13*/bin/python3.13"))


def working(candidates: Iterable[str | None], run: Run = subprocess.run) -> Iterable[str]:
    for path in candidates:
        if path and run([path, "-I", "-c", _CHECK], capture_output=True, check=False).returncode == 0:
            yield path


def fetch_python_313(folder: Path = KEPT, run: Run = subprocess.run) -> str | None:
    """Let uv fetch a Python 3.13 into the folder and return its path; None where it cannot, as without a network."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "python",
        "install",
        "--quiet",
        "--no-bin",
        "--install-dir",
        str(folder),
        "3.13",
    ]
    try:
        run(command, capture_output=True, check=True, timeout=_WITHIN_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(working(map(str, found_in(folder)), run)), None)
