"""What a phone would have shown, as a page without scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Protocol

_STYLE = (
    "body{font:15px/1.4 sans-serif;max-width:34em;margin:1em auto;padding:0 1em;background:#0e1621;color:#f5f5f5}"
    "div{background:#182533;border-radius:10px;padding:.6em .9em;margin:.5em 0;white-space:pre-wrap;"
    "overflow-wrap:anywhere}img{width:100%}small{color:#8fa3b5}b{color:#fff}"
)


class Message(Protocol):
    @property
    def message_id(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def silent(self) -> bool: ...
    @property
    def reply_to(self) -> int | None: ...
    @property
    def buttons(self) -> list[tuple[str, str]]: ...
    @property
    def photo(self) -> bytes | None: ...


def page(shown: Sequence[Message]) -> str:
    """Return the newest 100 messages, newest first."""
    rows = "".join(_row(one) for one in list(shown)[-100:][::-1])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="3">'
        f"<title>Telegram (on this machine)</title><style>{_STYLE}</style>"
        f"<h1>Telegram, on this machine only</h1><p><small>{len(shown)} messages</small></p>{rows}</html>"
    )


def _row(one: Message) -> str:
    image = ""
    if one.photo is not None:
        image = f'<img alt="chart" src="data:image/png;base64,{base64.b64encode(one.photo).decode()}">'
    notes = [f"#{one.message_id}"]
    if one.reply_to:
        notes.append(f"reply to #{one.reply_to}")
    if one.silent:
        notes.append("silent")
    buttons = "  ".join(f"[{escape(text)}]" for text, _ in one.buttons)
    return f"<div>{image}{escape(one.text)}\n<small>{escape(' · '.join(notes))}  {buttons}</small></div>"
