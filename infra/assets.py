"""Build what is uploaded: the functions' bundle, the page's, and the streamer's image folder. No Docker is used.

A bundle is made once for its inputs and kept in `.tapewatch/`; the same inputs give the same bytes, so a deployment of
an unchanged tree changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import msgspec

from infra.python313 import python_313
from shared.errors import ConfigurationError
from shared.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".tapewatch" / "bundles"
ARM64 = "aarch64-manylinux_2_28"
PYTHON = "3.13"
TASK_ROOT = "/var/task"
LARGEST_ZIP = 25 * 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = ("__pycache__", "tests", "include", "f2py", "_pyinstaller", "distutils", "typing_tests")
_LEFT_OUT_ENDS = (".pyi", ".a", ".lib", ".pxd", ".pyx", ".h", ".c", ".so.debug")
_INSTALL_NOTES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def functions_bundle(settings: Settings, *, platform: str = ARM64, python: str = PYTHON) -> Path:
    """Return the zip of all job functions, the API and the settings.

    Raises:
        ConfigurationError: it cannot be built here, or is too large.
    """
    sources = {
        **tree(ROOT / "shared", "shared"),
        **tree(ROOT / "functions", "functions", leave_out=("page_files.py",)),
        "tapewatch.yaml": settings_file(settings),
    }
    return _bundle("functions", sources, ROOT / "requirements-lambda.lock", platform, python)


def page_bundle(*, platform: str = ARM64, python: str = PYTHON) -> Path:
    """Return the zip of the function that copies the page's files, with the files."""
    sources = {
        "functions/__init__.py": (ROOT / "functions" / "__init__.py").read_bytes(),
        "functions/page_files.py": (ROOT / "functions" / "page_files.py").read_bytes(),
        **tree(ROOT / "web", "web"),
    }
    return _bundle("page", sources, None, platform, python)


def image_folder(settings: Settings) -> Path:
    """Return the folder that the streamer's image is built from: the Dockerfile and exactly what it copies."""
    files = {
        **tree(ROOT / "shared", "shared"),
        **tree(ROOT / "streamer", "streamer", leave_out=("Dockerfile", "_hotloop*")),
        **tree(ROOT / "native", "native"),
        "requirements.lock": (ROOT / "requirements-streamer.lock").read_bytes(),
        "tapewatch.yaml": settings_file(settings),
        "Dockerfile": (ROOT / "streamer" / "Dockerfile").read_bytes(),
    }
    folder = CACHE / f"image-{digest(files)[:16]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / "image"
            for name, body in files.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_bytes(body)
            made.rename(folder)
    return folder


def settings_file(settings: Settings) -> bytes:
    """Return the effective settings, the synth's environment included, in the form that the code reads."""
    # JSON is YAML.
    return msgspec.json.format(msgspec.json.encode(settings, order="deterministic"), indent=1) + b"\n"


def tree(folder: Path, prefix: str, leave_out: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Read a folder's files; bytecode of this machine, hidden files and those named (a pattern may) stay behind."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not hidden and not any(fnmatch(part, one) for part in parts for one in leave_out):
            found["/".join((prefix, *parts))] = path.read_bytes()
    return found


def digest(files: dict[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{len(files[name])}\0".encode())
        whole.update(files[name])
    return whole.hexdigest()


def content_digest(archive: Path) -> str:
    """Return a hash of a zip's names and contents: two compressors may pack the same contents differently."""
    with zipfile.ZipFile(archive) as zipped:
        return digest({name: zipped.read(name) for name in zipped.namelist()})


def _bundle(name: str, sources: dict[str, bytes], lock: Path | None, platform: str, python: str) -> Path:
    compiler = python_313() if python == PYTHON else sys.executable
    inputs = {
        **sources,
        "\0lock": lock.read_bytes() if lock else b"",
        "\0target": f"{platform} {python} {compiler is not None}".encode(),
        "\0builder": Path(__file__).read_bytes(),
    }
    archive = CACHE / f"{name}-{digest(inputs)[:16]}.zip"
    if archive.is_file():
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        if lock is not None:
            _install(lock, folder, platform, python)
        _strip(folder)
        for path, body in sources.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        if compiler is None:
            say("no Python 3.13 on this machine: the bundle has no bytecode, so functions start more slowly")
        else:
            _compile(compiler, folder)
        made = Path(temporary) / "bundle.zip"
        _zip(folder, made)
        if made.stat().st_size > LARGEST_ZIP:
            raise ConfigurationError(f"the bundle {name} has {made.stat().st_size} bytes; {LARGEST_ZIP} are allowed")
        made.rename(archive)
    return archive


def _install(lock: Path, folder: Path, platform: str, python: str) -> None:
    """Install the locked wheels for the target's platform; uv alone picks the newest that it can run."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(folder), "--no-deps",
               "--python-platform", platform, "--python-version", python, "--only-binary", ":all:",
               "--link-mode", "copy", "--require-hashes", "-r", str(lock)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words only
    if done.returncode:
        raise ConfigurationError(f"the packages of {lock.name} could not be fetched: {done.stderr.strip()[-300:]}")


def _strip(folder: Path) -> None:
    """Remove what no function uses: tests, headers, stubs, installers' notes. Licences stay."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if path.name in _LEFT_OUT or (path.parent == folder and path.name == "bin"):
                shutil.rmtree(path)
        elif path.name.endswith(_LEFT_OUT_ENDS) or (
            path.parent.suffix == ".dist-info" and path.name in _INSTALL_NOTES
        ):  # fmt: skip
            path.unlink()
    (folder / ".lock").unlink(missing_ok=True)


def _compile(compiler: str, folder: Path) -> None:
    """Write bytecode that is never compared with its source, whose paths are those on AWS."""
    subprocess.run(  # noqa: S603 - our own words only
        [compiler, "-I", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash",
         "-s", str(folder), "-p", TASK_ROOT, str(folder)],
        check=False, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, path in sorted(_files(folder)):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    paths: Iterable[Path] = folder.rglob("*")
    for path in paths:
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
