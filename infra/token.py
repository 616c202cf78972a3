"""The token of the API: made at the first synth, shown once; only its hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from infra.assets import ROOT, say
from shared.settings import Settings

KEPT = ROOT / ".tapewatch" / "api-token.sha256"


def token_hash(settings: Settings, kept: Path = KEPT) -> str:
    """Return the SHA-256 of the API's token: the setting's, the kept one, or a new one's, which is printed."""
    if settings.api.token_sha256 is not None:
        return settings.api.token_sha256
    if kept.is_file():
        return kept.read_text(encoding="ascii").strip()
    token = secrets.token_urlsafe(32)
    hashed = hashlib.sha256(token.encode()).hexdigest()
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(hashed + "\n", encoding="ascii")
    say(f"API token, shown this once; send it as x-api-key: {token}")
    say(f"Only its hash is kept, in {kept.name}; delete that file for a new one, or set api.token_sha256.")
    return hashed
