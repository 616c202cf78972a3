"""Find a Python 3.13 on this machine: only it can compile the bytecode that Lambda's runtime reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

WANTED = (3, 13)


def python_313() -> str | None:
    """Return the path of a working Python 3.13, None where there is none."""
    if sys.version_info[:2] == WANTED:
        return sys.executable
    candidates = [shutil.which("python3.13")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob("3.13*/bin/python3.13"))]
    code = "import sys; sys.exit(sys.version_info[:2] != (3, 13))"
    for path in candidates:
        if path and subprocess.run([path, "-c", code], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return path
    return None
