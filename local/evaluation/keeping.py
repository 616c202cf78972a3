"""Keep the last evaluation where the page finds it: in the state beside which it was made, when there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.world import open_state
from shared.jobs.overview import QUALITY, kept_quality
from shared.settings import Settings
from shared.storage.checkpoints import CheckpointRepository


def keep_for_page(settings: Settings, report: Mapping[str, Any], *, aws: bool = False) -> bool:
    """Store the figures for `/api/quality`, with `aws` in the deployment's table; False where there is no state."""
    if not aws and not Path(settings.storage.sqlite_path).is_file():
        return False
    table = open_state(settings, aws=aws)
    try:
        data = f"data {report['data_sha256'][:12]}, {report['inputs']:,} inputs"
        kept = kept_quality(report["created"], f"truth: {report['truth']}", data, report["results"])
        return CheckpointRepository(table).put(QUALITY, kept)
    finally:
        table.close()
