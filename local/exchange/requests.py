"""The parameters of a REST call, checked as the exchange checks them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Refused(Exception):
    """A call that is answered with an error body."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Params:
    """The query of one call; every getter raises Refused with the exchange's own code."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.query = query

    def text(self, name: str) -> str:
        value = self.query.get(name, "")
        if not value:
            raise Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    def integer(self, name: str) -> int | None:
        value = self.query.get(name)
        if value is None:
            return None
        if not value:
            raise Refused(-1105, f"Parameter '{name}' was empty.")
        if not (value.isascii() and value.isdigit() and len(value) <= 20):
            raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """Return the limit; more than the most is quietly the most, as on the exchange."""
        value = self.integer("limit")
        if value is None:
            return default
        if value < 1:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(value, most)

    def symbols(self) -> list[str] | None:
        """Return the symbols asked for by `symbol` or `symbols` (a JSON array); None when neither was sent."""
        if "symbol" in self.query:
            return [self.text("symbol")]
        if "symbols" not in self.query:
            return None
        try:
            return msgspec.json.decode(self.query["symbols"], type=list[str])
        except msgspec.DecodeError as exc:
            raise Refused(-1100, "Illegal characters found in parameter 'symbols'.") from exc
