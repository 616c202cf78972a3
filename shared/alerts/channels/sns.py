"""Amazon SNS as a channel: readable text for people, JSON for programs, attributes for filter policies."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from shared.alerts.channels.channel import Receipt
from shared.alerts.digest import Digest, make_digest
from shared.alerts.model import Alert
from shared.alerts.wording import ascii_line, sanitize
from shared.clock import Clock
from shared.errors import DeliveryError

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef

_SUBJECT = 99  # characters: SNS wants fewer than 100
_SMS = 140
_LARGEST = 250_000  # bytes; SNS takes 256 KiB with attributes
_ATTRIBUTES = 40_000  # bytes of a digest's attributes (some 2,500 symbols); what has more leaves as several digests
_PERSON_MUST_ACT_S = 120.0
_CHECK_EVERY_MS = 300_000

# The topic is gone or the rights are: nothing is wrong with the alert, so it stays pending while somebody may act.
_CURES: Mapping[str, str] = {
    "NotFound": "the topic does not exist: deploy again, or correct alerts.sns.topic_arn",
    "NotFoundException": "the topic does not exist: deploy again, or correct alerts.sns.topic_arn",
    "AuthorizationError": "publishing is not allowed: grant sns:Publish on the topic",
    "AuthorizationErrorException": "publishing is not allowed: grant sns:Publish on the topic",
    "AccessDenied": "publishing is not allowed: grant sns:Publish on the topic",
    "AccessDeniedException": "publishing is not allowed: grant sns:Publish on the topic",
    "InvalidClientTokenId": "the credentials are not valid",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "SignatureDoesNotMatch": "the credentials are not valid",
    "EndpointDisabled": "the endpoint is disabled",
    "KMSDisabled": "the topic's key is disabled",
    "KMSAccessDenied": "the topic's key may not be used",
    "KMSAccessDeniedException": "the topic's key may not be used",
}
_ALERT_IS_WRONG = frozenset(
    {"InvalidParameter", "InvalidParameterValue", "InvalidParameterException", "ParameterValueInvalid"}
)


@dataclass(slots=True)
class SnsChannel:
    """Publish each alert to one topic. `client` is a boto3 SNS client, safe to share between threads.

    With `clock`, a topic that nobody has confirmed a subscription of is an error: SNS itself takes such a message
    and delivers it to no one. It is looked at every five minutes, and only where that is allowed.

    Every protocol gets its form (MessageStructure json): e-mail the text, SMS one line, SQS, HTTPS and functions the
    published JSON.
    """

    client: SNSClient
    topic_arn: str
    clock: Clock | None = None
    name: str = "sns"
    _checked_ms: int = -_CHECK_EVERY_MS
    _nobody: bool = False

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.topic_arn.encode()).hexdigest()[:16]

    def send(self, alert: Alert) -> Receipt | None:
        """Publish one alert.

        Raises:
            DeliveryError: SNS did not say that it took it. Retryable unless SNS refuses the alert itself; after a
                cause that only a person can remove, the next attempt waits two minutes.
        """
        answer = self._publish(subject(alert), message(alert), attributes(alert))
        return Receipt(answer)

    def send_digest(self, digest: Digest) -> None:
        """Publish many alerts as one message, which passes each filter that one of its alerts would pass.

        Where their attributes are too large for one message, it leaves as several, the same ones at each attempt.

        Raises:
            DeliveryError: as of `send`.
        """
        for part in _parts(digest):
            first = ascii_line(f"{part.severity.value.upper()} {part.title}", _SUBJECT)
            self._publish(first, digest_message(part), digest_attributes(part))

    def _publish(self, title: str, text: str, named: dict[str, MessageAttributeValueTypeDef]) -> str:
        self._somebody_listens()
        try:
            answer = self.client.publish(
                TopicArn=self.topic_arn,
                Subject=title,
                Message=text,
                MessageStructure="json",
                MessageAttributes=named,
            )
        except ClientError as exc:
            raise _refused(exc) from exc
        except (BotoCoreError, ResponseParserError) as exc:  # the parser's error belongs to neither family
            raise DeliveryError(f"SNS gave no usable answer: {type(exc).__name__}") from exc
        return str(answer.get("MessageId", "")) if isinstance(answer, dict) else ""

    def _somebody_listens(self) -> None:
        """Ask now and then whether anybody would hear it.

        Raises:
            DeliveryError: the topic has no confirmed subscription.
        """
        if self.clock is None:
            return
        now_ms = self.clock.now_ms()
        if now_ms - self._checked_ms >= _CHECK_EVERY_MS or self._nobody:
            try:
                found = self.client.list_subscriptions_by_topic(TopicArn=self.topic_arn)
                named = [one.get("SubscriptionArn", "") for one in found.get("Subscriptions", [])]
                self._nobody = "NextToken" not in found and not any(arn.startswith("arn:") for arn in named)
            except (ClientError, BotoCoreError, ResponseParserError, AttributeError):
                self._nobody = False  # it may not be allowed to look; publishing says what is wrong, if anything is
            self._checked_ms = now_ms
        if self._nobody:
            raise DeliveryError(
                "SNS: nobody has confirmed a subscription of the topic: open the mail from AWS and confirm "
                "(its link is good for two days), or subscribe again",
                retry_after_s=_PERSON_MUST_ACT_S,
            )


def subject(alert: Alert) -> str:
    """Return at most 99 printable ASCII characters that begin with a letter."""
    return ascii_line(f"{alert.severity.value.upper()} {alert.title}", _SUBJECT)


def message(alert: Alert) -> str:
    """Return the JSON that names a form for each protocol. Values that would make it too large are left out."""
    body = alert.to_json()
    whole = _forms(alert, body)
    if len(whole) <= _LARGEST:
        return whole.decode()
    return _forms(alert, body | {"values": {}, "thresholds": {}, "text": alert.text[:2000]}).decode()


def _forms(alert: Alert, body: Mapping[str, Any]) -> bytes:
    return _all_forms(f"{alert.text[:8000]}\n\nAlert {alert.alert_id}", alert.title, body)


def _all_forms(text: str, title: str, body: Mapping[str, Any]) -> bytes:
    published = msgspec.json.encode(body).decode()
    forms = {"default": text, "email": text, "sms": ascii_line(title, _SMS)}
    forms |= dict.fromkeys(("email-json", "sqs", "http", "https", "lambda", "firehose"), published)
    return msgspec.json.encode(forms)


def attributes(alert: Alert) -> dict[str, MessageAttributeValueTypeDef]:
    """Return the attributes that filter policies read; what an alert does not have is left out."""
    named = {
        "detector": alert.detector.value,
        "symbol": sanitize(alert.symbol),
        "sector": None if alert.sector is None else sanitize(alert.sector),
        "direction": alert.direction.value if alert.direction else None,
        "severity": alert.severity.value,
    }
    return _attributes(named)


def _attributes(named: Mapping[str, str | None]) -> dict[str, MessageAttributeValueTypeDef]:
    return {name: {"DataType": "String", "StringValue": str(value)} for name, value in named.items() if value}


def digest_attributes(digest: Digest) -> dict[str, MessageAttributeValueTypeDef]:
    """Return what filter policies read of a digest: each attribute holds the values of all its alerts.

    A policy passes a String.Array of which any element matches. The detector `digest` stands beside the alerts' own.
    """
    alerts = digest.alerts
    united: dict[str, Collection[str]] = {
        "detector": {"digest", *(alert.detector.value for alert in alerts)},
        "symbol": {sanitize(alert.symbol) for alert in alerts},
        "sector": {sanitize(alert.sector) for alert in alerts if alert.sector is not None},
        "direction": {alert.direction.value for alert in alerts if alert.direction is not None},
        "severity": {digest.severity.value, *(alert.severity.value for alert in alerts)},
    }
    return {
        name: {"DataType": "String.Array", "StringValue": msgspec.json.encode(sorted(values)).decode()}
        for name, values in united.items()
        if values
    }


def _size(named: Mapping[str, MessageAttributeValueTypeDef]) -> int:
    """Return the bytes of attributes, as SNS counts them: names, types and values."""
    texts = (f"{name}{one['DataType']}{one.get('StringValue', '')}" for name, one in named.items())
    return sum(len(text.encode()) for text in texts)


def _parts(digest: Digest) -> Iterator[Digest]:
    if len(digest.alerts) < 2 or _size(digest_attributes(digest)) <= _ATTRIBUTES:
        yield digest
        return
    middle = len(digest.alerts) // 2
    for alerts in (digest.alerts[:middle], digest.alerts[middle:]):
        yield from _parts(make_digest(alerts, digest.kind))


def digest_message(digest: Digest) -> str:
    """Return the forms of a digest; alerts that would make it too large are left to the feed."""
    published, room = digest.to_json(), _LARGEST - _size(digest_attributes(digest))
    while len(whole := _all_forms(digest.text, digest.title, published)) > room and published["alerts"]:
        published["alerts"] = published["alerts"][: len(published["alerts"]) // 2]
    return whole.decode()


def _refused(exc: ClientError) -> DeliveryError:
    error = exc.response.get("Error", {})
    code = error.get("Code", "")
    if code in _ALERT_IS_WRONG and "topicarn" in error.get("Message", "").lower():
        return DeliveryError(f"SNS: alerts.sns.topic_arn is not valid ({code})", retry_after_s=_PERSON_MUST_ACT_S)
    if code in _ALERT_IS_WRONG:
        return DeliveryError(
            f"SNS refused the alert ({code}): {sanitize(error.get('Message', ''), 200)}", retryable=False
        )
    if code in _CURES:
        return DeliveryError(f"SNS: {_CURES[code]} ({code})", retry_after_s=_PERSON_MUST_ACT_S)
    return DeliveryError(f"SNS did not take the alert ({code or 'no code'})")
