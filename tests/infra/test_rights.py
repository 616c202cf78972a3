"""Rights: the template read (no wildcard, one role each), checked by cdk-nag and cfn-lint, and evaluated."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.acknowledged import ACCEPTED
from shared.errors import ConfigurationError
from tests.infra.policies import Resolver, allowed, arn_of, each
from tests.infra.synths import Synth

pytestmark = pytest.mark.aws

ANY_RESOURCE = {"ecr:GetAuthorizationToken"}
"""Actions that know no resource; the only ones that may stand with `*`."""


def statements(synth: Synth) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for template in synth.both:
        for name, one in template["Resources"].items():
            for statement in one.get("Properties", {}).get("PolicyDocument", {}).get("Statement", []):
                if one["Type"] == "AWS::IAM::Policy":
                    found.append((name, statement))
    return found


@pytest.mark.parametrize("which", ["synth", "full"])
def test_no_action_is_a_wildcard(which: str, request: pytest.FixtureRequest) -> None:
    """F713."""
    for name, statement in statements(request.getfixturevalue(which)):
        assert not [action for action in each(statement["Action"]) if "*" in action], name


@pytest.mark.parametrize("which", ["synth", "full"])
def test_every_resource_is_named(which: str, request: pytest.FixtureRequest) -> None:
    """F713."""
    for name, statement in statements(request.getfixturevalue(which)):
        if "*" in list(each(statement["Resource"])):
            assert set(each(statement["Action"])) <= ANY_RESOURCE, name


def test_each_function_has_a_role_of_its_own_without_managed_policies(full: Synth) -> None:
    roles = [json.dumps(one["Properties"]["Role"]) for one in full.of("AWS::Lambda::Function").values()]
    assert len(roles) == len(set(roles))
    for one in full.of("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in one["Properties"]


def test_the_rights_of_each_function_are_those_of_the_table_of_jobs(full: Synth) -> None:
    resolver = Resolver(full.both)
    [table] = full.data.find_resources("AWS::DynamoDB::Table")
    arn = arn_of("AWS::DynamoDB::Table", table)
    for name, one in full.of("AWS::Lambda::Function").items():
        own = resolver.statements(resolver.role_of(name))
        handler = one["Properties"]["Handler"]
        assert not allowed(own, "dynamodb:DeleteTable", arn), handler
        assert not allowed(own, "dynamodb:UpdateTable", arn), handler
        assert not allowed(own, "dynamodb:Scan", arn), handler
        assert not allowed(own, "dynamodb:PutItem", arn_of("AWS::DynamoDB::Table", "other")), handler
        assert not allowed(own, "sns:Publish", arn_of("AWS::SNS::Topic", "foreign")), handler
        assert not allowed(own, "ssm:GetParameter", "arn:aws:ssm:eu-central-1:123456789012:parameter/other"), handler
        assert not allowed(own, "iam:PassRole", "arn:aws:iam::123456789012:role/any"), handler
        reads_only = handler in ("functions.api.lambda_handler", "functions.report.lambda_handler")
        if reads_only:
            assert allowed(own, "dynamodb:Query", arn)
            assert not allowed(own, "dynamodb:PutItem", arn), handler


def test_reports_are_written_by_one_and_read_by_another(full: Synth) -> None:
    resolver = Resolver(full.both)
    [bucket] = full.data.find_resources("AWS::S3::Bucket")
    arn = arn_of("AWS::S3::Bucket", bucket)
    rights = {}
    for name, one in full.of("AWS::Lambda::Function").items():
        own = resolver.statements(resolver.role_of(name))
        keys = {"page": f"{arn}/reports/x.html", "told": f"{arn}/reports/told/x.json", "model": f"{arn}/models/x"}
        may = {
            f"{word} {what}"
            for what, key in keys.items()
            for word, action in (("read", "s3:GetObject"), ("write", "s3:PutObject"), ("delete", "s3:DeleteObject"))
            if allowed(own, action, key)
        }
        if may:
            rights[one["Properties"]["Handler"].split(".")[1]] = may
    reads = {"read page", "read told"}
    assert rights == {"report": {"write page", "write told"} | reads, "api": reads}


def test_only_who_alerts_reads_the_webhook_secret_or_looks_for_it(
    synth_of: Callable[..., Synth],
) -> None:
    hook = {"enabled": True, "url": "https://hooks.example.org/x", "secret": "/tapewatch/webhook-secret"}
    synth = synth_of({"alerts": {"webhook": hook}})
    resolver = Resolver(synth.both)
    secret = "arn:aws:ssm:eu-central-1:123456789012:parameter/tapewatch/webhook-secret"
    off = "TAPEWATCH_ALERTS__WEBHOOK__ENABLED"
    readers = set()
    for name, one in synth.of("AWS::Lambda::Function").items():
        handler = one["Properties"]["Handler"]
        may = allowed(resolver.statements(resolver.role_of(name)), "ssm:GetParameter", secret)
        if "Environment" not in one["Properties"] or not handler.startswith("functions."):
            assert not may, handler
            continue
        assert (one["Properties"]["Environment"]["Variables"].get(off) == "false") is not may, handler
        readers |= {handler.split(".")[1]} if may else set()
    assert {"volume_spike", "sector", "watchdog", "redelivery"} <= readers
    assert readers.isdisjoint({"api", "kline_bars", "features", "backfill"})


ARNS = {
    "ssm:GetParameter": "arn:aws:ssm:eu-central-1:123456789012:parameter/elsewhere/hook",
    "secretsmanager:GetSecretValue": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:elsewhere/hook-AbC123",
}


@pytest.mark.parametrize("action", ARNS)
def test_a_secret_may_be_named_by_its_arn(synth_of: Callable[..., Synth], action: str) -> None:
    arn = ARNS[action]
    synth = synth_of({"alerts": {"webhook": {"enabled": True, "url": "https://hooks.example.org/x", "secret": arn}}})
    resolver = Resolver(synth.both)
    [watchdog] = [
        name
        for name, one in synth.of("AWS::Lambda::Function").items()
        if one["Properties"]["Handler"] == "functions.watchdog.lambda_handler"
    ]
    statements = resolver.statements(resolver.role_of(watchdog))
    assert allowed(statements, action, arn)
    assert not allowed(statements, action, arn.replace("hook", "other"))


@pytest.mark.parametrize("arn", ["arn:aws:ssm:eu-central-1:123456789012:parameter/*", "arn:aws:s3:::bucket", "A_NAME"])
def test_a_name_of_no_secret_on_aws_is_refused(synth_of: Callable[..., Synth], arn: str) -> None:
    hook = {"enabled": True, "url": "https://hooks.example.org/x", "secret": arn}
    with pytest.raises(ConfigurationError, match=r"alerts\.webhook\.secret names"):
        synth_of({"alerts": {"webhook": hook}})


def test_only_who_speaks_to_telegram_reads_its_token(full: Synth) -> None:
    resolver = Resolver(full.both)
    token = "arn:aws:ssm:eu-central-1:123456789012:parameter/tapewatch/telegram-bot-token"
    readers = {
        one["Properties"]["Handler"]
        for name, one in full.of("AWS::Lambda::Function").items()
        if allowed(resolver.statements(resolver.role_of(name)), "ssm:GetParameter", token)
    }
    assert readers == {"functions.telegram.lambda_handler"}


def test_the_simulator_denies_what_it_should() -> None:
    own = [
        {"Effect": "Allow", "Action": ["s3:Put*"], "Resource": "arn:aws:s3:::b/reports/*"},
        {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b/reports/secret"},
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", "Condition": {"Bool": {"x": "true"}}},
    ]
    assert allowed(own, "s3:PutObject", "arn:aws:s3:::b/reports/1")
    assert not allowed(own, "s3:PutObject", "arn:aws:s3:::b/reports/secret")
    assert not allowed(own, "s3:PutObject", "arn:aws:s3:::b/models/1")
    assert not allowed(own, "s3:GetObject", "arn:aws:s3:::b/reports/1")


# --- cdk-nag and cfn-lint ----------------------------------------------------------------------------------------
def test_what_is_accepted_is_short_and_has_reasons() -> None:
    assert len(ACCEPTED) <= 10
    assert len({one.rule for one in ACCEPTED}) == len(ACCEPTED)
    assert all(len(one.reason) > 30 for one in ACCEPTED)
    assert {one.rule.split("::")[1].split("[")[0] for one in ACCEPTED} == {
        "AwsSolutions-IAM5",
        "AwsSolutions-L1",
        "AwsSolutions-S1",
        "AwsSolutions-CFR3",
        "AwsSolutions-CFR4",
        "AwsSolutions-ECS4",
        "Serverless-LambdaLatestVersion",
        "Serverless-SQSRedrivePolicy",
        "Serverless-LambdaEventSourceMappingDestination",
    }


CODE = """
import sys
from pathlib import Path
from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks, ServerlessChecks
import infra.app
from infra.app import build, context
from tests.infra.synths import parts, FULL
from shared.settings_loader import parse_settings
app = App(context=context(), outdir=sys.argv[1], analytics_reporting=False)
folder = Path(sys.argv[1]).parent / "code"
if sys.argv[3:]:
    infra.app.acknowledge_all = lambda *words: None
settings = parse_settings(FULL if sys.argv[2] == "full" else {})
build(app, settings, parts(folder, in_account=sys.argv[2] == "built in the account"))
Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
app.synth()
"""


def nag(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE, str(folder), *words], capture_output=True, text=True, check=False, timeout=300,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("which", ["default", "full", "built in the account"])
def test_cdk_nag_finds_no_unaccepted_error_and_cfn_lint_none(which: str, tmp_path: Path) -> None:
    done = nag(tmp_path / "out", which)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    templates = sorted(map(str, (tmp_path / "out").glob("*.template.json")))
    assert len(templates) == 2
    lint = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), "--non-zero-exit-code", "error", *templates],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert lint.returncode == 0, lint.stdout


@pytest.mark.slow
def test_cdk_nag_does_bite(tmp_path: Path) -> None:
    done = nag(tmp_path / "out", "default", "without acknowledgements")
    assert done.returncode != 0
    assert "AwsSolutions-L1" in done.stdout + done.stderr
