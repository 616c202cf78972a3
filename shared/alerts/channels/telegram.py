"""Telegram as a channel: text first, then the chart as a reply; every refusal handled as its own case."""

from __future__ import annotations

import base64
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.alerts.channels.channel import Receipt
from shared.alerts.digest import Digest
from shared.alerts.model import Alert, Severity
from shared.alerts.wording import sanitize
from shared.detection.reading import Detector
from shared.errors import DeliveryError
from shared.telegram.api import TelegramApi, TelegramError, TelegramRefused
from shared.telegram.html import LONGEST_CAPTION, Line, Message, Part, line, lines_of, messages
from shared.telegram.limits import ChatLimits

logger = logging.getLogger(__name__)

Chat = int | str
_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
_MOST_MESSAGES = 5  # of one alert or digest
_UNKNOWN_REFUSAL_S = 120.0  # nobody knows whom it is about: neither the alert nor the channel is given up for it
_LOST_CHAT = ("chat not found", "chat_id is empty", "peer_id_invalid", "group is deactivated", "chat was deleted")
_NO_RIGHT = (
    "not enough rights", "no rights to send", "administrator rights", "chat_admin_required", "write_forbidden",
    "write access", "chat_restricted", "plain_forbidden", "banned_in_channel", "topic_closed", "topic_deleted",
)  # fmt: skip
_ABOUT_THE_MESSAGE = (
    "parse", "entit", "too long", "text is empty", "must be non-empty", "utf-8", "button", "reply markup",
    "reply_markup", "keyboard", "url_invalid",
)  # fmt: skip


