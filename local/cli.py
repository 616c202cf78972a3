"""The command `tapewatch`: finds the sub-command, imports only that one, and turns every error into one JSON object.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 a resource is missing (state table, file).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import Any, NoReturn

from shared.errors import TapewatchError, UsageError

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "the whole system on this machine against a simulated market; no network, no account"),
    "run": ("run", "the whole system on this machine against the configured exchange"),
    "volume-spike": ("volume_spike", "one reading of the 1-minute volume rule"),
    "order-book": ("order_book", "order-book imbalance, one JSON line an interval"),
    "sector": ("sector", "current features and rule states of every sector symbol"),
    "backfill": ("backfill", "fetch 1-minute bars for the sector universe"),
    "report": ("report", "what happened: counts, top symbols, every event"),
    "windows": ("windows", "analysis of the Isolation Forest's windows"),
    "replay": ("replay", "the same detectors over recorded trades, frames and bars"),
    "evaluate": ("evaluate", "what the alerts are worth: on labels, outcomes, and a market without events"),
    "alerts": ("alerts", "the alert log"),
    "mute": ("mute", "silence one symbol for a while"),
    "cooldowns": ("cooldowns", "what keeps alerts back now; lift one"),
    "status": ("status", "health of every part"),
    "exchange": ("exchange", "the local exchange alone, for other programs and tests"),
    "check-config": ("check_config", "validate the configuration and print the effective values"),
}


ON_AWS = ("alerts", "cooldowns", "evaluate", "mute", "report", "sector", "status", "windows")
"""The commands that read or change a state which may be the deployment's."""


class Parser(argparse.ArgumentParser):
    """Wrong usage is an error object like every other one; argparse's own usage line is its hint."""

    def error(self, message: str) -> NoReturn:
        wrong = UsageError(message)
        wrong.add_note(" ".join(self.format_usage().split()))
        raise wrong


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command's module is imported, the others show their one line."""
    parser = Parser(
        prog="tapewatch",
        description="Watches Binance markets and tells people within seconds when something abnormal happens.",
    )
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: tapewatch.yaml, if it exists)")
    parser.add_argument(
        "--aws", action="store_true", help=f"work on the deployment on AWS, with your credentials ({', '.join(ON_AWS)})"
    )
    parser.add_argument("--version", action="version", version=f"tapewatch {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (module, help_text) in COMMANDS.items():
        if name == chosen:
            importlib.import_module(f"local.commands.{module}").add_parser(commands)
        else:
            commands.add_parser(name, help=help_text)
    return parser


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if sys.stdout is None:  # `>&-`: nobody wants to hear us, which is no reason to fail
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it lives as long as the process
    _write_every_letter()
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except TapewatchError as exc:
        _print_error(str(exc), exc.code, hint="; ".join(getattr(exc, "__notes__", [])))
        return exc.exit_status
    except BrokenPipeError:
        # The reader of our output went away; that is its right. Keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as exc:
        _print_error(f"{exc.strerror or exc}{f': {exc.filename}' if exc.filename else ''}", "system")
        return 1
    except Exception as exc:  # the last line of defence: a person never sees a traceback unless asked for
        if os.environ.get("TAPEWATCH_DEBUG"):
            raise
        _print_error(
            f"unexpected {type(exc).__name__}: this is a fault of tapewatch; set TAPEWATCH_DEBUG=1 to see where",
            "internal",
        )
        return 1
    return status


def _write_every_letter() -> None:
    """Let no letter of a text be an error: a file or pipe gets UTF-8, a terminal `?` for what it cannot show."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # what stands in for a stream may have none
        if reconfigure is not None:
            reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def _dispatch(words: list[str]) -> int:
    chosen = _chosen(words)
    parser = build_parser(chosen)
    arguments = parser.parse_args(words)
    if not arguments.command:
        parser.print_help()
        return 2
    if arguments.aws and arguments.command not in ON_AWS:
        raise UsageError(f"--aws is for {', '.join(ON_AWS)}; {arguments.command} runs on this machine")
    module = importlib.import_module(f"local.commands.{COMMANDS[arguments.command][0]}")
    status: Any = module.run(arguments)
    return int(status)


def _chosen(words: list[str]) -> str | None:
    """The first word that names a command; the value of --config is no command."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "--config":
            skip = True
        elif word in COMMANDS:
            return word
        elif not word.startswith("-"):
            return None
    return None


def _print_error(text: str, code: str, *, hint: str = "") -> None:
    error = {"error": text, "code": code}
    if hint:
        error["hint"] = hint
    print(json.dumps(error, ensure_ascii=False), file=sys.stderr)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tapewatch")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
