"""Secrets by name: an environment variable on one machine, a parameter or secret on AWS; never in settings or logs.

A name that begins with `/` is a parameter of Systems Manager, `arn:aws:ssm:...` and `arn:aws:secretsmanager:...` say
what they are, `secretsmanager:NAME` is a secret of that name; anything else is an environment variable.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from shared.errors import ConfigurationError

_MASK = "***"
_SHORTEST = 6  # shorter texts would blacken half the log
_revealed: set[str] = set()
_lock = threading.Lock()


class Secret:
    """A text that shows itself only when asked by `reveal`."""

    __slots__ = ("_text", "name")

    def __init__(self, text: str, name: str = "") -> None:
        self._text = text
        self.name = name
        if len(text) >= _SHORTEST:
            with _lock:
                _revealed.add(text)

    def reveal(self) -> str:
        return self._text

    def fingerprint(self, *more: str) -> str:
        """Return 16 digits that change with the secret and do not tell it."""
        return hashlib.sha256("|".join((self._text, *more)).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Secret({self.name!r}, {_MASK})"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not stored")


def redact(text: str) -> str:
    """Return a text without any secret that this process knows."""
    with _lock:
        known = sorted(_revealed, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, _MASK)
    return text


class Redactor(logging.Filter):
    """Keep secrets out of the records of a logger that writes addresses (urllib3 does, at DEBUG)."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


def guard_logs() -> None:
    """Put the redactor onto the loggers of the HTTP clients; doing it twice changes nothing."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "requests", "botocore.endpoint", "botocore.parsers"):
        logger = logging.getLogger(name)
        if not any(isinstance(one, Redactor) for one in logger.filters):
            logger.addFilter(Redactor())


def read_secret(
    name: str,
    setting: str,
    *,
    environ: Mapping[str, str] | None = None,
    region: str | None = None,
    client: Callable[[str], Any] | None = None,
) -> Secret:
    """Return the secret that `setting` names. `client` makes an AWS client by the name of its service.

    Raises:
        ConfigurationError: it is not there, or may not be read; the message names the setting and what to do.
    """
    guard_logs()
    service, key = _place(name)
    if service is None:
        text = (os.environ if environ is None else environ).get(key, "").strip()
        if not text:
            raise ConfigurationError(f"{setting} names {key}: set an environment variable of that name")
        return Secret(text, name)
    try:
        aws = (client or _boto3(region))(service)
        if service == "ssm":
            text = aws.get_parameter(Name=key, WithDecryption=True)["Parameter"]["Value"]
        else:
            text = aws.get_secret_value(SecretId=key)["SecretString"]
    except Exception as exc:  # botocore's errors have several roots, and their texts may quote the answer
        raise ConfigurationError(
            f"{setting} names {name}: it cannot be read ({_code(exc)}); create it, or grant the right to read it"
        ) from None
    return Secret(str(text).strip(), name)


def _place(name: str) -> tuple[str | None, str]:
    if name.startswith(("/", "arn:aws:ssm:")):
        return "ssm", name
    if name.startswith("arn:aws:secretsmanager:"):
        return "secretsmanager", name
    if name.startswith("secretsmanager:"):
        return "secretsmanager", name.removeprefix("secretsmanager:")
    return None, name


def _boto3(region: str | None) -> Callable[[str], Any]:
    def make(service: str) -> Any:
        import boto3

        session: Any = boto3
        return session.client(service, region_name=region)

    return make


def _code(exc: Exception) -> str:
    response = getattr(exc, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", type(exc).__name__))
    return type(exc).__name__
