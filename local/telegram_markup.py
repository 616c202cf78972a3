"""Read Telegram's HTML as strictly as Telegram does."""

from __future__ import annotations

import re

_TAGS = frozenset({"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "blockquote"})
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_TOKEN = re.compile(r"<(/?)([^<>]*)>|&([^;&<>]{1,10});|[^<&]+|.", re.S)


class MarkupError(ValueError):
    """It is no HTML that Telegram takes."""


def read_html(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the plain text and the marked spans as (tag, text).

    Raises:
        MarkupError: an unknown or unbalanced tag, or a bare `<`.
    """
    plain: list[str] = []
    spans: list[tuple[str, str]] = []
    opened: list[tuple[str, int]] = []
    for token in _TOKEN.finditer(text):
        whole = token.group(0)
        if whole.startswith("<") and token.group(2) is not None:
            closing, name = token.group(1), token.group(2)
            if name not in _TAGS:
                raise MarkupError(f'Unsupported start tag "{name[:20]}" at byte offset {token.start()}')
            if not closing:
                opened.append((name, len("".join(plain))))
            elif not opened or opened[-1][0] != name:
                raise MarkupError(f"Unmatched end tag at byte offset {token.start()}")
            else:
                _, start = opened.pop()
                spans.append((name, "".join(plain)[start:]))
        elif whole == "<":
            raise MarkupError(f"Unclosed start tag at byte offset {token.start()}")
        elif whole.startswith("&") and token.group(3) is not None:
            plain.append(_entity(token.group(3), whole))
        else:
            plain.append(whole)
    if opened:
        raise MarkupError(f'Can\'t find end tag corresponding to start tag "{opened[-1][0]}"')
    return "".join(plain), spans


def _entity(name: str, whole: str) -> str:
    if name in _ENTITIES:
        return _ENTITIES[name]
    digits = re.fullmatch(r"#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))", name)
    if digits:
        code = int(digits[1], 16) if digits[1] else int(digits[2])
        return chr(code) if code < 0x110000 else whole
    return whole
