"""Why a component has no data, in its own words; the watchdog tells it and the health page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from shared.market.model import Market
from shared.storage.schema import trouble_key, troubles_partition
from shared.storage.table import Item, Table

_KEEP_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Trouble:
    """What kept `component` from its data at `at_ms`: `code` is an error's, `reason` and `cure` are for people.

    Nothing clears it: a sign of life that is newer says that it is over.
    """

    component: str
    market: Market
    code: str
    reason: str
    cure: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TroubleRepository:
    table: Table

    def note(self, trouble: Trouble) -> None:
        """Keep the newest trouble of a component."""
        pk, sk = trouble_key(trouble.component)
        self.table.put(
            {
                "pk": pk,
                "sk": sk,
                "component": trouble.component,
                "market": trouble.market.value,
                "code": trouble.code[:60],
                "reason": trouble.reason[:500],
                "cure": trouble.cure[:500],
                "at_ms": trouble.at_ms,
                "expires_at": trouble.at_ms // 1000 + _KEEP_S,
            }
        )

    def all(self) -> dict[str, Trouble]:
        """Return each component's newest trouble, which may be over."""
        rows = self.table.query(troubles_partition())
        return {str(row["component"]): _trouble(row) for row in rows}


def _trouble(row: Item) -> Trouble:
    at_ms = row.get("at_ms")
    return Trouble(
        component=str(row["component"]),
        market=Market(str(row["market"])),
        code=str(row.get("code", "")),
        reason=str(row.get("reason", "")),
        cure=str(row.get("cure", "")),
        at_ms=int(at_ms) if isinstance(at_ms, int | float) else 0,
    )
