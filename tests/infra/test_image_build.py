"""The streamer's image built in the account: order, rights, what is built, and what CloudFormation hears."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from functions import image_build
from infra.app import build_in_account
from infra.constructs.image_build import COMMANDS, ENDED
from shared.settings import Settings
from shared.settings_loader import parse_settings
from tests.infra.policies import Resolver, allowed, arn_of
from tests.infra.synths import Synth, make_synth

pytestmark = pytest.mark.aws


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Synth:
    return make_synth(Settings(), tmp_path_factory.mktemp("built") / "code", in_account=True)


def test_the_service_waits_for_the_first_build(built: Synth) -> None:
    [(image, told)] = built.of("Custom::StreamerImage").items()
    [service] = built.of("AWS::ECS::Service").values()
    assert image in service["DependsOn"]
    assert told["Properties"]["Tag"] == "0123456789abcdef"
    assert int(told["Properties"]["ServiceTimeout"]) == 2400
    [task] = [one["Properties"] for one in built.of("AWS::ECS::TaskDefinition").values()]
    [repository] = built.of("AWS::ECR::Repository")
    text = json.dumps(task["ContainerDefinitions"][0]["Image"])
    assert repository in text
    assert ":0123456789abcdef" in text


def test_the_build_is_arm64_short_and_pushes_into_the_stacks_own_repository(built: Synth) -> None:
    [project] = [one["Properties"] for one in built.of("AWS::CodeBuild::Project").values()]
    assert project["Environment"]["Type"] == "ARM_CONTAINER"
    assert (project["TimeoutInMinutes"], project["QueuedTimeoutInMinutes"], project["ConcurrentBuildLimit"]) == (
        20,
        15,
        1,
    )
    spec = json.loads(project["Source"]["BuildSpec"])
    assert spec["phases"] == {name: {"commands": words} for name, words in COMMANDS.items()}
    [repository] = [one["Properties"] for one in built.of("AWS::ECR::Repository").values()]
    assert repository["EmptyOnDelete"] is True
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert "imageCountMoreThan" in repository["LifecyclePolicy"]["LifecyclePolicyText"]


def test_every_end_of_a_build_is_heard(built: Synth) -> None:
    rules = [one["Properties"]["EventPattern"] for one in built.of("AWS::Events::Rule").values()]
    [pattern] = [one for one in rules if one["source"] == ["aws.codebuild"]]
    assert pattern["detail"]["build-status"] == list(ENDED)
    [project] = built.of("AWS::CodeBuild::Project")
    assert pattern["detail"]["project-name"] == [{"Ref": project}]


def test_builder_and_starter_may_do_their_work_and_nothing_else(built: Synth) -> None:
    resolver = Resolver(built.both)
    [repository] = built.of("AWS::ECR::Repository")
    [project] = built.of("AWS::CodeBuild::Project")
    own_repository, own_project = arn_of("AWS::ECR::Repository", repository), arn_of("AWS::CodeBuild::Project", project)
    [builder] = [name for name in built.of("AWS::IAM::Role") if "StreamerImageBuilder" in name]
    [starter] = [name for name in built.of("AWS::IAM::Role") if "StreamerImageStarterRole" in name]
    may = {
        builder: [("ecr:PutImage", own_repository), ("ecr:UploadLayerPart", own_repository)],
        starter: [("codebuild:StartBuild", own_project), ("codebuild:BatchGetBuilds", own_project),
                  ("ecr:DescribeImages", own_repository)],
    }  # fmt: skip
    for role, wanted in may.items():
        own = resolver.statements(role)
        for action, resource in wanted:
            assert allowed(own, action, resource), (role, action)
        for action, resource in (
            ("ecr:PutImage", arn_of("AWS::ECR::Repository", "other")),
            ("ecr:DeleteRepository", own_repository),
            ("codebuild:StartBuild", arn_of("AWS::CodeBuild::Project", "other")),
            ("codebuild:UpdateProject", own_project),
            ("dynamodb:GetItem", arn_of("AWS::DynamoDB::Table", "TableCD117FA1")),
            ("iam:PassRole", arn_of("AWS::IAM::Role", builder)),
            ("s3:GetObject", "arn:aws:s3:::reports/x"),
        ):
            assert not allowed(own, action, resource), (role, action)
    assert not allowed(resolver.statements(starter), "ecr:PutImage", own_repository)
    source = [one for one in resolver.statements(builder) if "s3:GetObject" in one["Action"]]
    assert [one["Resource"].endswith(".zip") and "*" not in one["Resource"] for one in source] == [True]


def test_without_an_engine_the_account_builds_unless_told_otherwise(tmp_path: Path) -> None:
    engine = tmp_path / "docker"
    engine.write_text("#!/bin/sh\n")
    engine.chmod(0o755)
    with_engine, without = {"PATH": str(tmp_path)}, {"PATH": str(tmp_path / "none")}
    assert [build_in_account(Settings(), env) for env in (with_engine, without)] == [False, True]
    assert build_in_account(Settings(), {**with_engine, "CDK_DOCKER": "finch"})
    for word, wanted in (("docker", False), ("codebuild", True)):
        settings = parse_settings({"aws": {"streamer": {"build": word}}})
        assert [build_in_account(settings, env) for env in (with_engine, without)] == [wanted, wanted]


# --- what CloudFormation hears -----------------------------------------------------------------------------------
@pytest.fixture
def formation() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/answer", heard
    server.shutdown()
    server.server_close()


class FakeAws:
    """CodeBuild and ECR as far as the function uses them."""

    exceptions = SimpleNamespace(ImageNotFoundException=KeyError)

    def __init__(self) -> None:
        self.images: set[str] = set()
        self.builds: dict[str, dict[str, Any]] = {}
        self.broken = False

    def describe_images(self, **words: Any) -> dict[str, Any]:
        if words["imageIds"][0]["imageTag"] not in self.images:
            raise self.exceptions.ImageNotFoundException
        return {"imageDetails": [{}]}

    def start_build(self, **words: Any) -> None:
        if self.broken:
            raise RuntimeError("no capacity")
        # The same token starts no second build.
        self.builds.setdefault(f"streamer:{words['idempotencyToken']}", words)

    def batch_get_builds(self, *, ids: list[str]) -> dict[str, Any]:
        return {
            "builds": [
                {
                    "environment": {"environmentVariables": self.builds[one]["environmentVariablesOverride"]},
                    "phases": [
                        {"phaseType": "BUILD", "phaseStatus": "FAILED", "contexts": [{"message": "exit status 1"}]}
                    ],
                    "logs": {"deepLink": "https://log.example"},
                }
                for one in ids
            ]
        }


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    import boto3

    fake = FakeAws()
    monkeypatch.setattr(boto3, "client", lambda name: fake)
    return fake


def request(url: str, kind: str = "Create") -> dict[str, Any]:
    wanted = {"Project": "streamer", "Repository": "images", "Source": "assets/x.zip", "Tag": "t1"}
    return {"RequestType": kind, "ResponseURL": url, "StackId": "s", "RequestId": "r", "LogicalResourceId": "l",
            "ResourceProperties": wanted}  # fmt: skip


def ended(status: str) -> dict[str, Any]:
    arn = "arn:aws:codebuild:eu-central-1:123456789012:build/streamer:r"
    return {"source": "aws.codebuild", "detail": {"build-id": arn, "build-status": status}}


@pytest.mark.parametrize("status", ENDED)
def test_a_build_answers_when_it_ends(
    aws: FakeAws, formation: tuple[str, list[dict[str, Any]]], status: str
) -> None:  # fmt: skip
    url, heard = formation
    for _ in range(2):  # CloudFormation's request may come twice
        assert image_build.lambda_handler(request(url), None) is None
    assert len(aws.builds) == 1
    [started] = aws.builds.values()
    assert (started["sourceLocationOverride"], heard) == ("assets/x.zip", [])
    image_build.lambda_handler(ended(status), None)
    [told] = heard
    assert told["Status"] == ("SUCCESS" if status == "SUCCEEDED" else "FAILED")
    assert (told["StackId"], told["RequestId"], told["LogicalResourceId"]) == ("s", "r", "l")
    assert status == "SUCCEEDED" or ("BUILD: exit status 1" in told["Reason"] and "log.example" in told["Reason"])


def test_what_is_there_is_not_built_again_and_what_cannot_start_fails(
    aws: FakeAws, formation: tuple[str, list[dict[str, Any]]]
) -> None:
    url, heard = formation
    image_build.lambda_handler(request(url, "Delete"), None)
    aws.images = {"t1"}
    image_build.lambda_handler(request(url, "Update"), None)
    aws.images, aws.broken = set(), True
    image_build.lambda_handler(request(url), None)
    assert [one["Status"] for one in heard] == ["SUCCESS", "SUCCESS", "FAILED"]
    assert "no capacity" in heard[2]["Reason"]
    assert aws.builds == {}
    aws.builds["streamer:r"] = {"environmentVariablesOverride": [{"name": "IMAGE_TAG", "value": "x"}]}
    assert image_build.lambda_handler(ended("FAILED"), None) is None  # a build that a person started
