"""Listen to the bot by long poll: no address that a stranger could forge a message to.

Only allowed chats are answered; everything else is counted and left alone. One receiver at a time holds the lease.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.alerts.channels.telegram import TelegramChannel, long_id
from shared.clock import HOUR_MS
from shared.commands.answers import answer, mute
from shared.commands.parse import parse
from shared.detection.reading import Detector
from shared.errors import StorageError, TapewatchError
from shared.jobs.deps import Dependencies
from shared.storage.alerts import AlertRepository
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.lease import Lease, LeaseRepository
from shared.storage.outcomes import FeedbackRepository
from shared.telegram.api import TelegramError, TelegramRefused
from shared.telegram.html import line, messages

logger = logging.getLogger(__name__)

_CHECKPOINT = "telegram-updates"
_LEASE = "telegram-commands"
_LEASE_MS = 90_000
_POLL_S = 25
_PER_MINUTE = 20  # commands of one person
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 300.0
_BEAT_S = 60.0
_SIGNS = ("my_chat_member", "channel_post")  # the bot's rights changed, or its channel lives: no commands
_VERDICTS = {"u": "useful", "n": "noise"}


@dataclass(slots=True)
class Receiver:
    """`channel` names the bot and the chat; `allowed` are further chats that may command. `counters` count all."""

    channel: TelegramChannel
    deps: Dependencies
    allowed: frozenset[str] = frozenset()
    poll_s: int = _POLL_S
    monotonic: Callable[[], float] = time.monotonic
    counters: Counter[str] = field(default_factory=Counter)
    state: str = "starting"
    _asked: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _offset: int | None = None
    _owner: str = field(default_factory=lambda: secrets.token_hex(8))
    _lease: Lease | None = None
    _leases: LeaseRepository | None = None
    _failures: int = 0
    _beaten_s: float | None = None

    def start(self, stop: threading.Event) -> threading.Thread:
        """Listen in a daemon thread until `stop`; a poll that is under way then is simply left."""
        thread = threading.Thread(target=self.run, args=(stop,), name="telegram-commands", daemon=True)
        thread.start()
        return thread

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set; nothing that happens here ends it."""
        while not stop.is_set():
            try:
                pause_s = self.poll_once()
            except Exception as exc:  # the top of the thread: one bad update must not end the listening
                logger.warning("commands_failed", extra={"error": type(exc).__name__})
                pause_s = self._pause("failing")
            stop.wait(pause_s)
        if self._lease is not None and self._leases is not None:
            try:
                self._leases.release(self._lease)
            except TapewatchError:
                return  # it ends by itself

    def poll_once(self) -> float:
        """Ask once and carry out what came; return the seconds to wait before the next poll.

        Raises:
            StorageError: the state gave no answer.
        """
        if not self._hold():
            self.state = "standby"
            return 5.0
        try:
            updates = self.channel.api.call(
                "getUpdates",
                {
                    "offset": self._next(),
                    "timeout": self.poll_s,
                    "allowed_updates": ["message", "callback_query", *_SIGNS],
                },
                read_s=self.poll_s + 8.0,
            )
        except TelegramRefused as exc:
            return self._refused(exc)
        except TelegramError:
            return self._pause("no answer")
        self._failures, self.state = 0, "listening"
        for update in updates if isinstance(updates, list) else ():
            self._take(update)
        self._beat()
        return 0.0

    # --- staying the only one ---------------------------------------------------------------------------------
    def _hold(self) -> bool:
        if self._leases is None:
            self._leases = LeaseRepository(self.deps.table)
        now_ms = round(self.monotonic() * 1000)
        if self._lease is not None:
            self._lease = self._leases.renew(self._lease)
        if self._lease is None:
            self._lease = self._leases.acquire(_LEASE, self._owner, now_ms, _LEASE_MS)
        return self._lease is not None

    def _refused(self, exc: TelegramRefused) -> float:
        self.counters[f"refused_{exc.code}"] += 1
        if exc.code == 409:
            # Another program polls with this token, or a webhook is set: both would steal each other's commands.
            return self._pause(f"conflict: {exc.description}"[:200])
        if exc.code in (401, 404):
            self._pause("the token is not valid")
            return _LONGEST_PAUSE_S
        if exc.retry_after_s is not None:
            self._pause("too many calls")
            return exc.retry_after_s
        return self._pause(f"refused: {exc.code}")

    def _pause(self, state: str) -> float:
        self.state = state
        self._failures += 1
        self._beat()
        return min(_FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S)

    def _beat(self) -> None:
        now_s = self.monotonic()
        if self._beaten_s is not None and now_s - self._beaten_s < _BEAT_S and self.state == "listening":
            return
        self._beaten_s = now_s
        fields: dict[str, Any] = {"listening": self.state, **self.counters}
        try:
            HeartbeatRepository(self.deps.table).beat(_LEASE, self.deps.clock.now_ms(), fields)
        except StorageError:
            return  # the next one tells

    # --- updates ----------------------------------------------------------------------------------------------
    def _next(self) -> int:
        """Return the id of the first update that has not been carried out; a restart goes on from there."""
        if self._offset is None:
            known = CheckpointRepository(self.deps.table).get(_CHECKPOINT) or {}
            offset = known.get("offset", 0)
            self._offset = offset if isinstance(offset, int) else 0
        return self._offset

    def _take(self, update: object) -> None:
        """Carry out one update once; an id that has been seen is a replay."""
        update_id = update.get("update_id") if isinstance(update, Mapping) else None
        if not isinstance(update_id, int) or isinstance(update_id, bool) or not isinstance(update, Mapping):
            self.counters["malformed"] += 1
            return
        if update_id < self._next():
            self.counters["replayed"] += 1
            return
        try:
            self._carry_out(update)
        except StorageError:
            raise
        except Exception as exc:  # one bad update is counted and passed over: the offset always advances
            logger.warning("update_failed", extra={"error": type(exc).__name__})
            self.counters["failed"] += 1
        self._offset = update_id + 1
        CheckpointRepository(self.deps.table).put(_CHECKPOINT, {"offset": self._offset})

    def _carry_out(self, update: Mapping[str, Any]) -> None:
        for name in _SIGNS:
            if name in update:
                if _id(update[name], "chat") == str(self.channel.chat_id):
                    self._revive()
                return
        query = update.get("callback_query")
        message = query.get("message") if isinstance(query, Mapping) else update.get("message")
        chat = _id(message, "chat")
        person = _id(query if isinstance(query, Mapping) else message, "from") or chat
        if chat is None or person is None:
            self.counters["malformed"] += 1
            return
        if chat not in self.allowed | {str(self.channel.chat_id)}:
            self.counters["foreign_chat"] += 1  # no answer: it would tell a stranger that somebody listens
            return
        self._revive()
        if not self._may_ask(person):
            self.counters["flood"] += 1
            return
        if isinstance(query, Mapping):
            self._pressed(query, chat, person)
            return
        command = parse(message.get("text") if isinstance(message, Mapping) else None)
        if command is None:
            self.counters["no_command"] += 1
            return
        self.counters["commands"] += 1
        self._reply(chat, answer(self.deps, command, person))

    def _revive(self) -> None:
        """A chat that writes to us is no dead destination."""
        revive = getattr(self.deps.alerts, "revive", None)
        if revive is not None:
            revive(self.channel.name)

    def _may_ask(self, person: str) -> bool:
        now_s, asked = self.monotonic(), self._asked[person]
        while asked and asked[0] <= now_s - 60:
            asked.popleft()
        if len(asked) >= _PER_MINUTE:
            return False
        asked.append(now_s)
        return True

    def _pressed(self, query: Mapping[str, Any], chat: str, person: str) -> None:
        """Carry out a button and say so in the little note above it."""
        what, _, short = str(query.get("data", ""))[:64].partition(":")
        alert_id = long_id(short)
        alert = AlertRepository(self.deps.table).get(alert_id) if alert_id else None
        if alert is None or alert.detector is Detector.SYSTEM or what not in ("m", *_VERDICTS):
            self.counters["unknown_button"] += 1
            note = "This alert is not known any more."
        elif what == "m":
            self.counters["buttons"] += 1
            note = mute(self.deps, alert.symbol, HOUR_MS, person)
        else:
            self.counters["buttons"] += 1
            verdict = _VERDICTS[what]
            FeedbackRepository(self.deps.table).put(alert.alert_id, person, verdict, self.deps.clock.now_ms())
            note = f"Noted: {verdict}. Thank you."
        try:
            self.channel.api.call("answerCallbackQuery", {"callback_query_id": str(query.get("id", "")), "text": note})
        except TelegramError:
            self.counters["unanswered"] += 1

    def _reply(self, chat: str, lines: list[str]) -> None:
        for text in messages([line(one) for one in lines])[:3]:
            if self.channel.limits.wait(chat, longest_ms=10_000) > 0:
                self.counters["unanswered"] += 1
                return
            try:
                params = {"chat_id": chat, "text": text.html, "parse_mode": "HTML", "disable_notification": True}
                self.channel.api.call("sendMessage", params)
            except TelegramError:
                self.counters["unanswered"] += 1
                return


def _id(holder: object, name: str) -> str | None:
    """Return `holder[name]["id"]` as text, None where there is nothing of the kind."""
    inner = holder.get(name) if isinstance(holder, Mapping) else None
    found = inner.get("id") if isinstance(inner, Mapping) else None
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else None
