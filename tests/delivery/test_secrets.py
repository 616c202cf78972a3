"""F710: secrets planted in every setting are found nowhere; and secrets are found by their names."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from alert_examples import NOON_MS, trade_spike, volume_spike
from delivery_world import World, telegram_to
from fakes import FakeMarketData
from moto import mock_aws

from local.logs import JsonLines
from local.telegram import Answer, FakeTelegram, refusal
from shared.alerts.channels.webhook import WebhookChannel
from shared.alerts.service import AlertService
from shared.clock import ManualClock
from shared.commands.receiver import Receiver
from shared.errors import ConfigurationError
from shared.jobs import report
from shared.jobs.deps import Dependencies
from shared.market.model import Market
from shared.pictures.drawing import Drawing
from shared.secrets import Secret, read_secret, redact
from shared.settings_loader import load_settings
from shared.storage.alerts import AlertRepository
from shared.storage.sqlite import SqliteTable

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "7654321:CANARY-telegram-token-AAAAAAAAAAAAAA"
HOOK = "CANARY-webhook-key-BBBBBBBBBBBBBBBBBBBB"
API_KEY = "CANARY-exchange-key-CCCCCCCCCCCCCCCCCC"
API_TOKEN = "CANARY-api-token-DDDDDDDDDDDDDDDDDDDD"
CANARIES = (TOKEN, TOKEN.split(":")[1], HOOK, API_KEY, API_TOKEN)


def assert_clean(text: str | bytes, where: str) -> None:
    for canary in CANARIES:
        found = canary.encode() in text if isinstance(text, bytes) else canary in text
        assert not found, f"a secret in {where}"


def test_f710_nothing_that_is_written_holds_a_secret(tmp_path, capfd):
    """Logs at DEBUG, errors, state file, pictures, report, answers: matches 0."""
    log = tmp_path / "all.log"
    handler = logging.FileHandler(log)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    errors: list[str] = []
    try:
        with FakeTelegram(token=TOKEN) as phone:
            state = tmp_path / "state.sqlite"
            clock = ManualClock(NOON_MS)
            world = World(NOON_MS)
            world.clock, world.state = clock, SqliteTable(str(state))
            market = FakeMarketData(clock)
            market.fill(Market.SPOT, "BTCUSDT", NOON_MS - 3 * 3_600_000, NOON_MS)
            drawing = Drawing(world.state, market)
            channel = telegram_to(phone, clock, token=TOKEN, picture=drawing.png)
            hook = WebhookChannel(f"http://127.0.0.1:9/{HOOK}", Secret(HOOK), clock, timeout_s=0.5)
            world.channels = [channel, hook]
            service = world.service()
            phone.script("sendMessage", Answer(502, TOKEN.encode()), refusal(400, f"Bad Request: {TOKEN} is wrong"))
            phone.script("sendMessage", Answer(close=True), refusal(401, "Unauthorized"))
            for number in range(6):
                outcome = service.handle(trade_spike(clock.now_ms(), "BTCUSDT" if not number else f"S{number}USDT"))
                errors.append(repr(outcome))
                clock.advance(70_000)
                errors.append(repr(service.redeliver(clock.now_ms())))
            deps = Dependencies(world.settings, market, world.state, service, clock)
            receiver = Receiver(channel, deps, poll_s=0)
            phone.script("getUpdates", refusal(409, "Conflict"), Answer(close=True), Answer(500, b"x"))
            for text in ("/status", "/help"):
                phone.say(text)
            for _ in range(5):
                receiver.poll_once()
            errors += [repr(channel), repr(hook), repr(receiver.state), str(Secret(TOKEN)), f"{channel.api}"]
            found = report.run(deps, since_ms=NOON_MS - 10**7, until_ms=clock.now_ms()).to_json()
            service.settle(3)
            for alert in AlertRepository(world.state).range()[0]:
                assert_clean(drawing.svg(alert) or "", "a picture's source")
            for shown in phone.shown:
                assert_clean(shown.text, "a message")
                assert_clean(shown.photo or b"", "a picture")
            world.state.close()
        with pytest.raises(requests.RequestException):
            requests.get(f"http://127.0.0.1:9/bot{TOKEN}/x", timeout=0.2)
    finally:
        root.handlers[:], root.level = handlers, level
        handler.close()
    assert "urllib3" in log.read_text()  # the client did log at DEBUG
    assert_clean(log.read_bytes(), "the log")
    assert_clean("\n".join(errors), "an error")
    assert_clean(json.dumps(found), "the report")
    for file in tmp_path.iterdir():
        assert_clean(file.read_bytes(), file.name)
    out, err = capfd.readouterr()
    assert_clean(out + err, "the terminal")


@pytest.mark.slow
def test_f710_a_whole_run_with_secrets_in_its_environment(tmp_path):
    """`check-config`, `status`, an error: their output, and every process's arguments."""
    config = tmp_path / "tapewatch.yaml"
    config.write_text(
        "alerts:\n  telegram: {enabled: true, chat_id: 1, bot_token: MY_BOT}\n"
        "  webhook: {enabled: true, url: 'http://127.0.0.1:9/x', secret: MY_HOOK}\n"
        "exchange: {api_key_secret: MY_KEY, spot_rest_url: 'http://127.0.0.1:9'}\n"
        f"storage: {{sqlite_path: {tmp_path / 's.sqlite'}, objects_path: {tmp_path / 'o'}}}\n"
        "api: {token_secret: MY_API}\n"
    )
    environ = os.environ | {"MY_BOT": TOKEN, "MY_HOOK": HOOK, "MY_KEY": API_KEY, "MY_API": API_TOKEN}
    for words in (["check-config"], ["status"], ["alerts"], ["run", "--for", "2"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "local.cli", "--config", str(config), *words],
            cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        arguments = _arguments(process.pid)
        out, err = process.communicate(timeout=60)
        assert_clean(out + err + arguments, words[0])
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert_clean(file.read_bytes(), file.name)


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_token_written_into_the_configuration_is_refused_without_repeating_it(tmp_path):
    config = tmp_path / "tapewatch.yaml"
    config.write_text("alerts:\n  telegram:\n    bot_token: '7654321:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    assert "AAAA" not in str(caught.value)


def test_secrets_by_name_from_the_environment():
    assert read_secret("MY_BOT", "s", environ={"MY_BOT": " abc-def-ghi \n"}).reveal() == "abc-def-ghi"
    with pytest.raises(ConfigurationError, match="MY_BOT"):
        read_secret("MY_BOT", "alerts.telegram.bot_token", environ={"MY_BOT": " "})


@pytest.mark.slow
def test_secrets_by_name_on_aws():
    with mock_aws():
        boto3.client("ssm").put_parameter(Name="/tapewatch/bot", Value="from-ssm-123", Type="SecureString")
        arn = boto3.client("secretsmanager").create_secret(Name="bot", SecretString="from-sm-123")["ARN"]
        assert read_secret("/tapewatch/bot", "s").reveal() == "from-ssm-123"
        assert read_secret("secretsmanager:bot", "s").reveal() == "from-sm-123"
        assert read_secret(arn, "s").reveal() == "from-sm-123"
        with pytest.raises(ConfigurationError, match="ParameterNotFound"):
            read_secret("/tapewatch/none", "alerts.telegram.bot_token")


def test_a_secret_shows_and_stores_itself_nowhere():
    secret = Secret("hunter2-hunter2", "MY_BOT")
    assert "hunter2" not in f"{secret} {secret!r}" + str([secret]) + str({"a": secret})
    assert redact("x hunter2-hunter2 y") == "x *** y"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps({"a": secret})


def test_the_same_state_serves_another_process(tmp_path):
    """A fingerprint of the destination is all that the state knows of a secret."""
    world = World(NOON_MS)
    with FakeTelegram(token=TOKEN) as phone:
        channel: Any = telegram_to(phone, world.clock, token=TOKEN)
        phone.script("sendMessage", refusal(403, "Forbidden: bot was blocked by the user"))
        world.channels = [channel]
        AlertService.on_table(world.state, world.channels, world.settings, world.clock).handle(volume_spike())
    rows = world.state.query("CHANNELS")
    assert rows[0]["fingerprint"] == channel.fingerprint
    assert_clean(json.dumps(rows), "the state")
