"""Telegram's Bot API over HTTP. The token is part of every address, so no address and no client error leaves here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import requests

from shared.http import post
from shared.secrets import Secret, guard_logs, redact

_READ_S = 8.0  # of the whole exchange
_MOST_BYTES = 16 << 20
_NO_RETRY_AFTER_S = 30.0
_LONGEST_RETRY_AFTER_S = 86_400.0


class TelegramError(Exception):
    """Telegram gave no usable answer: network, time-out, 5xx, nonsense. The text holds no address."""


class TelegramRefused(TelegramError):
    """Telegram said no. `retry_after_s` is set for 429, `migrate_to` where the chat has moved."""

    def __init__(
        self, code: int, description: str, *, retry_after_s: float | None = None, migrate_to: int | None = None
    ) -> None:
        super().__init__(f"{code} {description}")
        self.code = code
        self.description = description
        self.retry_after_s = retry_after_s
        self.migrate_to = migrate_to

    def says(self, *words: str) -> bool:
        return any(word in self.description.lower() for word in words)


@dataclass(frozen=True, slots=True)
class TelegramApi:
    """One bot. Safe to share between threads."""

    token: Secret
    base_url: str = "https://api.telegram.org"

    def call(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        read_s: float = _READ_S,
    ) -> Any:
        """Return the `result` of a method.

        Raises:
            TelegramRefused: Telegram answered and refused.
            TelegramError: there was no usable answer; it may have happened all the same.
        """
        guard_logs()
        address = f"{self.base_url.rstrip('/')}/bot{self.token.reveal()}/{method}"
        body: dict[str, Any] = {"data": _form(params), "files": files} if files else {"json": dict(params)}
        try:
            answer = post(address, timeout_s=read_s, most_bytes=_MOST_BYTES, **body)
            status, parsed = answer.status, _object(answer.body)
        except requests.RequestException as exc:
            raise TelegramError(f"no answer from Telegram: {type(exc).__name__}") from None
        except UnicodeError:
            raise TelegramError("a text that cannot be sent") from None
        if parsed.get("ok") is True and status == 200:
            return parsed.get("result")
        code = parsed.get("error_code") if isinstance(parsed.get("error_code"), int) else status
        if not isinstance(code, int) or code >= 500 or not code >= 400:
            raise TelegramError(f"Telegram answered {status}")
        described = parsed.get("description")
        raw = parsed.get("parameters")
        more: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        migrate_to = more.get("migrate_to_chat_id")
        raise TelegramRefused(
            code,
            redact(str(described))[:200] if described else "without a reason",
            retry_after_s=retry_after_of(more.get("retry_after")) if code == 429 else None,
            migrate_to=migrate_to if isinstance(migrate_to, int) and not isinstance(migrate_to, bool) else None,
        ) from None


def retry_after_of(value: object) -> float:
    """Return the seconds that a 429 names: an int or a float; 30 where it names none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        return _NO_RETRY_AFTER_S
    return min(float(value), _LONGEST_RETRY_AFTER_S)


def _form(params: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in params.items()
        if value is not None
    }


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
