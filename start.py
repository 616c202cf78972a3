#!/usr/bin/env python3
"""Set up Tapewatch and run it: needs Python 3.11 or newer and nothing else.

    python3 start.py demo          the whole system against a simulated market
    python3 start.py test [...]    set up and run the tests (more words go to pytest)
    python3 start.py setup [LEVEL] set up only; `dev` adds linters and type checkers, `aws` what deploying needs,
                                   `aws-test` what the tests of the deployment need, `browser` what drives the page
    python3 start.py synth         what `cdk` runs: set up what deploying needs, then write the templates
    python3 start.py lock          write the lock files anew from pyproject.toml (needs uv)
    python3 start.py COMMAND ...   any other tapewatch command

Where there is a C compiler, the streamer's loop in C is built too (TAPEWATCH_NATIVE=0 leaves it out).
Everything lands in the folder .venv beside this file (TAPEWATCH_VENV names another). With `uv` on the PATH it is used;
else venv and pip. The lock files carry hashes and no addresses, so both installers fetch the very same packages.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / os.environ.get("TAPEWATCH_VENV", ".venv")
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOCKS = {
    "run": "requirements.lock",
    "test": "requirements-test.lock",
    "dev": "requirements-dev.lock",
    "aws": "requirements-aws.lock",
    "aws-test": "requirements-aws-test.lock",
    "browser": "requirements-browser.lock",
}
GROUPS = {
    "run": ["build"],
    "test": ["build", "test"],
    "dev": ["build", "test", "lint"],
    "aws": ["build", "aws"],
    "aws-test": ["build", "test", "lint", "aws", "aws-test"],
    "browser": ["build", "test", "browser"],
}
CONTAINS = {
    "run": ("run", "test", "dev", "aws", "aws-test"),
    "test": ("test", "dev", "aws-test"),
    "dev": ("dev", "aws-test"),
    "aws": ("aws", "aws-test"),
    "aws-test": ("aws-test",),
    "browser": ("browser",),
}
# What runs on AWS: exported alone, without the project's own dependencies, and never installed here.
CLOUD_LOCKS = {"lambda": "requirements-lambda.lock", "streamer": "requirements-streamer.lock"}
OLDEST = (3, 11)


def main() -> int:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if words else 2
    if sys.version_info < OLDEST:
        return with_newer_python()
    if words[0] == "lock":
        return lock()
    level = {"test": "test", "synth": "aws", "setup": words[1] if len(words) > 1 else "run"}.get(words[0], "run")
    if level not in LOCKS:
        return fail(f"cannot set up {level!r}: choose one of {', '.join(LOCKS)}")
    try:
        set_up(level)
    except subprocess.CalledProcessError as exc:
        return fail(f"setting up failed in: {' '.join(map(str, exc.cmd))}\nIts own message stands above.")
    if level != "aws":
        build_native()
    if words[0] == "setup":
        return 0
    if words[0] == "test":
        quick = "not slow and not aws and not dynamodb_local and not browser"
        return run([PYTHON, "-m", "pytest", "-n", "auto", "-m", quick, *words[1:]])
    if words[0] == "synth":
        return run([PYTHON, "-m", "infra.app", *words[1:]])
    return run([PYTHON, "-m", "local.cli", *words])


def set_up(level: str) -> None:
    """Bring .venv to the state that the lock file describes; does nothing when it is there already."""
    wanted = fingerprint(level)
    if PYTHON.exists() and any(stamp(other).is_file() and stamp(other).read_text() == fingerprint(other)
                               for other in CONTAINS[level]):  # fmt: skip
        return
    say(f"Setting up in {VENV.name} (once; this takes a moment)")
    uv = shutil.which("uv")
    lock_file = ROOT / LOCKS[level]
    if uv:
        if not PYTHON.exists():
            check([uv, "venv", "--quiet", "--python", sys.executable, VENV])
        check([uv, "pip", "install", "--quiet", "--python", PYTHON, "--require-hashes", "-r", lock_file])
        check([uv, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--no-build-isolation", "-e", ROOT])
    else:
        if not has_pip():
            make_venv()
        pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        check([*pip, "--require-hashes", "-r", lock_file])
        check([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT])
    stamp(level).write_text(wanted)


def build_native() -> None:
    """Compile the streamer's loop in C where that can be done; without it everything works, only slower.

    Tried once for each state of the sources, the Python and the compiler; a failure is one line.
    """
    if os.environ.get("TAPEWATCH_NATIVE") == "0":
        return
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    parts = [path.read_bytes() for path in sorted((ROOT / "native").glob("*"))]
    parts += [(ROOT / "streamer" / "native.py").read_bytes(), str((compiler, VENV, sys.version)).encode()]
    wanted, marker = hashlib.sha256(b"\0".join(parts)).hexdigest(), VENV / ".tapewatch-native"
    said = marker.read_text().split() if marker.is_file() else []
    # Second word: the library that was made, or a dash for a failure that need not be tried again.
    if said[:1] == [wanted] and len(said) == 2 and (said[1] == "-" or (ROOT / "streamer" / said[1]).is_file()):
        return
    done = subprocess.run(
        [PYTHON, ROOT / "streamer" / "native.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = (done.stderr.strip().splitlines() or ["no word"])[-1]
    if done.returncode:
        say(f"The trade loop in C was {last}. Everything works without it, at half the speed.")
    marker.write_text(f"{wanted} {'-' if done.returncode else last.split()[-1]}")


def has_pip() -> bool:
    """A venv that uv made has no pip; it is made anew when uv is gone."""
    probe = [PYTHON, "-m", "pip", "--version"]
    return PYTHON.exists() and subprocess.run(probe, check=False, capture_output=True).returncode == 0


def make_venv() -> None:
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=False)
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        say("The venv module of this Python does not work. On Debian or Ubuntu: sudo apt install python3-venv; "
            "or install uv, which needs no venv module.")  # fmt: skip
        raise subprocess.CalledProcessError(done.returncode, done.args)


def stamp(level: str) -> Path:
    return VENV / f".tapewatch-{level}"


def fingerprint(level: str) -> str:
    text = (ROOT / LOCKS[level]).read_bytes() + (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()
    return hashlib.sha256(text).hexdigest()


def lock() -> int:
    uv = shutil.which("uv")
    if not uv:
        return fail("writing the lock files needs uv on the PATH")
    check([uv, "lock", "--quiet", "--upgrade"])
    for level, file in LOCKS.items():
        groups = [word for group in GROUPS[level] for word in ("--group", group)]
        check([uv, "export", "--quiet", "--no-header", "--no-annotate", "--no-emit-project", "--no-default-groups",
               *groups, "--output-file", ROOT / file])  # fmt: skip
    for group, file in CLOUD_LOCKS.items():
        check([uv, "export", "--quiet", "--no-header", "--no-annotate", "--no-emit-project", "--only-group", group,
               "--output-file", ROOT / file])  # fmt: skip
    return 0


def with_newer_python() -> int:
    for minor in (13, 12, 11):
        other = shutil.which(f"python3.{minor}")
        if other:
            return run([other, *sys.argv])
    found = ".".join(map(str, sys.version_info[:3]))
    return fail(f"this is Python {found}; Tapewatch needs {OLDEST[0]}.{OLDEST[1]} or newer")


def check(command: list) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


def run(command: list) -> int:
    """Hand over to the command; on POSIX it takes this process's place, so that Ctrl-C reaches it alone."""
    if os.name != "nt":
        sys.stdout.flush()
        os.execv(str(command[0]), [str(word) for word in command])
    return subprocess.run(command, check=False).returncode


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> int:
    say(text)
    return 1


if __name__ == "__main__":
    sys.exit(main())
