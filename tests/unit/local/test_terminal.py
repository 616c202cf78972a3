"""What a person sees: alerts on stdout, everything else on stderr, progress that fits its reader."""

from __future__ import annotations

import io
import json

from local.terminal import Progress, Terminal
from shared.alerts.model import Alert, Severity
from shared.clock import parse_utc_ms
from shared.detection.reading import Detector
from shared.market.model import Market

NOON = parse_utc_ms("2026-01-01T12:00:00Z")
ALERT = Alert(
    "f00d", Detector.TRADE_SPIKE, Market.SPOT, "BTCUSDT", None, None, Severity.WARNING, NOON, NOON + 1500,
    "a title", "🐋 TRADE SPIKE\nSymbol: BTCUSDT [bold]not markup[/bold]", {"ratio": 12.5}, {"multiple": 10.0}, "1",
)  # fmt: skip


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_alerts_alone_go_to_stdout() -> None:
    out, err = io.StringIO(), io.StringIO()
    with Terminal(lambda: "status", out=out, err=err) as terminal:
        terminal.note("a note")
        terminal.alert(ALERT)
    assert out.getvalue() == f"── 12:00:01 UTC · WARNING · trade_spike ──\n{ALERT.text}\n\n"
    assert err.getvalue() == "a note\n"
    assert list(terminal.shown) == ["trade_spike"]


def test_as_json_each_alert_is_one_line() -> None:
    out = io.StringIO()
    with Terminal(lambda: "status", as_json=True, out=out, err=io.StringIO()) as terminal:
        terminal.alert(ALERT)
        terminal.alert(ALERT)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [ALERT.to_json()] * 2


def test_on_a_terminal_there_is_a_status_line_and_text_is_only_text() -> None:
    out = Tty()
    with Terminal(lambda: "12 trades", out=out) as terminal:
        terminal.alert(ALERT)
        terminal.note("[red]a note[/red]")
    shown = out.getvalue()
    assert "12 trades" in shown
    assert "[bold]not markup[/bold]" in shown  # markup from outside stays text
    assert "[red]a note[/red]" in shown


def test_progress_is_a_json_line_for_every_tenth_in_a_pipe() -> None:
    err = io.StringIO()
    progress = Progress("bars", err)
    for done in range(101):
        progress(done, 100)
    progress.close()
    lines = [json.loads(line) for line in err.getvalue().splitlines()]
    assert [line["percent"] for line in lines] == list(range(0, 101, 10))
    assert lines[0] == {"progress": "bars", "done": 0, "total": 100, "percent": 0}


def test_progress_is_a_bar_on_a_terminal() -> None:
    err = Tty()
    progress = Progress("bars", err)
    for done in range(3):
        progress(done, 2, "BTC[USDT]")
    progress.close()
    assert "2/2" in err.getvalue()
    assert "BTC[USDT]" in err.getvalue()
