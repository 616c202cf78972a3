"""Why a component has no data, in its own words; the watchdog tells it and the health page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from shared.market.model import Market
from shared.storage.schema import blindness_key, blindness_partition
from shared.storage.table import Item, Table

_KEEP_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Blindness:
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
class BlindnessRepository:
    table: Table

    def note(self, blind: Blindness) -> None:
        """Keep the newest reason of a component."""
        pk, sk = blindness_key(blind.component)
        self.table.put(
            {
                "pk": pk,
                "sk": sk,
                "component": blind.component,
                "market": blind.market.value,
                "code": blind.code[:60],
                "reason": blind.reason[:500],
                "cure": blind.cure[:500],
                "at_ms": blind.at_ms,
                "expires_at": blind.at_ms // 1000 + _KEEP_S,
            }
        )

    def all(self) -> dict[str, Blindness]:
        """Return each component's newest reason, which may be over."""
        rows = self.table.query(blindness_partition())
        return {str(row["component"]): _blindness(row) for row in rows}


def _blindness(row: Item) -> Blindness:
    at_ms = row.get("at_ms")
    return Blindness(
        component=str(row["component"]),
        market=Market(str(row["market"])),
        code=str(row.get("code", "")),
        reason=str(row.get("reason", "")),
        cure=str(row.get("cure", "")),
        at_ms=int(at_ms) if isinstance(at_ms, int | float) else 0,
    )
