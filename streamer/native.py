"""The batch loop in C: found when it was built, left out when it was not.

    python -m streamer.native      build it (needs a C compiler and Python's headers); says what happened, 1: not built

`start.py` does that by itself. Everything works without the loop and decides the same; with it a message costs a
fraction. `TAPEWATCH_NATIVE=0` leaves it out. A library says which sources it was built from: one that was built from
others than those that lie here is not used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_PICOWS = "2.3."  # the versions of picows whose frames native/gather.c knows
_FOLDER = Path(__file__).resolve().parent.parent / "native"
_LIBRARY = Path(__file__).resolve().parent / f"_hotloop{sysconfig.get_config_var('EXT_SUFFIX') or '.so'}"


def load() -> Any | None:
    """Return the extension module, or None: not built, unwanted, or built by another Python or from other sources."""
    return None if os.environ.get("TAPEWATCH_NATIVE") == "0" else _module()


def gatherer() -> Any | None:
    """Return the `Gather` class, or None: no extension, or frames that look otherwise than those it was written for."""
    module = load()
    return module.Gather if module is not None and _knows_frames(module) else None


@cache
def _knows_frames(module: Any) -> bool:
    """Tell whether picows's frames are laid out as in the `picows.pxd` that the extension was written from: by their
    version, and by what the extension sees in some of them."""
    try:
        import picows  # not above: this file also runs as a script where nothing is installed
        from picows.picows import _make_test_ws_frame

        for kind in (picows.WSMsgType.TEXT, picows.WSMsgType.PING):
            for fin, rsv1 in ((True, False), (False, True)):
                for payload in (b"", b"seen by both"):
                    frame = _make_test_ws_frame(kind, payload, fin, rsv1)
                    told = (payload, kind.value, frame.fin, frame.rsv1, frame.last_in_buffer)
                    if module.frame_fields(frame, len(payload)) != told or frame.get_payload_as_bytes() != payload:
                        return False
        return str(getattr(picows, "__version__", "")).startswith(_PICOWS)
    except (ImportError, AttributeError, TypeError, ValueError):
        return False


@cache
def _module() -> Any | None:
    if not _LIBRARY.is_file():
        return None
    spec = importlib.util.spec_from_file_location("streamer._hotloop", _LIBRARY)
    if spec is None or spec.loader is None:
        return None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return None
    wanted = digest()
    return module if wanted is None or getattr(module, "SOURCES", None) == wanted else None


def digest() -> str | None:
    """Return a hash of the C sources; None where only the library was brought along, as in the image."""
    files = sorted(path for path in _FOLDER.glob("*") if path.suffix in (".c", ".h"))
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.name}\0".encode() + path.read_bytes())
    return whole.hexdigest()[:16] if files else None


def build() -> str | None:
    """Compile the loop beside this module; return None, or in one line why it is not there."""
    compiler = shlex.split(os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), ""))
    headers, sources = Path(sysconfig.get_path("include")), digest()
    if sources is None:
        return "the sources in native/ are not there"
    if not compiler:
        return "no C compiler (cc, gcc or clang) was found"
    if not (headers / "Python.h").is_file():
        return f"this Python has no headers ({headers / 'Python.h'})"
    try:
        with tempfile.TemporaryDirectory(dir=_LIBRARY.parent, prefix="_hotloop-") as folder:
            made = Path(folder) / _LIBRARY.name
            # No contraction: a fused multiply-add would round once where Python rounds twice.
            command = [*compiler, "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", f'-DSOURCES="{sources}"']
            command += [f"-I{headers}", *map(str, sorted(_FOLDER.glob("*.c"))), "-lm"]
            if sys.platform == "darwin":
                command += ["-undefined", "dynamic_lookup"]
            done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
                return f"the compiler said: {next((line for line in said if 'error' in line), said[-1])[:300]}"
            made.replace(_LIBRARY)
    except OSError as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def main() -> int:
    failure = build()
    sys.stderr.write(f"built {_LIBRARY.name}\n" if failure is None else f"not built: {failure}\n")
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
