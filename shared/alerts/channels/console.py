"""The terminal as a channel: whatever writes an alert where a person sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.alerts.model import Alert
from shared.errors import DeliveryError


@dataclass(frozen=True, slots=True)
class ConsoleChannel:
    """Hand each alert to `write`, which prints it (for example `render.one_line`)."""

    write: Callable[[Alert], None]
    name: str = "console"

    def send(self, alert: Alert) -> None:
        """Write one alert.

        Raises:
            DeliveryError: the terminal is gone; another one may come.
        """
        try:
            self.write(alert)
        except OSError as exc:
            raise DeliveryError(f"the terminal did not take the alert: {exc}") from exc
