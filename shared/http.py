"""HTTP with a deadline that holds, whoever is asked: the machinery, and POST on a connection of its own.

A socket's time-out starts anew with every byte, so an answer that drips one byte a second never ends by it. A guard
thread therefore shuts the socket of every call that is past its deadline.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

_CONNECT_S = 3.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer as it came. Header names are lower-case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def post(
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    most_bytes: int = 0,
    **body: Any,
) -> HttpResponse:
    """POST on a connection of its own; `body` as `requests` takes it, `most_bytes` 0 leaves the answer's body unread.

    Raises:
        requests.RequestException: no complete answer within `timeout_s` in all, however many bytes came.
    """
    with _posts.within(timeout_s) as call:
        try:
            with session_with(DeadlineAdapter()) as session:
                timeouts = (min(_CONNECT_S, timeout_s), timeout_s)
                with session.post(
                    url, headers=headers, timeout=timeouts, allow_redirects=False, stream=True, **body
                ) as response:
                    content = body_of(response, most_bytes) if most_bytes else b""
            if call.expired:  # headers that are cut off look like headers that have ended
                raise TimeoutError
        except (OSError, HTTPError) as exc:
            if call.expired:
                raise requests.Timeout(f"no answer within {timeout_s:g} s") from None
            if isinstance(exc, requests.RequestException):
                raise
            raise requests.ConnectionError(type(exc).__name__) from None
    return answer_of(response, content)


def session_with(adapter: HTTPAdapter) -> requests.Session:
    """Return a session that asks through `adapter`, whatever the scheme."""
    session = requests.Session()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def body_of(response: requests.Response, most_bytes: int) -> bytes:
    """Read a streamed answer's body. Raises requests.ConnectionError when it is larger."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(65536):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise requests.ConnectionError("answer too large")
    return b"".join(parts)


def answer_of(response: requests.Response, body: bytes) -> HttpResponse:
    return HttpResponse(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


class Call:
    """One request under way: its deadline, and the socket it runs on once there is one."""

    __slots__ = ("deadline", "done", "expired", "sock")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.sock: socket.socket | None = None
        self.done = False
        self.expired = False

    def expire(self) -> None:
        if self.done:
            return
        self.expired = True
        sock = self.sock
        if sock is not None:
            with suppress(OSError):
                # An SSLSocket's own shutdown would first forget its session; the plain one wakes the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


_current: Any = threading.local()


class _Noted:
    """Mixin of a connection: tells the call under way which socket it uses."""

    def getresponse(self) -> Any:
        call: Call | None = getattr(_current, "call", None)
        if call is not None:
            call.sock = self.sock  # type: ignore[attr-defined]
            if call.expired:
                raise TimeoutError("deadline")
        return super().getresponse()  # type: ignore[misc]


class _PlainConnection(_Noted, HTTPConnection):
    pass


class _SecureConnection(_Noted, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class DeadlineAdapter(HTTPAdapter):
    """Opens connections that tell the call under way which socket to shut."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


class Deadlines:
    """One daemon thread that ends calls whose time is up; they must go through a `DeadlineAdapter`."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Call]] = []
        self._number = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[Call]:
        """Bound the one call that this thread makes in the block; afterwards `expired` says whether it was cut."""
        call = Call(time.monotonic() + timeout_s)
        _current.call = call
        self._watch(call)
        try:
            yield call
        finally:
            call.done = True
            _current.call = None

    def _watch(self, call: Call) -> None:
        with self._changed:
            first = not self._calls or call.deadline < self._calls[0][0]
            heapq.heappush(self._calls, (call.deadline, next(self._number), call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="http-deadlines", daemon=True)
                self._thread.start()
            elif first:
                self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                while self._calls and (self._calls[0][0] <= now or self._calls[0][2].done):
                    heapq.heappop(self._calls)[2].expire()
                self._changed.wait(self._calls[0][0] - now if self._calls else None)


_posts = Deadlines()
