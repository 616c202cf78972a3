"""A Telegram of our own, on this machine: scripted answers, strict about markup and lengths, keeps all it received.

It is part of the tests and of the demo, where its page shows what a phone would have shown.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from local.telegram_markup import MarkupError, read_html
from local.telegram_page import page

_LONGEST_BODY = 12_000_000
TOKEN = "1000001:demo-token-of-a-telegram-that-is-not-one"  # noqa: S105 - of the fake server only
CHAT = 4242


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answers instead of doing its work. `hang_s` waits first, `close` cuts the line without a word."""

    status: int = 200
    body: Any = None
    hang_s: float = 0.0
    close: bool = False
    after: bool = False  # do the work first: the answer that was lost after it happened


@dataclass(frozen=True, slots=True)
class Received:
    """One call as it came in."""

    method: str
    params: Mapping[str, Any]
    files: Mapping[str, bytes]
    at_s: float  # time.monotonic


@dataclass(slots=True)
class Shown:
    """One message as the chat shows it. `text` is what is left after parsing, `spans` the markup that was in it."""

    message_id: int
    chat: str
    text: str
    spans: list[tuple[str, str]]
    silent: bool
    reply_to: int | None = None
    buttons: list[tuple[str, str]] = field(default_factory=list)
    photo: bytes | None = None
    at_s: float = 0.0


def refusal(code: int, description: str, **parameters: Any) -> Answer:
    """Return Telegram's form of an error."""
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return Answer(code, body | ({"parameters": parameters} if parameters else {}))


