"""What a channel is: a name, and one way of sending one alert; the better ones send digests and pictures too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from shared.alerts.digest import Digest
from shared.alerts.model import Alert


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the channel calls the message that it took, for a reply to it."""

    reference: str = ""


class Channel(Protocol):
    """A place where alerts are sent. Sending the same alert again must be harmless: delivery is at least once."""

    @property
    def name(self) -> str:
        """Return the name that the outbox knows this channel by; it never changes."""
        ...

    def send(self, alert: Alert) -> Receipt | None:
        """Send one alert; returning means that the channel accepted it. It must end within 15 seconds.

        Raises:
            DeliveryError: it was not accepted; `retryable` says whether asking again may help, `fatal` that no other
                alert would be taken either until a person acts.
        """
        ...


@runtime_checkable
class DigestChannel(Channel, Protocol):
    """A channel that people are woken by: many alerts at once reach it as one digest."""

    @property
    def fingerprint(self) -> str:
        """Return a name of the destination that changes with the settings and tells no secret."""
        ...

    def send_digest(self, digest: Digest) -> None:
        """Send many alerts as one notification.

        Raises:
            DeliveryError: as of `send`.
        """
        ...


@runtime_checkable
class HandingChannel(DigestChannel, Protocol):
    """A channel that only hands over: its far end sends, and notes in the outbox how it ended.

    What was handed over is the far end's for `keep_ms`; a `claim` names the lease under which it may be sent.
    """

    @property
    def keep_ms(self) -> int: ...

    def hand_over(self, alert: Alert, claim: str) -> None:
        """Hand over one alert.

        Raises:
            DeliveryError: it was not taken.
        """
        ...

    def hand_over_digest(self, digest: Digest, claim: str) -> None:
        """Hand over many alerts as one notification.

        Raises:
            DeliveryError: as of `hand_over`.
        """
        ...


@runtime_checkable
class FollowedChannel(Channel, Protocol):
    """A channel that adds something to a message that it has taken."""

    def follow_up(self, alert: Alert, receipt: Receipt) -> None:
        """Add what may fail without harm (a picture), after the alert itself has been noted as sent."""
        ...
