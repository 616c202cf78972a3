"""Every setting is documented, and nothing is documented that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from shared.settings import Section, Settings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, kind in get_type_hints(section).items():
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", name


def test_every_setting_stands_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`\n]+)`", text)) | {word.split(".")[-1] for word in re.findall(r"`([^`\n]+)`", text)}
    missing = [
        path
        for path, name in leaves(Settings)
        if name not in words and not any(path.startswith(f"sector.{word}.") for word in ("universe",))
    ]
    assert missing == []
