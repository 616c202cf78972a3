"""The page's files, read once: what is not in this table does not exist, whatever a path tries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WEB = Path(__file__).resolve().parent.parent / "web"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The strict content policy; on AWS the distribution sends the same."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    body: bytes
    kind: str
    tag: str


@dataclass(frozen=True, slots=True)
class PageFiles:
    """Files by the path that serves them."""

    files: Mapping[str, PageFile]

    @classmethod
    def load(cls, folder: Path = WEB) -> PageFiles:
        """Read every file of a known kind; a folder that is missing has none."""
        found = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix in _TYPES and path.is_file() and not path.is_symlink():
                body = path.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
                found["/" + path.relative_to(folder).as_posix()] = PageFile(body, _TYPES[path.suffix], tag)
        if "/index.html" in found:
            found["/"] = found["/index.html"]
        return cls(found)

    def answer(self, method: str, path: str, known_tag: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one request."""
        file = self.files.get(path)
        if file is None:
            return _refuse(404, "there is nothing at this path", "not_found")
        if method not in ("GET", "HEAD"):
            status, headers, body = _refuse(405, "this path answers GET", "method")
            return status, headers | {"allow": "GET, HEAD"}, body
        headers = {
            "content-type": file.kind,
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-cache",
            "etag": file.tag,
        }
        if file.tag in known_tag:
            return 304, headers, b""
        return 200, headers | {"content-length": str(len(file.body))}, file.body


def _refuse(status: int, text: str, code: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"error": text, "code": code}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-content-type-options": "nosniff",
    }
    return status, headers, body
