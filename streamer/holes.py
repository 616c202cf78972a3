"""What is missing of a stream, and which windows that concerns; pure."""

from __future__ import annotations

from shared.market.model import Window


class Hole:
    """Ids that have not arrived, and the times between which their trades lie. Closed when all of them came late."""

    __slots__ = ("first_id", "from_ms", "last_id", "missing", "to_ms")

    def __init__(self, first_id: int, last_id: int, missing: int, from_ms: int, to_ms: int | None) -> None:
        self.first_id = first_id
        self.last_id = last_id
        self.missing = missing
        self.from_ms = from_ms
        self.to_ms = to_ms  # None until the trade behind the hole is known

    def touches(self, window: Window) -> bool:
        return self.from_ms < window.end_ms and (self.to_ms is None or self.to_ms >= window.start_ms)

    def to_list(self) -> list[int | None]:
        return [self.first_id, self.last_id, self.missing, self.from_ms, self.to_ms]
