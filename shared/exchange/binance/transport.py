"""How bytes leave for the exchange over REST: a pool of kept-alive connections behind a protocol that tests fake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import requests
from urllib3.exceptions import HTTPError

from shared.errors import ExchangeUnavailable
from shared.http import DeadlineAdapter, Deadlines, HttpResponse, answer_of, body_of, session_with

MAX_BODY = 64 << 20


class Transport(Protocol):
    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> HttpResponse:
        """Fetch `url`; `timeout_s` bounds the whole exchange, from connecting to the last byte.

        Raises:
            ExchangeUnavailable: no complete answer in time. The text holds neither parameters nor headers.
        """
        ...


class RequestsTransport:
    """A pool of kept-alive connections through `requests`, safe to share between threads."""

    def __init__(self, pool_size: int = 16) -> None:
        self._deadlines = Deadlines()
        adapter = DeadlineAdapter(pool_connections=4, pool_maxsize=pool_size, max_retries=0, pool_block=False)
        self._session = session_with(adapter)

    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> HttpResponse:
        with self._deadlines.within(timeout_s) as call:
            try:
                with self._session.get(
                    url,
                    params=dict(params),
                    headers=dict(headers),
                    timeout=timeout_s,
                    stream=True,
                    allow_redirects=False,
                ) as response:
                    body = body_of(response, MAX_BODY)
                if call.expired:  # headers that are cut off look like headers that have ended
                    raise TimeoutError
                return answer_of(response, body)
            except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
                # The address may hold a key and the library's own text holds the address: only the kind is told.
                what = f"no answer within {timeout_s:g} s" if call.expired else type(exc).__name__
                raise ExchangeUnavailable(f"the exchange could not be reached: {what}") from None

    def close(self) -> None:
        self._session.close()
        self._deadlines.stop()
