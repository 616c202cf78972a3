"""What a route is: its path, its parameters, what it answers; the handler and the published contract share it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from shared.errors import TapewatchError
from shared.jobs.deps import Dependencies

_NAME = re.compile(r"\{(\w+)\}")


class NotFound(TapewatchError):
    """What the path names is not there."""

    code = "not_found"


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the query; `schema` is JSON Schema."""

    name: str
    about: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string", "maxLength": 100})


@dataclass(frozen=True, slots=True)
class Request:
    """What a route's function is told; `names` are the parts of the path, `now_ms` is read once."""

    deps: Dependencies
    query: Mapping[str, str]
    names: Mapping[str, str]
    body: bytes
    now_ms: int
    changes: bool = False  # whether this server takes changes


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `answer` None means an empty body (or, with `page_policy`, a page).

    `body` is the struct that a request carries.
    """

    method: str
    path: str
    about: str
    work: Callable[[Request], Any]
    answer: type | None
    params: tuple[Param, ...] = ()
    status: HTTPStatus = HTTPStatus.OK
    missing: bool = False  # may answer 404
    body: type | None = None
    page_policy: str | None = None  # the answer is a page, sent under this content policy

    @property
    def change(self) -> bool:
        return self.method not in ("GET", "HEAD")

    @property
    def rule(self) -> str:
        """The path as the resolver writes it."""
        return _NAME.sub(r"<\1>", self.path)

    def pattern(self) -> re.Pattern[str]:
        return re.compile("^" + _NAME.sub(r"[^/]+", self.path) + "$")
