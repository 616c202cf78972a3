"""Telegram's HTML, written in one place: parts of plain text in, escaped messages out. Pure.

Everything from outside is a part's text and is escaped as it is put in; no finished text is ever escaped or cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.alerts.wording import sanitize

LONGEST_TEXT = 4096  # UTF-16 code units after the entities are parsed, which is how Telegram counts
LONGEST_CAPTION = 1024

Style = Literal["", "b", "i", "code"]


@dataclass(frozen=True, slots=True)
class Part:
    """A run of text in one style. It holds no line break; `Line`s are joined by them."""

    text: str
    style: Style = ""


Line = Sequence[Part]


@dataclass(frozen=True, slots=True)
class Message:
    """The same message as HTML and as plain text, for when the HTML is refused."""

    html: str
    plain: str


def line(*parts: Part | str) -> Line:
    return tuple(Part(part) if isinstance(part, str) else part for part in parts)


def lines_of(text: str, *, title: bool = True) -> list[Line]:
    """Turn an alert's plain text into lines; the first one is its heading."""
    return [line(Part(one, "b" if number == 0 and title else "")) for number, one in enumerate(text.split("\n"))]


def escape(text: str) -> str:
    """Return text that Telegram's parser reads back as exactly this text (after `sanitize`)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def width(text: str) -> int:
    """Return the length as Telegram counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def messages(lines: Iterable[Line], limit: int = LONGEST_TEXT) -> list[Message]:
    """Return as few messages as hold the lines, each at most `limit` long, cut between lines, else between words'
    characters, never inside an entity."""
    made: list[Message] = []
    block: list[Line] = []
    used = 0
    for one in lines:
        for piece in _pieces(one, limit):
            size = sum(width(part.text) for part in piece)
            if block and used + 1 + size > limit:
                made.append(_message(block))
                block, used = [], 0
            used += size + (1 if block else 0)
            block.append(piece)
    if block:
        made.append(_message(block))
    return [message for message in made if message.plain.strip()] or [Message("…", "…")]


def _pieces(one: Line, limit: int) -> Iterable[Line]:
    """Clean a line and cut it where it is longer than a whole message."""
    piece: list[Part] = []
    used = 0
    for part in one:
        text = sanitize(part.text, max(64, 8 * limit))
        while text:
            room = limit - used
            head = _head(text, room)
            if head:
                piece.append(Part(head, part.style))
                used += width(head)
                text = text[len(head) :]
            if text:
                yield tuple(piece)
                piece, used = [], 0
    yield tuple(piece)


def _head(text: str, room: int) -> str:
    """Return the longest beginning that fits into `room`, whole characters only."""
    if width(text) <= room:
        return text
    used = 0
    for at, sign in enumerate(text):
        used += 2 if ord(sign) > 0xFFFF else 1
        if used > room:
            return text[:at]
    return text


def _message(block: Sequence[Line]) -> Message:
    html = "\n".join("".join(_tagged(part) for part in one) for one in block)
    plain = "\n".join("".join(part.text for part in one) for one in block)
    return Message(html, plain)


def _tagged(part: Part) -> str:
    text = escape(part.text)
    return f"<{part.style}>{text}</{part.style}>" if part.style and text.strip() else text
