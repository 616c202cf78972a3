"""The one-shot commands against a real HTTP exchange on loopback: what they print, and how they fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import cli
from local.exchange.market import SimulatedMarket
from local.exchange.server import LocalExchange
from shared.clock import MINUTE_MS, SystemClock, floor_minute_ms, parse_utc_ms


@pytest.fixture(scope="module")
def exchange() -> Iterator[LocalExchange]:
    clock = SystemClock()
    with LocalExchange(SimulatedMarket(seed=3, start_ms=floor_minute_ms(clock.now_ms())), clock) as running:
        yield running


@pytest.fixture
def configured(exchange: LocalExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SPOT_REST_URL", "FUTURES_REST_URL"):
        monkeypatch.setenv(f"TAPEWATCH_EXCHANGE__{name}", exchange.rest_url)
    for name in ("SPOT_WS_URL", "FUTURES_WS_URL"):
        monkeypatch.setenv(f"TAPEWATCH_EXCHANGE__{name}", exchange.ws_url)
    state = tmp_path / "state.sqlite"
    monkeypatch.setenv("TAPEWATCH_STORAGE__SQLITE_PATH", str(state))
    return state


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def error_of(err: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(err.splitlines()[-1])
    return found


def test_volume_spike_prints_one_object(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "volume-spike", "--symbol", " btc ", "--threshold", "1.5")
    assert status == 0
    reading = json.loads(out)
    assert {"symbol", "timestamp", "volume_current", "ma20", "ratio", "spike", "threshold"} <= reading.keys()
    assert (reading["symbol"], reading["threshold"]) == ("BTCUSDT", 1.5)
    assert reading["ratio"] == pytest.approx(reading["volume_current"] / reading["ma20"])
    assert reading["spike"] == (reading["ratio"] >= 1.5)
    assert 0.0 <= reading["rarity"] <= 1.0
    closed_ms = parse_utc_ms(reading["timestamp"])
    assert closed_ms % MINUTE_MS == 0
    assert 0 <= SystemClock().now_ms() - closed_ms < 2 * MINUTE_MS
    assert "closed" not in reading


def test_the_open_candle_says_so(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "volume-spike", "--symbol", "ETHUSDT", "--open-candle")
    reading = json.loads(out)
    assert status == 0
    assert reading["closed"] is False
    assert parse_utc_ms(reading["timestamp"]) > SystemClock().now_ms()


def test_order_book_prints_a_line_an_interval(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("order-book", "--symbol", "btcusdt", "--levels", "7", "--interval-seconds", "0.05", "--count", "3")
    status, out, _ = run(capsys, *words)
    lines = [json.loads(line) for line in out.splitlines()]
    assert (status, len(lines)) == (0, 3)
    for line in lines:
        assert set(line) == {"timestamp", "symbol", "obi", "notional_bid", "notional_ask", "levels", "status"}
        assert (line["symbol"], line["levels"], line["status"]) == ("BTCUSDT", 7, "ok")
        bid, ask = line["notional_bid"], line["notional_ask"]
        assert line["obi"] == pytest.approx((bid - ask) / (bid + ask), abs=1e-6)


@pytest.mark.parametrize("command", [("volume-spike",), ("order-book", "--count", "1")])
def test_an_unknown_symbol_is_a_clear_error(
    command: tuple[str, ...], configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *command, "--symbol", "nosuchcoin")
    assert (status, out) == (1, "")
    assert error_of(err)["code"] == "unknown_symbol"
    assert "NOSUCHCOINUSDT" in error_of(err)["error"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("volume-spike", "--symbol", ""), "--symbol"),
        (("volume-spike", "--symbol", "btc", "--threshold", "0"), "--threshold must be greater than 0"),
        (("order-book", "--symbol", "btc", "--levels", "0"), "--levels must lie in 1..1000"),
        (("order-book", "--symbol", "btc", "--count", "0"), "--count must be at least 1"),
        (("backfill", "--hours", "0"), "--hours must lie in"),
        (("alerts", "--since", "yesterday"), "--since 'yesterday'"),
        (("alerts", "--detector", "nope"), "choose from volume_spike"),
        (("replay", "no/such/file"), "no such file or folder"),
        (("replay", "x", "--detector", "nope"), "no such file"),
    ],
)
def test_wrong_words_are_status_2_and_say_what_to_write(
    words: tuple[str, ...], says: str, configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.touch()  # some of these would first ask for a state
    status, _, err = run(capsys, *words)
    assert status == 2
    assert says in error_of(err)["error"]


def test_commands_over_the_state_say_when_there_is_none(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("alerts",), ("status",), ("sector",), ("report",), ("windows", "summary"), ("mute", "btc")):
        status, _, err = run(capsys, *words)
        assert status == 3, words
        assert error_of(err)["code"] == "storage_missing"
        assert "tapewatch run" in error_of(err)["error"]


def test_backfill_then_report_status_and_mutes(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "backfill", "--hours", "2", "--json")
    assert status == 0, err
    first = json.loads(out)
    assert first["complete"] is True
    assert first["bars"] >= 2 * 60 * 4  # the four futures symbols of the default sector
    said = err.splitlines()
    assert re.fullmatch(rf"\d+ pages of 1-minute bars, about {first['expected_s']} s", said[0])
    shown = [json.loads(line)["percent"] for line in said if '"progress"' in line]
    assert (shown[0], shown[-1]) == (0, 100)
    again = json.loads(run(capsys, "backfill", "--hours", "2", "--json")[1])
    assert again["bars"] < first["bars"] / 10  # idempotent: only what closed meanwhile

    status, out, _ = run(capsys, "report", "--since", "2h")
    assert status == 0
    assert {"generated", "since", "until", "counts", "top_symbols", "events"} <= json.loads(out).keys()

    status, out, _ = run(capsys, "mute", "btc", "--for", "30m", "--reason", "noisy", "--json")
    assert status == 0
    assert [(row["symbol"], row["reason"]) for row in json.loads(out)] == [("BTCUSDT", "noisy")]
    assert json.loads(run(capsys, "mute", "btc", "--off", "--json")[1]) == []

    status, out, _ = run(capsys, "alerts", "--json")
    assert (status, out) == (0, "")
    assert run(capsys, "status", "--json")[0] in (0, 1)


def test_a_state_that_is_no_database_is_refused(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured.write_text("this is no database")
    status, _, err = run(capsys, "alerts")
    assert status == 3
    assert error_of(err)["code"] == "storage_missing"
    assert configured.read_text() == "this is no database"
