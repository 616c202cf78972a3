"""Who may read and who may change: a token on AWS; on one machine a token that is good for one change."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

from shared.observability import in_lambda
from shared.secrets import read_secret
from shared.settings import Settings

COOKIE = "tapewatch_token"
HEADER = "x-api-key"
CHANGE_HEADER = "x-change-token"
_LIFE_S = 300.0
_MOST = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    text: str
    code: str


class Access(Protocol):
    def refuse(self, headers: Mapping[str, str], *, change: bool) -> Refusal | None:
        """Return why a request may not pass, None when it may. Header names are lower-case."""
        ...

    def issue(self) -> str | None:
        """Return a token for one change, None where changes need another proof."""
        ...

    def changes(self) -> bool:
        """Say whether this server takes changes at all."""
        ...


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """One token for everything, in `x-api-key` or a cookie (CloudFront's signature occupies `Authorization`).

    Without a configured token reads pass, because only the distribution, which checks by itself, can call; changes
    never do. The answer to a wrong token says nothing, and takes as long whichever part is wrong.
    """

    expected: Callable[[], str | None]
    open_reads: bool = False
    reads_only: bool = False  # what stands in front lets nothing else through

    def refuse(self, headers: Mapping[str, str], *, change: bool) -> Refusal | None:
        token = self.expected()
        if token is None:
            if not change:
                return None
            return Refusal(403, "changes are switched off here: name a secret in api.token_secret", "changes_off")
        if self.open_reads and not change:
            return None
        return None if _same(_given(headers), token) else Refusal(401, "a token is needed", "token")

    def issue(self) -> str | None:
        return None

    def changes(self) -> bool:
        return not self.reads_only and self.expected() is not None


@dataclass(slots=True)
class OneTimeAccess:
    """Reads are free, each change costs one fresh token: a page elsewhere can send a request, but not read a token."""

    monotonic_s: Callable[[], float] = time.monotonic
    _live: dict[str, float] = field(default_factory=dict)

    def refuse(self, headers: Mapping[str, str], *, change: bool) -> Refusal | None:
        if not change:
            return None
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return Refusal(403, "changes come from this server's own page only", "cross_site")
        born_s = self._live.pop(headers.get(CHANGE_HEADER, ""), None)
        if born_s is None or self.monotonic_s() - born_s > _LIFE_S:
            return Refusal(403, f"a change needs a fresh token from /api/token in {CHANGE_HEADER}", "change_token")
        return None

    def issue(self) -> str | None:
        now_s = self.monotonic_s()
        for old in [token for token, born_s in self._live.items() if now_s - born_s > _LIFE_S]:
            del self._live[old]
        while len(self._live) >= _MOST:
            del self._live[next(iter(self._live))]
        token = secrets.token_urlsafe(24)
        self._live[token] = now_s
        return token

    def changes(self) -> bool:
        return True


def token_access(settings: Settings) -> TokenAccess:
    """Return the access that the settings ask for; the secret is read with the first request and kept."""

    @cache
    def token() -> str | None:
        name = settings.api.token_secret
        return read_secret(name, "api.token_secret", region=settings.aws.region).reveal() if name else None

    # On AWS the distribution passes GET and HEAD, and the function may not write.
    return TokenAccess(token, settings.api.open_reads, reads_only=in_lambda())


def _given(headers: Mapping[str, str]) -> str:
    direct = headers.get(HEADER)
    if direct is not None:
        return direct
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


def _same(given: str, expected: str) -> bool:
    """Compare digests, so that neither a common beginning nor the length shows in the time it takes."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, expected)]
    return hmac.compare_digest(digests[0], digests[1])
