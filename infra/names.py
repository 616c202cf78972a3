"""Names that the deployment and the code must agree on, taken from the code itself."""

from __future__ import annotations

from typing import get_type_hints

from shared.settings import Section, Settings
from shared.settings_loader import PREFIX

FUTURES_BLOCKED = "us-"
"""Regions of this prefix are refused by the exchange's futures API (HTTP 451)."""


def variable(path: str) -> str:
    """Return the environment variable of a setting, as `storage.table_name`.

    Raises:
        KeyError: there is no such setting.
    """
    kind: object = Settings
    for part in path.split("."):
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            raise KeyError(f"there is no setting {path}")
        hints = get_type_hints(kind)
        if part not in hints:
            raise KeyError(f"there is no setting {path}")
        kind = hints[part]
    return PREFIX + path.upper().replace(".", "__")


def futures_blocked(region: str | None) -> bool:
    """Say whether the futures API cannot be reached from this region; an unknown region is taken as free."""
    return region is not None and region.startswith(FUTURES_BLOCKED)
