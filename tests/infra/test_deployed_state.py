"""`--aws`: the owner's commands work on the deployment's table, found by its stack, and say what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from local import cli
from local.evaluation.keeping import keep_for_page
from shared.alerts.policy import CooldownState
from shared.alerts.service import AlertService
from shared.clock import ManualClock, SystemClock
from shared.detection.reading import Detector, Direction, Signal
from shared.jobs.overview import QUALITY
from shared.market.model import Market
from shared.settings import AwsSettings, Settings
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.cooldowns import CooldownRepository
from shared.storage.dynamodb import DynamoTable
from shared.storage.mutes import MuteRepository

pytestmark = pytest.mark.aws  # moto's CloudFormation needs the packages of that level

REGION = "eu-central-1"
TEMPLATE = {
    "Resources": {
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
                "KeySchema": [
                    {"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"},
                ],
                "BillingMode": "PAY_PER_REQUEST",
            },
        }
    },
    "Outputs": {"TableName": {"Value": {"Ref": "Table"}}},
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    path = tmp_path / "tapewatch.yaml"
    path.write_text(f"aws: {{region: {REGION}}}\n")
    with mock_aws():
        yield str(path)


@pytest.fixture
def table(config: str) -> DynamoTable:
    cloud = boto3.client("cloudformation", region_name=REGION)
    cloud.create_stack(StackName="TapewatchData", TemplateBody=json.dumps(TEMPLATE))
    [stack] = cloud.describe_stacks(StackName="TapewatchData")["Stacks"]
    name = stack["Outputs"][0]["OutputValue"]
    return DynamoTable(boto3.client("dynamodb", region_name=REGION), name)


def test_a_symbol_is_muted_and_released_on_the_deployment(
    config: str, table: DynamoTable, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", config, "--aws"]
    assert cli.main([*words, "mute", "btc", "--for", "2h", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    [mute] = MuteRepository(table).active(SystemClock().now_ms())
    assert (mute.symbol, mute.mute_id) == ("BTCUSDT", row["id"])
    assert cli.main([*words, "mute", "btc", "--off"]) == 0
    assert MuteRepository(table).active(SystemClock().now_ms()) == []


def test_a_cooldown_is_listed_and_lifted_on_the_deployment(
    config: str, table: DynamoTable, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ms = SystemClock().now_ms()
    service = AlertService.on_table(table, [], Settings(), ManualClock(now_ms))
    signal = Signal(Detector.SECTOR_INITIATOR, Market.USDM, "XMRUSDT", now_ms, now_ms, {"status": "CONFIRMED"}, {},
                    direction=Direction.UP)  # fmt: skip
    assert service.handle(signal).alert is not None
    words = ["--config", config, "--aws", "cooldowns"]
    assert cli.main(words) == 0
    assert "sector_initiator" in capsys.readouterr().out
    assert cli.main([*words, "--release", "xmr", "--detector", "pump", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert cli.main([*words, "--release", "xmr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    state = CooldownRepository(table).get("sector_initiator|XMRUSDT")
    assert state.sent() == []
    assert CooldownRepository(table).get("never|used") == CooldownState()


def test_an_evaluation_is_kept_on_the_deployment(table: DynamoTable) -> None:
    report = {"created": "2026-01-01T00:00:00Z", "truth": "outcomes", "data_sha256": "ab" * 32, "inputs": 1,
              "results": []}  # fmt: skip
    assert keep_for_page(Settings(aws=AwsSettings(region=REGION)), report, aws=True)
    assert (CheckpointRepository(table).get(QUALITY) or {})["note"] == "truth: outcomes"


def test_what_is_missing_is_said(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--config", config, "--aws", "status"]) == 3
    assert "there is no stack TapewatchData" in json.loads(capsys.readouterr().err)["error"]
    assert cli.main(["--config", config, "--aws", "run"]) == 2
    assert "runs on this machine" in json.loads(capsys.readouterr().err)["error"]
