"""A real `cdk deploy` of data and jobs to an emulated account, twice, and `cdk destroy`; the CLI is the pinned one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import boto3
import pytest

from tests.infra.moto_server import REGION, account_env, moto_server

pytestmark = [pytest.mark.aws, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
CDK = ROOT / "node_modules" / "aws-cdk" / "bin" / "cdk"
APP = """
import sys
from pathlib import Path
from aws_cdk import App
from infra.app import build, context
from shared.settings_loader import parse_settings
from tests.infra.synths import parts
app = App(context=context(), outdir=sys.argv[1], analytics_reporting=False)
tree = {"api": {"enabled": False}, "aws": {"region": "eu-central-1", "streamer": {"enabled": False}}}
build(app, parse_settings(tree), parts(Path(sys.argv[1]).parent / "code"))
app.synth()
"""


def cdk(words: list[str], out: Path, address: str) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    assert node
    return subprocess.run(
        [node, str(CDK), *words, "--app", str(out), "--no-notices", "--no-version-reporting", "--ci", "--no-color"],
        env={**os.environ, **account_env(address), "CDK_DISABLE_VERSION_CHECK": "1", "HOME": str(out.parent)},
        cwd=out.parent, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.mark.skipif(not CDK.exists(), reason="needs `npm ci`")
def test_deployed_twice_and_destroyed(tmp_path: Path) -> None:
    import sys

    out = tmp_path / "cdk.out"
    subprocess.run([sys.executable, "-c", APP, str(out)], cwd=ROOT, check=True, capture_output=True, timeout=240)
    with moto_server() as address:
        cloud = boto3.client("cloudformation", endpoint_url=address, region_name=REGION)
        account = f"aws://123456789012/{REGION}"
        done = cdk(["bootstrap", account], out, address)
        assert done.returncode == 0, done.stderr[-3000:]
        deploy = ["deploy", "--all", "--method=direct", "--require-approval", "never"]
        first = cdk(deploy, out, address)
        assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-3000:]
        stacks = {one["StackName"]: one for one in cloud.describe_stacks()["Stacks"]}
        assert {"TapewatchData", "Tapewatch"} <= stacks.keys()
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stacks["Tapewatch"]["Outputs"]}
        functions = boto3.client("lambda", endpoint_url=address, region_name=REGION).list_functions()["Functions"]
        assert outputs["KlineBarsName"] in {one["FunctionName"] for one in functions}
        events = boto3.client("events", endpoint_url=address, region_name=REGION)
        rules = events.list_rules(EventBusName=outputs["BusName"])["Rules"]
        assert len(rules) == 3
        before = json.dumps(cloud.get_template(StackName="Tapewatch")["TemplateBody"], sort_keys=True)
        second = cdk(deploy, out, address)
        assert second.returncode == 0, second.stderr[-3000:]
        assert (second.stdout + second.stderr).count("(no changes)") == 2
        assert json.dumps(cloud.get_template(StackName="Tapewatch")["TemplateBody"], sort_keys=True) == before
        shown = cdk(["diff", "--all"], out, address)
        assert "Number of stacks with differences: 0" in shown.stdout + shown.stderr
        gone = cdk(["destroy", "--all", "--force"], out, address)
        assert gone.returncode == 0, gone.stderr[-3000:]
        left = {one["StackName"] for one in cloud.describe_stacks()["Stacks"]}
        assert left.isdisjoint({"Tapewatch", "TapewatchData"})
