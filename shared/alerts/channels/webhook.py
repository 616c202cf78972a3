"""A webhook as a channel: the published JSON, signed, with a key by which the receiver drops repeats."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import requests

from shared.alerts.channels.channel import Receipt
from shared.alerts.digest import Digest
from shared.alerts.model import Alert
from shared.clock import Clock
from shared.errors import DeliveryError
from shared.http import post
from shared.secrets import Secret, guard_logs
from shared.telegram.api import retry_after_of

_PERSON_MUST_ACT_S = 120.0


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return `v1=` and the hex HMAC-SHA256 of `timestamp.body`; a receiver computes the same and compares."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """POST each alert to one address. 2xx is an acceptance; redirects are not followed."""

    url: str = field(repr=False)  # it may hold a key
    secret: Secret
    clock: Clock
    timeout_s: float = 10.0
    name: str = "webhook"

    @property
    def fingerprint(self) -> str:
        return self.secret.fingerprint(self.url)

    def send(self, alert: Alert) -> Receipt | None:
        """Send one alert; its `Idempotency-Key` is the alert's id.

        Raises:
            DeliveryError: there was no 2xx.
        """
        self._post("alert", alert.alert_id, alert.to_json())
        return None

    def send_digest(self, digest: Digest) -> None:
        """Send many alerts as one request; its key is the digest's id.

        Raises:
            DeliveryError: there was no 2xx.
        """
        self._post("digest", digest.digest_id, digest.to_json())

    def _post(self, kind: str, key: str, payload: Mapping[str, Any]) -> None:
        guard_logs()
        body, timestamp = msgspec.json.encode(payload), str(self.clock.now_ms() // 1000)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tapewatch",
            "Idempotency-Key": key,
            "X-Tapewatch-Kind": kind,
            "X-Tapewatch-Timestamp": timestamp,
            "X-Tapewatch-Signature": signature(self.secret.reveal(), timestamp, body),
        }
        try:
            answer = post(self.url, data=body, headers=headers, timeout_s=self.timeout_s)
        except requests.RequestException as exc:  # its text holds the address, which may hold a key
            raise DeliveryError(f"the webhook gave no answer: {type(exc).__name__}") from None
        status = answer.status
        if 200 <= status < 300:
            return
        if status == 429 or status >= 500:
            named = answer.headers.get("retry-after", "")
            wait_s = retry_after_of(float(named)) if named.isdigit() else None
            raise DeliveryError(f"the webhook answered {status}", retry_after_s=wait_s)
        if status in (401, 403, 410):
            raise DeliveryError(
                f"the webhook answered {status}: correct alerts.webhook.url or the secret {self.secret.name}",
                fatal=True,
            )
        if status in (400, 413, 415, 422):
            raise DeliveryError(f"the webhook refused the alert ({status})", retryable=False)
        raise DeliveryError(f"the webhook answered {status}", retry_after_s=_PERSON_MUST_ACT_S)
