"""What a channel is: a name, and one way of sending one alert."""

from __future__ import annotations

from typing import Protocol

from shared.alerts.model import Alert


class Channel(Protocol):
    """A place where alerts are sent. Sending the same alert again must be harmless: delivery is at least once."""

    @property
    def name(self) -> str:
        """Return the name that the outbox knows this channel by; it never changes."""
        ...

    def send(self, alert: Alert) -> None:
        """Send one alert; returning means that the channel accepted it.

        Raises:
            DeliveryError: it was not accepted; `retryable` says whether asking again may help.
        """
        ...
