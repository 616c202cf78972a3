"""One HTTP GET with a deadline that holds: the only place where bytes leave for the exchange over REST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer as it came. Header names are lower-case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Transport(Protocol):
    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> HttpResponse:
        """Fetch `url`; `timeout_s` bounds the whole exchange, from name lookup to the last byte.

        Raises:
            ExchangeUnavailable: no complete answer in time. The text holds neither parameters nor headers.
        """
        ...
