"""HTTP with a deadline that holds: the only place where bytes leave for the exchange over REST, or for a channel."""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from shared.errors import ExchangeUnavailable

MAX_BODY = 64 << 20
_CONNECT_S = 3.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer as it came. Header names are lower-case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Transport(Protocol):
    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> HttpResponse:
        """Fetch `url`; `timeout_s` bounds the whole exchange, from connecting to the last byte.

        Raises:
            ExchangeUnavailable: no complete answer in time. The text holds neither parameters nor headers.
        """
        ...


class RequestsTransport:
    """A pool of kept-alive connections through `requests`, safe to share between threads.

    A socket's time-out starts anew with every byte, so an answer that drips one byte a second never ends by it.
    A guard thread therefore shuts the socket of every call that is past its deadline.
    """

    def __init__(self, pool_size: int = 16) -> None:
        self._guard = _Guard()
        self._session = requests.Session()
        self._session.trust_env = True
        adapter = _Adapter(pool_connections=4, pool_maxsize=pool_size, max_retries=0, pool_block=False)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> HttpResponse:
        call = _Call(time.monotonic() + timeout_s)
        _current.call = call
        self._guard.watch(call)
        try:
            with self._session.get(
                url, params=dict(params), headers=dict(headers), timeout=timeout_s, stream=True, allow_redirects=False
            ) as response:
                body = self._read(response, call)
                names = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(response.status_code, names, body)
        except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
            # The address may hold a key and the library's own text holds the address: only the kind is told.
            what = f"no answer within {timeout_s:g} s" if call.expired else type(exc).__name__
            raise ExchangeUnavailable(f"the exchange could not be reached: {what}") from None
        finally:
            call.done = True
            _current.call = None

    def close(self) -> None:
        self._session.close()
        self._guard.stop()

    @staticmethod
    def _read(response: requests.Response, call: _Call) -> bytes:
        parts: list[bytes] = []
        size = 0
        for part in response.iter_content(65536):
            parts.append(part)
            size += len(part)
            if size > MAX_BODY:
                raise ValueError("answer too large")
        if call.expired:
            raise TimeoutError("deadline")
        return b"".join(parts)


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
    call = _Call(time.monotonic() + timeout_s)
    _current.call = call
    _posts.watch(call)
    try:
        with requests.Session() as session:
            session.mount("https://", _Adapter())
            session.mount("http://", _Adapter())
            timeouts = (min(_CONNECT_S, timeout_s), timeout_s)
            with session.post(
                url, headers=headers, timeout=timeouts, allow_redirects=False, stream=True, **body
            ) as response:
                content = b"".join(_parts(response, most_bytes)) if most_bytes else b""
        if call.expired:  # headers that are cut off look like headers that have ended
            raise TimeoutError
    except (OSError, HTTPError) as exc:
        if call.expired:
            raise requests.Timeout(f"no answer within {timeout_s:g} s") from None
        if isinstance(exc, requests.RequestException):
            raise
        raise requests.ConnectionError(type(exc).__name__) from None
    finally:
        call.done = True
        _current.call = None
    return HttpResponse(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, content
    )


def _parts(response: requests.Response, most_bytes: int) -> Iterator[bytes]:
    size = 0
    for part in response.iter_content(65536):
        size += len(part)
        if size > most_bytes:
            raise requests.ConnectionError("answer too large")
        yield part


class _Call:
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
        call: _Call | None = getattr(_current, "call", None)
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


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


class _Guard:
    """One daemon thread that ends calls whose time is up."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, _Call]] = []
        self._number = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def watch(self, call: _Call) -> None:
        with self._changed:
            first = not self._calls or call.deadline < self._calls[0][0]
            heapq.heappush(self._calls, (call.deadline, next(self._number), call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rest-deadlines", daemon=True)
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


_posts = _Guard()