@dataclass(slots=True)
class TelegramChannel:
    """Send to one chat. `picture` draws an alert's chart (None: nothing to draw); `moved` is told of a new chat id."""

    api: TelegramApi
    chat_id: Chat
    limits: ChatLimits
    silent_below: Severity = Severity.WARNING
    picture: Callable[[Alert], bytes | None] | None = None
    moved: Callable[[Chat], None] = lambda _: None
    name: str = "telegram"
    counters: Counter[str] = field(default_factory=Counter)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def fingerprint(self) -> str:
        return self.api.token.fingerprint(str(self.chat_id))

    def send(self, alert: Alert) -> Receipt:
        """Send the text of an alert, with its buttons.

        Raises:
            DeliveryError: Telegram did not take the first message of it.
        """
        sent = self._send_all(messages(alert_lines(alert)), self._silent(alert.severity), keyboard(alert))
        return Receipt(str(sent))

    def send_digest(self, digest: Digest) -> None:
        """Send many alerts as one message.

        Raises:
            DeliveryError: Telegram did not take it.
        """
        self._send_all(messages(lines_of(digest.text)), self._silent(digest.severity), None)

    def follow_up(self, alert: Alert, receipt: Receipt) -> None:
        """Send the chart as a silent reply; whatever goes wrong is counted and hurts nobody."""
        if self.picture is None or alert.detector is Detector.SYSTEM:
            return
        try:
            image = self.picture(alert)
        except Exception as exc:  # a renderer's bug costs the picture only
            logger.warning("chart_failed", extra={"error": type(exc).__name__, "alert_id": alert.alert_id})
            self._count("pictures_failed")
            return
        if image is None:
            self._count("pictures_without_data")
            return
        if self.limits.wait(self.chat_id, longest_ms=30_000) > 0:
            self._count("pictures_over_limit")
            return
        caption = messages([line(Part(sanitize(alert.title, 200)))], LONGEST_CAPTION)[0]
        params: dict[str, Any] = {
            "chat_id": self.chat_id,
            "caption": caption.html,
            "parse_mode": "HTML",
            "disable_notification": True,
        }
        if receipt.reference.isdigit():
            params["reply_parameters"] = {
                "message_id": int(receipt.reference), "allow_sending_without_reply": True,
            }  # fmt: skip
        try:
            self.api.call("sendPhoto", params, files={"photo": ("chart.png", image, "image/png")})
            self._count("pictures")
        except TelegramError as exc:
            if isinstance(exc, TelegramRefused) and exc.retry_after_s is not None:
                self.limits.pause(self.chat_id, exc.retry_after_s)
            self._count("pictures_refused")

    # --- sending ----------------------------------------------------------------------------------------------
    def _silent(self, severity: Severity) -> bool:
        return _RANK[severity] < _RANK[self.silent_below]

    def _send_all(self, texts: Sequence[Message], silent: bool, buttons: dict[str, Any] | None) -> int:
        """Send messages in order; return the id of the first. Only the first one's failure is the alert's failure."""
        first = self._send_one(texts[0], silent, buttons)
        for text in texts[1:_MOST_MESSAGES]:
            try:
                self._send_one(text, True, None)
            except DeliveryError:
                # Raising would send the first part again: a cut text is better than a repeated one.
                self._count("texts_cut")
                break
        return first

    def _send_one(self, text: Message, silent: bool, buttons: dict[str, Any] | None) -> int:
        params: dict[str, Any] = {"text": text.html, "parse_mode": "HTML", "disable_notification": silent}
        params["link_preview_options"] = {"is_disabled": True}
        if buttons is not None:
            params["reply_markup"] = buttons
        try:
            return self._call(params)
        except TelegramRefused as exc:
            if exc.migrate_to is not None:
                self.chat_id = exc.migrate_to
                self._count("chat_moved")
                self.moved(exc.migrate_to)
                return self._again(params)
            if exc.code == 400 and exc.says("parse", "entit"):
                self._count("plain_text")
                plain = {name: value for name, value in params.items() if name != "parse_mode"}
                return self._again(plain | {"text": text.plain})
            if exc.code == 400 and exc.says("too long"):
                self._count("too_long")
                plain = {name: value for name, value in params.items() if name != "parse_mode"}
                return self._again(plain | {"text": text.plain[:1000] + "…"})
            raise self._refusal(exc) from None
        except TelegramError as exc:
            raise DeliveryError(f"Telegram: {exc}") from None

    def _again(self, params: dict[str, Any]) -> int:
        try:
            return self._call(params)
        except TelegramRefused as exc:
            raise self._refusal(exc) from None
        except TelegramError as exc:
            raise DeliveryError(f"Telegram: {exc}") from None

    def _call(self, params: dict[str, Any]) -> int:
        wait_s = self.limits.wait(self.chat_id)
        if wait_s > 0:
            raise DeliveryError(
                f"Telegram: this chat may have the next message in {wait_s:.0f} s", retry_after_s=wait_s
            )
        result = self.api.call("sendMessage", {"chat_id": self.chat_id, **params})
        message_id = result.get("message_id") if isinstance(result, dict) else None
        return message_id if isinstance(message_id, int) else 0

    def _refusal(self, exc: TelegramRefused) -> DeliveryError:
        """Say what a refusal means and what to do about it."""
        if exc.retry_after_s is not None:
            self.limits.pause(self.chat_id, exc.retry_after_s)
            return DeliveryError(f"Telegram: {exc}", retry_after_s=exc.retry_after_s)
        if exc.code in (401, 404):
            return DeliveryError(
                f"Telegram does not know the bot's token ({exc.code}): ask @BotFather for it, "
                f"and correct the secret {self.api.token.name}",
                fatal=True,
            )
        if exc.code == 403:
            return DeliveryError(
                f"Telegram: the bot was blocked or removed ({exc.description}): "
                "add it again, or unblock it and send it /start",
                fatal=True,
            )
        if exc.says(*_NO_RIGHT):
            return DeliveryError(
                f"Telegram: {exc.description}: allow the bot to write there, then send it /start from the chat",
                fatal=True,
            )
        if exc.says(*_LOST_CHAT):
            return DeliveryError(
                f"Telegram: {exc.description}: send the bot /start from the chat, or correct alerts.telegram.chat_id",
                fatal=True,
            )
        if exc.code == 413 or exc.says(*_ABOUT_THE_MESSAGE):
            return DeliveryError(f"Telegram refused the alert: {exc}", retryable=False)
        return DeliveryError(f"Telegram refused: {exc}", retry_after_s=_UNKNOWN_REFUSAL_S)

    def _count(self, name: str) -> None:
        with self._counting:
            self.counters[name] += 1


def alert_lines(alert: Alert) -> list[Line]:
    """Return the lines of an alert's message: its text, its severity, and the id to ask about."""
    note = line(Part(f"{alert.severity.value} · "), Part(f"/why {alert.alert_id[:12]}", "code"))
    return [*lines_of(alert.text), note]


def keyboard(alert: Alert) -> dict[str, Any] | None:
    """Return the buttons below an alert: mute its symbol, say whether it was useful."""
    if alert.detector is Detector.SYSTEM:
        return None
    short = short_id(alert.alert_id)
    buttons = (("🔕 Mute 1 h", "m"), ("👍 Useful", "u"), ("👎 Noise", "n"))
    return {"inline_keyboard": [[{"text": text, "callback_data": f"{what}:{short}"} for text, what in buttons]]}


def short_id(alert_id: str) -> str:
    """Return an alert's id in 43 characters: a button's data may have 64 bytes."""
    try:
        return base64.urlsafe_b64encode(bytes.fromhex(alert_id)).decode().rstrip("=")
    except ValueError:
        return alert_id[:43]


def long_id(short: str) -> str | None:
    """Return the alert id that `short_id` shortened, None for anything else."""
    try:
        raw = base64.b64decode(short + "=" * (-len(short) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw.hex() if len(raw) == 32 else None
