"""What a person sees while `run` or `demo` works: alerts as they come, one status line below them.

On a terminal the status line is redrawn in place; in a pipe it becomes a line on stderr every few seconds, and the
alerts alone go to stdout. With `as_json` each alert is one JSON line.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

from shared.alerts.model import Alert, Severity

STYLES = {Severity.INFO: "cyan", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}
PLAIN_STATUS_EVERY_S = 5.0


class Terminal:
    """A context manager; `alert` and `note` may be called from any thread."""

    def __init__(
        self,
        status: Callable[[], str],
        *,
        as_json: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self._status = status
        self._as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._lock = threading.Lock()
        self._live: Any = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.shown: deque[str] = deque(maxlen=10_000)  # detectors of the alerts shown, in order

    def __enter__(self) -> Terminal:
        if self._out.isatty() and not self._as_json:
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            console = Console(file=self._out, highlight=False)
            self._live = Live(
                get_renderable=lambda: Text(self._status(), style="dim", no_wrap=True, overflow="ellipsis"),
                console=console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._plain_status, name="status", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._live is not None:
            self._live.stop()
        if self._thread is not None:
            self._thread.join(1.0)

    def alert(self, alert: Alert) -> None:
        """Show one alert; raises OSError when the terminal is gone, so that the alert stays pending."""
        with self._lock:
            if self._as_json:
                self._out.write(json.dumps(alert.to_json(), ensure_ascii=False) + "\n")
                self._out.flush()
            elif self._live is not None:
                from rich.text import Text

                shown = Text()
                shown.append(f"{_mark(alert)}\n", style=STYLES[alert.severity])
                shown.append(alert.text)
                shown.append("\n")
                self._live.console.print(shown)
            else:
                self._out.write(f"{_mark(alert)}\n{alert.text}\n\n")
                self._out.flush()
            self.shown.append(alert.detector.value)

    def note(self, text: str) -> None:
        """Say something beside the alerts, on stderr where there is no live display."""
        # The reader may be gone (a closed pipe); what is said here must never keep the rest from ending cleanly.
        with self._lock, suppress(OSError, ValueError):
            if self._live is not None:
                from rich.text import Text

                self._live.console.print(Text(text, style="dim"))
            else:
                print(text, file=self._err, flush=True)

    def _plain_status(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.2):
            if time.monotonic() - last >= PLAIN_STATUS_EVERY_S:
                last = time.monotonic()
                with self._lock, suppress(OSError, ValueError):
                    print(self._status(), file=self._err, flush=True)


def _mark(alert: Alert) -> str:
    moment = time.strftime("%H:%M:%S", time.gmtime(alert.detected_ms / 1000))
    return f"── {moment} UTC · {alert.severity.value.upper()} · {alert.detector.value} ──"


class Progress:
    """A progress bar on stderr where that is a terminal, else one JSON line for every tenth."""

    def __init__(self, title: str, err: TextIO | None = None) -> None:
        self._title = title
        self._err = err or sys.stderr
        self._bar: Any = None
        self._task: Any = None
        self._tenth = -1
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Report `done` of `total`; safe from several threads."""
        with self._lock:
            if self._err.isatty():
                self._draw(done, total, text)
                return
            tenth = 10 if total <= 0 else done * 10 // total
            if tenth > self._tenth:
                self._tenth = tenth
                line = {"progress": self._title, "done": done, "total": total, "percent": tenth * 10}
                print(json.dumps(line), file=self._err, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._err),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=max(total, 1))
        from rich.markup import escape

        self._bar.update(self._task, completed=done, total=max(total, 1), description=escape(f"{self._title} {text}"))
