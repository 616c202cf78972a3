"""A channel that stands behind a queue on AWS: what it takes is sent on by a function of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from shared.alerts.channels.channel import Receipt
from shared.alerts.digest import Digest, DigestKind
from shared.alerts.model import Alert, Severity
from shared.errors import DeliveryError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

KEEP_MS = 35 * 60_000
"""Longer than the queue gives a message out again (5 times 6 minutes): then it is in the dead-letter queue."""


@dataclass(frozen=True, slots=True)
class QueueChannel:
    """Hand alerts and digests to an SQS queue; `name` is the name of the channel at its other end."""

    client: SQSClient
    queue_url: str
    name: str
    place: str = ""
    keep_ms: int = KEEP_MS

    @property
    def fingerprint(self) -> str:
        return self.place or self.queue_url

    def hand_over(self, alert: Alert, claim: str) -> None:
        """Queue one alert under a claim.

        Raises:
            DeliveryError: as of `send`.
        """
        self._put({"alert": alert.to_json(), "claim": claim})

    def hand_over_digest(self, digest: Digest, claim: str) -> None:
        """Queue many alerts as one message under a claim.

        Raises:
            DeliveryError: as of `send`.
        """
        self._put({"digest": digest.to_json(), "claim": claim})

    def send(self, alert: Alert) -> Receipt:
        """Queue one alert.

        Raises:
            DeliveryError: the queue did not say that it took it.
        """
        return Receipt(self._put({"alert": alert.to_json()}))

    def send_digest(self, digest: Digest) -> None:
        """Queue many alerts as one message.

        Raises:
            DeliveryError: as of `send`.
        """
        self._put({"digest": digest.to_json()})

    def _put(self, body: Mapping[str, Any]) -> str:
        try:
            answer = self.client.send_message(QueueUrl=self.queue_url, MessageBody=msgspec.json.encode(body).decode())
        except (ClientError, BotoCoreError, ResponseParserError) as exc:
            raise DeliveryError(f"the queue of {self.name} did not take the alert: {type(exc).__name__}") from exc
        if not answer.get("MessageId"):  # the SDK takes a body that it cannot parse for an empty answer
            raise DeliveryError(f"the queue of {self.name} gave no usable answer")
        return str(answer["MessageId"])


def claim_of(text: str) -> str | None:
    """Return the claim of a message that `unpack` has read, None for one outside the outbox."""
    claim = msgspec.json.decode(text).get("claim")
    return claim if isinstance(claim, str) else None


def unpack(text: str) -> Alert | Digest:
    """Read a message of the queue back.

    Raises:
        ValueError: it is neither an alert nor a digest.
    """
    try:
        body = msgspec.json.decode(text)
        if "alert" in body:
            return Alert.from_json(body["alert"])
        told = body["digest"]
        return Digest(
            digest_id=str(told["digest_id"]),
            kind=DigestKind(told["kind"]),
            alerts=(),  # the text says what there is to say
            title=str(told["title"]),
            text=str(told["text"]),
            severity=Severity(told["severity"]),
            link=told.get("link"),
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"not an alert and not a digest: {type(exc).__name__}") from exc
