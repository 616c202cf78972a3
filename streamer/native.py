"""The optional batch loop in C: found when it was built, left out when it was not.

    python -m streamer.native      build it (needs a C compiler and Python's headers); says what happened

Everything works without it, and decides the same; with it a message costs a tenth. `TAPEWATCH_NATIVE=0` leaves it out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).resolve().parent.parent / "native" / "hotloop.c"
_LIBRARY = Path(__file__).resolve().parent / f"_hotloop{sysconfig.get_config_var('EXT_SUFFIX') or '.so'}"


def load() -> Any | None:
    """Return the `Feed` class, or None: not built, or built by another version of Python or of the source."""
    if os.environ.get("TAPEWATCH_NATIVE") == "0" or not _LIBRARY.is_file():
        return None
    if _SOURCE.is_file() and _SOURCE.stat().st_mtime > _LIBRARY.stat().st_mtime:
        return None  # the source has changed since
    spec = importlib.util.spec_from_file_location("streamer._hotloop", _LIBRARY)
    if spec is None or spec.loader is None:
        return None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return None
    return module.Feed


def build() -> str:
    """Compile the loop beside this module; return what happened, in words."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"))
    if not _SOURCE.is_file() or compiler is None or not (headers / "Python.h").is_file():
        return "not built: a C compiler and Python's headers are needed; everything works without it"
    with tempfile.TemporaryDirectory(dir=_LIBRARY.parent) as folder:
        made = Path(folder) / _LIBRARY.name
        # No contraction: a fused multiply-add would round once where Python rounds twice.
        command = [compiler, "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", f"-I{headers}", str(_SOURCE)]
        if sys.platform == "darwin":
            command += ["-undefined", "dynamic_lookup"]
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            return f"not built: the compiler said {done.stderr.strip()[:500]}; everything works without it"
        made.replace(_LIBRARY)
    return f"built {_LIBRARY.name}"


if __name__ == "__main__":
    sys.stderr.write(build() + "\n")