class FakeTelegram:
    """Serves one bot on 127.0.0.1 in background threads. With `strict_limits`, 429 as Telegram gives it."""

    def __init__(self, *, token: str = TOKEN, chats: tuple[int | str, ...] = (CHAT,), strict_limits: bool = False):
        self.token = token
        self.chats = {str(chat) for chat in chats}
        self.strict_limits = strict_limits
        self.received: list[Received] = []
        self.shown: list[Shown] = []
        self.answered: list[dict[str, Any]] = []  # answerCallbackQuery
        self._script: dict[str, deque[Answer]] = defaultdict(deque)
        self._updates: deque[dict[str, Any]] = deque()
        self._next_update = 1
        self._polls = 0
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self.closing = False

    # --- running it -------------------------------------------------------------------------------------------
    def start(self) -> FakeTelegram:
        fake = self

        class Handler(_Handler):
            telegram = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.closing = False
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="telegram", daemon=True).start()
        return self

    def stop(self) -> None:
        with self._changed:
            self.closing = True
            self._changed.notify_all()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> FakeTelegram:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("not started")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # --- what a test or a person does -------------------------------------------------------------------------
    def script(self, method: str, *answers: Answer) -> None:
        """Queue answers for the next calls of a method; when they are used up it works again."""
        with self._changed:
            self._script[method].extend(answers)

    def say(self, text: str, *, chat: int = CHAT, user: int = 7, update_id: int | None = None) -> None:
        """Type a message into a chat."""
        message = {"message_id": 1, "chat": {"id": chat}, "from": {"id": user}, "text": text, "date": 0}
        self._push({"message": message}, update_id)

    def press(self, data: str, *, chat: int = CHAT, user: int = 7) -> None:
        """Press a button."""
        query = {"id": "1", "from": {"id": user}, "data": data, "message": {"message_id": 1, "chat": {"id": chat}}}
        self._push({"callback_query": query}, None)

    def push(self, update: Mapping[str, Any]) -> None:
        """Queue an update as it is, however wrong."""
        with self._changed:
            self._updates.append(dict(update))
            self._changed.notify_all()

    def _push(self, update: dict[str, Any], update_id: int | None) -> None:
        with self._changed:
            if update_id is None:
                update_id, self._next_update = self._next_update, self._next_update + 1
            self._updates.append({"update_id": update_id, **update})
            self._changed.notify_all()

    def wait_for(self, count: int, within_s: float = 5.0) -> list[Shown]:
        """Wait until the chat shows so many messages; return what it shows."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.shown) >= count, within_s)
            return list(self.shown)

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.shown if one.photo is None]

    @property
    def photos(self) -> list[Shown]:
        return [one for one in self.shown if one.photo is not None]

    # --- answering --------------------------------------------------------------------------------------------
    def answer(self, path: str, params: Mapping[str, Any], files: Mapping[str, bytes]) -> Answer:
        """Answer one call as Telegram would, or as the script says."""
        bot, _, method = path.lstrip("/").partition("/")
        with self._changed:
            self.received.append(Received(method, dict(params), dict(files), time.monotonic()))
            scripted = self._script[method].popleft() if self._script[method] else None
        if scripted is not None and not scripted.after:
            return scripted
        if bot != f"bot{self.token}":
            return refusal(401, "Unauthorized")
        done = self._do(method, params, files)
        return done if scripted is None else scripted

    def _do(self, method: str, params: Mapping[str, Any], files: Mapping[str, bytes]) -> Answer:
        if method == "sendMessage":
            return self._show(params, str(params.get("text", "")), 4096, None)
        if method == "sendPhoto":
            photo = files.get("photo", b"")
            if not photo.startswith(b"\x89PNG"):
                return refusal(400, "Bad Request: IMAGE_PROCESS_FAILED")
            return self._show(params, str(params.get("caption", "")), 1024, photo)
        if method == "getUpdates":
            return self._poll(int(params.get("offset", 0) or 0), float(params.get("timeout", 0) or 0))
        if method == "answerCallbackQuery":
            self.answered.append(dict(params))
            return Answer(200, {"ok": True, "result": True})
        if method == "getMe":
            return Answer(200, {"ok": True, "result": {"id": 1000001, "is_bot": True, "username": "demo_bot"}})
        if method in ("editMessageReplyMarkup", "setMyCommands", "deleteWebhook"):
            return Answer(200, {"ok": True, "result": True})
        return refusal(404, "Not Found: method not found")

    def _show(self, params: Mapping[str, Any], text: str, limit: int, photo: bytes | None) -> Answer:
        chat = str(params.get("chat_id", ""))
        if chat not in self.chats:
            return refusal(400, "Bad Request: chat not found")
        spans: list[tuple[str, str]] = []
        if params.get("parse_mode") == "HTML":
            try:
                text, spans = read_html(text)
            except MarkupError as exc:
                return refusal(400, f"Bad Request: can't parse entities: {exc}")
        if len(text.encode("utf-16-le", "surrogatepass")) // 2 > limit:
            return refusal(400, "Bad Request: message is too long")
        if not text.strip() and photo is None:
            return refusal(400, "Bad Request: message text is empty")
        with self._changed:
            now_s = time.monotonic()
            recent = [one.at_s for one in self.shown if one.chat == chat and one.at_s > now_s - 60]
            if self.strict_limits and recent and (now_s - recent[-1] < 0.9 or (chat[0] == "-" and len(recent) >= 20)):
                return refusal(429, "Too Many Requests: retry after 1", retry_after=1)
            reply = _nested(params.get("reply_parameters"))
            rows = _nested(params.get("reply_markup")).get("inline_keyboard", [])
            shown = Shown(
                message_id=len(self.shown) + 1,
                chat=chat,
                text=text,
                spans=spans,
                silent=str(params.get("disable_notification")).lower() == "true",
                reply_to=reply.get("message_id"),
                buttons=[(one.get("text", ""), one.get("callback_data", "")) for row in rows for one in row],
                photo=photo,
                at_s=now_s,
            )
            if any(len(data.encode()) > 64 for _, data in shown.buttons):
                return refusal(400, "Bad Request: BUTTON_DATA_INVALID")
            self.shown.append(shown)
            self._changed.notify_all()
        return Answer(200, {"ok": True, "result": {"message_id": shown.message_id, "chat": {"id": chat}}})

    def _poll(self, offset: int, timeout_s: float) -> Answer:
        with self._changed:
            if self._polls:
                return refusal(409, "Conflict: terminated by other getUpdates request")
            self._polls += 1
            try:
                while self._updates and 0 <= _update_id(self._updates[0]) < offset:
                    self._updates.popleft()
                self._changed.wait_for(lambda: bool(self._updates) or self.closing, min(timeout_s, 50.0))
                result = [one for one in self._updates if not 0 <= _update_id(one) < offset]
                return Answer(200, {"ok": True, "result": result})
            finally:
                self._polls -= 1


class _Handler(BaseHTTPRequestHandler):
    telegram: FakeTelegram
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = min(int(self.headers.get("Content-Length", 0) or 0), _LONGEST_BODY)
        raw = self.rfile.read(length)
        kind = self.headers.get("Content-Type", "")
        params, files = _multipart(kind, raw) if kind.startswith("multipart/") else (_json(raw), {})
        answer = self.telegram.answer(urlsplit(self.path).path, params, files)
        if answer.hang_s:
            self._hang(answer.hang_s)
        if answer.close:
            self.close_connection = True
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self._reply(answer.status, "application/json", body)

    def do_GET(self) -> None:
        if urlsplit(self.path).path != "/":
            self._reply(404, "text/plain", b"not found")
            return
        self._reply(200, "text/html; charset=utf-8", page(self.telegram.shown).encode())

    def _hang(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.telegram.closing:
            time.sleep(0.02)

    def _reply(self, status: int, kind: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if kind.startswith("text/html"):
                self.send_header(
                    "Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
                )
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the caller did not wait

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the path holds the token."""


def _update_id(update: Mapping[str, Any]) -> int:
    """Return an update's id, -1 for one that has none."""
    found = update.get("update_id")
    return found if isinstance(found, int) and not isinstance(found, bool) else -1


def _json(raw: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _multipart(kind: str, raw: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw)
    params: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        data = content if isinstance(content, bytes) else b""
        if part.get_filename():
            files[name] = data
        else:
            params[name] = data.decode("utf-8", "replace")
    return params, files


def _nested(value: Any) -> dict[str, Any]:
    """Return an object that came as JSON or, in a form, as text that holds JSON."""
    if isinstance(value, str):
        return _json(value.encode())
    return value if isinstance(value, dict) else {}
