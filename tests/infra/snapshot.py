"""The default deployment's templates as reviewed: `python -m tests.infra.snapshot` writes them anew."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "snapshot.json"


def normalised(*templates: dict[str, Any]) -> str:
    """Return the templates as text without the hashes that change with every line of code."""
    text = json.dumps(templates, indent=1, sort_keys=True)
    text = re.sub(r"\b[0-9a-f]{64}\b", "<hash>", text)
    return re.sub(r'"(CodeSha256|Version)": "[^"]*"', r'"\1": "<hash>"', text) + "\n"


if __name__ == "__main__":
    from shared.settings import Settings
    from tests.infra.synths import make_synth

    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(normalised(*make_synth(Settings(), Path(folder) / "code").both), encoding="utf-8")
