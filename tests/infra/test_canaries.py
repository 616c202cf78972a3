"""F710: secrets planted wherever a deployment could pick them up are in nothing that a synthesis writes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from infra.token import token_hash
from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.settings_loader import parse_settings

pytestmark = pytest.mark.aws

CANARIES = {
    "CANARY_BOT": "7654321:CANARY-telegram-token-AAAAAAAAAAAAAA",
    "CANARY_HOOK": "CANARY-webhook-key-BBBBBBBBBBBBBBBBBBBB",
    "CANARY_KEY": "CANARY-exchange-key-CCCCCCCCCCCCCCCCCC",
    "CANARY_API": "CANARY-api-token-DDDDDDDDDDDDDDDDDDDD",
    "AWS_SECRET_ACCESS_KEY": "CANARY-aws-key-EEEEEEEEEEEEEEEEEEEEEEEEE",
}
NAMED: dict[str, Any] = {
    "exchange": {"api_key_secret": "CANARY_KEY"},
    "api": {"token_secret": "CANARY_API"},
    "alerts": {
        "telegram": {"enabled": True, "chat_id": 7, "bot_token": "CANARY_BOT"},
        "webhook": {"enabled": True, "url": "https://hooks.example.org/x", "secret": "CANARY_HOOK"},
    },
}


def test_f710_no_planted_secret_is_in_templates_assets_or_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.infra.synths import make_synth

    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    on_aws = {
        "exchange": {"api_key_secret": "/tapewatch/key"},
        "api": {"token_secret": "secretsmanager:api"},
        "alerts": {
            "telegram": NAMED["alerts"]["telegram"] | {"bot_token": "/tapewatch/bot"},
            "webhook": NAMED["alerts"]["webhook"] | {"secret": "/tapewatch/hook"},
        },
    }
    with pytest.raises(ConfigurationError, match="on AWS name a parameter") as refused:
        make_synth(parse_settings(NAMED), tmp_path / "named")
    _assert_clean(str(refused.value).encode(), "an error")
    made = make_synth(parse_settings(on_aws), tmp_path / "code")
    out = Path(made.app.synth().directory)
    written = [path for path in out.rglob("*") if path.is_file()]
    assert any(path.name.endswith(".template.json") for path in written)
    for path in written:
        _assert_clean(path.read_bytes(), path.name)
    shown = capfd.readouterr()
    _assert_clean((shown.out + shown.err).encode(), "the output of the synthesis")


def test_f710_of_the_api_token_only_the_hash_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is shown once, with the first synthesis."""
    kept = tmp_path / "kept" / "api-token.sha256"
    first = token_hash(Settings(), kept)
    shown = capfd.readouterr()
    token = (shown.out + shown.err).split("x-api-key: ")[1].split()[0]
    assert hashlib.sha256(token.encode()).hexdigest() == first
    assert token not in kept.read_text()
    assert token_hash(Settings(), kept) == first
    again = capfd.readouterr()
    assert token not in again.out + again.err


def _assert_clean(data: bytes, where: str) -> None:
    for name, value in CANARIES.items():
        assert value.encode() not in data, f"{name} is in {where}"
