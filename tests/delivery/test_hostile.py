"""F701-F703: names and texts from outside are only ever text, in every renderer. 10,000 of them in the slow tier."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from alert_examples import EVERY_KIND, NOON_MS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_alert_render import HOSTILE, alert_of

from local.logs import JsonLines
from local.telegram_markup import read_html
from local.telegram_page import page
from shared.alerts.channels.sns import attributes, digest_message, message, subject
from shared.alerts.channels.telegram import alert_lines, keyboard
from shared.alerts.digest import DigestKind, make_digest
from shared.alerts.render import one_line
from shared.alerts.wording import sanitize, table_field
from shared.commands.answers import HELP
from shared.errors import ConfigurationError
from shared.exchange.binance.endpoints import stream_url
from shared.jobs.window_analysis import COLUMNS, export_csv
from shared.market.model import Market
from shared.pictures.chart import chart
from shared.pictures.snapshot import Snapshot, SnapshotBar
from shared.storage.alert_keys import cooldown, feedback, latest_signal
from shared.telegram.html import escape, lines_of, messages, width

MORE = [
    "](tg://user?id=1)", "*_[", "<b>", "</b>", "<a href='tg://x'>y</a>", "&lt;", "&amp;amp;", "&#60;b&#62;", "\u202e",
    "=cmd|' /C calc'!A0", "+1", "@SUM(1)", "]]>", "<!--", "-->", "<script>alert(1)</script>", "\u0085", "\ufeff",
    "{{7*7}}", "${x}", "%s%n", "'; DROP TABLE", "\x1b[2J", '{"a":1}', "a" * 5000, "&" * 5000, "<" * 5000, "🚀" * 3000,
]  # fmt: skip
names = st.one_of(
    st.sampled_from(HOSTILE + MORE),
    st.text(max_size=80),
    st.text(alphabet="<>&;#x6b/\"'=]([)*_`~\n\r\t\x00\u202e🚀aé测", max_size=80),
)
KEYS = ("b", "i", "code")


def check_every_renderer(name: str, example: object) -> None:
    """Render an alert with an outside name everywhere, read each result back, count foreign tags and entities."""
    plain = example()  # type: ignore[operator]
    values = {key: name if isinstance(value, str) else value for key, value in plain.values.items()}
    alert = alert_of(replace(plain, symbol=name, sector=name, values=values))
    alert = replace(alert, text=f"{alert.text}\n{name}", title=f"{alert.title} {sanitize(name)}")
    _telegram(alert, name)
    _mail(alert)
    _picture(name, alert.title)
    _log(name)
    for key in (cooldown(f"volume_spike|spot|{name}"), latest_signal("x", name), feedback("a" * 64, name)):
        for part in key:
            assert "\x00" not in part
            assert 0 < len(part.encode("utf-8")) < 1024
    if name.strip() and len(name) < 100:
        try:
            address = stream_url("wss://stream.example", Market.SPOT, [f"{name}@trade"])
        except (ConfigurationError, UnicodeError):
            return  # refused: it can be no stream's name
        assert urlsplit(address).hostname == "stream.example"
        assert parse_qs(urlsplit(address).query, keep_blank_values=True).keys() <= {"streams"}


def _telegram(alert, name):
    """Tags made by outside text 0, and what is left after parsing is exactly the text (as `sanitize` leaves it)."""
    digest = make_digest([alert, alert], DigestKind.STORM)
    for lines in (alert_lines(alert), lines_of(digest.text), lines_of("\n".join([*HELP, name]))):
        for one in messages(lines):
            text, spans = read_html(one.html)
            assert text == one.plain
            assert all(tag in KEYS for tag, _ in spans)
            assert width(text) <= 4096
            one.html.encode()
    first = alert.text.split("\n")[0]
    whole = "".join(read_html(one.html)[0] for one in messages(alert_lines(alert)))
    assert whole.replace("\n", "").startswith(sanitize(first, 10_000)[:3000])
    assert read_html(escape(sanitize(name, 20_000)))[0] == sanitize(name, 20_000)
    buttons = keyboard(alert)
    if buttons:
        assert all(len(one["callback_data"].encode()) <= 64 for row in buttons["inline_keyboard"] for one in row)


def _mail(alert):
    assert 0 < len(subject(alert)) < 100
    assert all(" " <= sign <= "~" for sign in subject(alert))
    assert json.loads(json.loads(message(alert))["sqs"])["alert_id"] == alert.alert_id
    json.loads(digest_message(make_digest([alert], DigestKind.LATE)))
    for attribute in attributes(alert).values():
        assert not any(ord(sign) < 32 for sign in attribute["StringValue"])
    assert "\n" not in one_line(alert)
    assert "\x1b" not in one_line(alert)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)


def _picture(name, title):
    bars = tuple(SnapshotBar(NOON_MS + i * 60_000, 1.0, 1.1, 0.9, 1.0, float(i)) for i in range(12))
    svg = chart(Snapshot(name, title, NOON_MS, None, None, bars))
    kinds = {element.tag.rsplit("}", 1)[-1] for element in ET.fromstring(svg).iter()}
    assert kinds <= {"svg", "title", "rect", "line", "polyline", "polygon", "text"}

    class Shown:
        message_id, text, silent, reply_to, photo = 1, name, False, None, None
        buttons = ((name, "x"),)

    tags = _Tags()
    tags.feed(page([Shown()]))
    assert tags.seen <= {"html", "meta", "title", "style", "h1", "p", "small", "div"}


def _log(name):
    """F703: one line per record, valid JSON, no raw control characters."""
    record = logging.LogRecord("x", logging.INFO, "f", 1, "alert_sent", (), None)
    record.symbol = name
    written = JsonLines().format(record)
    assert "\n" not in written
    assert "\x1b" not in written
    assert json.loads(written)["symbol"] == name


@pytest.mark.parametrize("name", HOSTILE + MORE)
def test_f701_the_known_tricks(name):
    for example in EVERY_KIND:
        check_every_renderer(name, example)


@settings(max_examples=120, deadline=None)
@given(names, st.sampled_from(EVERY_KIND))
def test_f701_f703_no_name_makes_a_tag_quick(name, example):
    check_every_renderer(name, example)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(names, st.sampled_from(EVERY_KIND))
def test_f701_f703_ten_thousand_names_through_every_renderer(name, example):
    check_every_renderer(name, example)


def test_guard_no_escape_turns_red(monkeypatch):
    """Without the escape, a name is markup."""
    monkeypatch.setattr("shared.telegram.html.escape", lambda text: text)
    with pytest.raises((AssertionError, ValueError)):
        check_every_renderer("<b>", EVERY_KIND[2])


def test_f702_what_a_spreadsheet_would_run_is_quoted_in_the_products_only_table():
    """F702: the export of windows is the only CSV that is written; its numbers stay numbers."""
    hostile = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"]
    for text in hostile:
        assert table_field(text).startswith("'")
    assert table_field("BTCUSDT") == "BTCUSDT"
    assert table_field("测试币456") == "测试币456"
    row = dict.fromkeys(COLUMNS, -1.5) | {"end_ms": NOON_MS}
    out = io.StringIO()
    export_csv([row | {COLUMNS[1]: text} for text in hostile], out)
    read = list(csv.reader(io.StringIO(out.getvalue())))[1:]
    assert [line[1][:1] for line in read] == ["'"] * len(hostile)
    assert {line[2] for line in read} == {"-1.5"}
    root = Path(__file__).resolve().parents[2]
    sources = [path for room in ("shared", "functions", "streamer", "local") for path in (root / room).rglob("*.py")]
    writers = [path.name for path in sources if re.search(r"csv\.(writer|DictWriter)\(", path.read_text())]
    assert writers == ["window_analysis.py"]
