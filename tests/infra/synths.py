"""One synthesis per kind of deployment and test run. Code and image are stand-ins; test_bundles.py builds real ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")

from aws_cdk import App
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_lambda as lambda_
from aws_cdk.assertions import Template

from infra.app import build, context, effective
from infra.tapewatch_stack import ImageSource, Parts
from shared.settings import Settings

TOKEN_SHA256 = "ab" * 32

FULL = {
    "aws": {
        "subscriptions": [
            {"protocol": "email", "endpoint": "me@example.org", "filter": {"severity": ["critical"]}},
            {"protocol": "sms", "endpoint": "+49301234567"},
            {"protocol": "https", "endpoint": "https://hooks.example.org/tapewatch"},
            {"protocol": "sqs", "endpoint": "arn:aws:sqs:eu-central-1:123456789012:inbox"},
        ],
        "alarm_emails": ["ops@example.org"],
        "dashboard": True,
        "streamer": {"spot": True},
    },
    "streamer": {"shards": 3},
    "alerts": {"telegram": {"enabled": True, "chat_id": 7, "bot_token": "/tapewatch/telegram-bot-token"}},
}


@dataclass(frozen=True)
class Synth:
    """Both templates of one deployment."""

    data: Template
    main: Template
    app: App

    @property
    def both(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.data.to_json(), self.main.to_json()

    def of(self, kind: str) -> dict[str, Any]:
        """Return the main stack's resources of a type by logical id."""
        return dict(self.main.find_resources(kind))


def parts(code_folder: Path, *, in_account: bool = False) -> Parts:
    """Return stand-ins; with `in_account` the image is built in the account."""
    code_folder.mkdir(exist_ok=True)
    (code_folder / "index.py").write_text("")
    code = lambda_.Code.from_asset(str(code_folder))
    image: ecs.ContainerImage | ImageSource = ecs.ContainerImage.from_registry("example/streamer:1")
    if in_account:
        image = ImageSource(code_folder, "0123456789abcdef", code)
    return Parts(code, code, "1", image, TOKEN_SHA256)


def make_synth(settings: Settings, code_folder: Path, region: str | None = None, *, in_account: bool = False) -> Synth:
    settings, notes = effective(settings, region)
    app = App(context=context(), analytics_reporting=False)
    data, main = build(app, settings, parts(code_folder, in_account=in_account), notes)
    return Synth(Template.from_stack(data), Template.from_stack(main), app)
