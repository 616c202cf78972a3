"""One WebSocket connection, whatever library carries it: messages in, as many as a read brings; a reason at its end.

Two libraries implement it: picows (the hot path) and websockets (the reference that the tests compare it with).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from shared.errors import Blocked, ExchangeError, ExchangeUnavailable, RateLimited, RestrictedLocation

OnMessages = Callable[[Sequence[bytes], int], None]
"""Called on the event loop with the whole messages that one read brought, in order, and their receive time (epoch ms).
Must not raise or block; the sequence is the receiver's to keep, and each access to a message may copy it."""

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
MAX_MESSAGE_BYTES = 10 * 1024 * 1024


class Connection(Protocol):
    """An open connection. After `abort` or `close` no further message is delivered."""

    def send(self, text: str) -> None:
        """Send a command; on a connection that has ended, nothing happens."""
        ...

    def abort(self) -> None:
        """End it at once without a closing handshake; never blocks, may be called twice."""
        ...

    async def close(self) -> None:
        """Say goodbye and end it, within CLOSE_TIMEOUT_S."""
        ...

    async def wait_closed(self) -> str:
        """Wait until it has ended, by whomever; return the reason in words."""
        ...


class Connector(Protocol):
    """Opens connections.

    Raises:
        ExchangeUnavailable: no answer, no address, no TLS, or a status worth asking again.
        RateLimited, Blocked, RestrictedLocation: the handshake was refused with 429/418, 403, 451.
    """

    async def __call__(self, url: str, on_messages: OnMessages) -> Connection: ...


def handshake_refused(status: int, retry_after: str | None) -> ExchangeError:
    """Translate the HTTP status of a refused handshake into the one error tree."""
    if status == 451:
        return RestrictedLocation(
            "the exchange does not serve this location (451 on the stream): use the market-data-only hosts for spot, "
            "or run from another region",
            status=status,
        )
    if status == 403:
        return Blocked("the exchange's firewall refused the stream (403): wait some minutes", status=status)
    if status in (418, 429):
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else 60.0
        return RateLimited(
            f"the exchange refused the stream ({status}): too many attempts", retry_after_s=seconds, status=status
        )
    return ExchangeUnavailable(f"the exchange refused the stream with status {status}", status=status)
