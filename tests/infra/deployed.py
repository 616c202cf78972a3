"""The synthesised templates created on moto, and the deployed functions called as their schedules and rules would."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3

from functions.bootstrap import production_dependencies
from shared.clock import iso_utc, parse_utc_ms
from tests.fakes import FakeContext
from tests.infra.moto_server import mend
from tests.infra.policies import Resolver, allowed, arn_of

REGION = "eu-central-1"
ASSETS = f"cdk-hnb659fds-assets-123456789012-{REGION}"
_WRITES = {"Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem", "ConditionCheck": "ConditionCheckItem"}


@dataclass
class Call:
    """One call to AWS: the rights that it needs, as actions on resources named by their logical ids."""

    function: str
    service: str
    operation: str
    rights: list[tuple[str, str]]


@dataclass
class Deployment:
    templates: tuple[dict[str, Any], dict[str, Any]]
    resolver: Resolver
    logical: dict[str, str]
    """Physical name -> logical id."""
    physical: dict[str, str]
    calls: list[Call] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    running: str = ""
    at_ms: int = 0

    def function(self, module: str) -> str:
        """Return the logical id of the function whose handler is in `functions.<module>`."""
        for name, one in self.templates[1]["Resources"].items():
            if (
                one["Type"] == "AWS::Lambda::Function"
                and one["Properties"]["Handler"] == f"functions.{module}.lambda_handler"
            ):
                return str(name)
        raise KeyError(module)

    def environment(self, module: str) -> dict[str, str]:
        """Return the variables that the deployed function has."""
        name = self.physical[self.function(module)]
        told = boto3.client("lambda", region_name=REGION).get_function_configuration(FunctionName=name)
        return dict(told.get("Environment", {}).get("Variables", {}))

    def invoke(self, module: str, event: Mapping[str, Any], **more: str) -> dict[str, Any]:
        """Call the handler with the deployed function's environment; then whatever its events lead to."""
        if "scheduled_time" in event:
            self.at_ms = parse_utc_ms(event["scheduled_time"])
        env = {**self.environment(module), **more, "TAPEWATCH_AWS__REGION": REGION}
        handler = importlib.import_module(f"functions.{module}").make_handler(lambda: production_dependencies(env))
        self.running = module
        try:
            answer: dict[str, Any] = handler(dict(event), FakeContext())
        finally:
            self.running = ""
        while self.events:
            fact = self.events.pop(0)
            for target in self.targets(fact):
                self.invoke(target, fact, **more)
        return answer

    def schedule(self, module: str, at_ms: int, **more: str) -> dict[str, Any]:
        """Invoke with the payload of the function's own schedule."""
        logical = self.function(module)
        for one in self.templates[1]["Resources"].values():
            if one["Type"] == "AWS::Scheduler::Schedule":
                target = one["Properties"]["Target"]
                if target["Arn"] == {"Fn::GetAtt": [logical, "Arn"]}:
                    event = json.loads(target["Input"].replace("<aws.scheduler.scheduled-time>", iso_utc(at_ms)))
                    return self.invoke(module, event, **more)
        raise KeyError(module)

    def targets(self, fact: Mapping[str, Any]) -> Iterator[str]:
        for one in self.templates[1]["Resources"].values():
            if one["Type"] == "AWS::Events::Rule":
                pattern = one["Properties"]["EventPattern"]
                if fact["source"] in pattern["source"] and fact["detail-type"] in pattern["detail-type"]:
                    for target in one["Properties"]["Targets"]:
                        function = self.templates[1]["Resources"][target["Arn"]["Fn::GetAtt"][0]]
                        yield function["Properties"]["Handler"].split(".")[1]

    def refused(self) -> list[str]:
        """Return the calls that the calling function's own role does not allow."""
        found = []
        for call in self.calls:
            own = self.resolver.statements(self.resolver.role_of(self.function(call.function)))
            for action, resource in call.rights:
                if not allowed(own, action, resource):
                    found.append(f"{call.function}: {action} on {resource}")
        return sorted(set(found))

    # --- recording -----------------------------------------------------------------------------------------------
    def record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if not self.running:
            return
        service, operation = model.service_model.service_name, model.name
        self.calls.append(Call(self.running, service, operation, list(self.rights(service, operation, params))))
        if (service, operation) == ("events", "PutEvents"):
            for entry in params["Entries"]:
                self.events.append(
                    {
                        "source": entry["Source"],
                        "detail-type": entry["DetailType"],
                        "detail": json.loads(entry["Detail"]),
                        "time": iso_utc(self.at_ms),
                    }
                )

    def rights(self, service: str, operation: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if service == "dynamodb":
            if operation == "TransactWriteItems":
                for one in params["TransactItems"]:
                    for kind, write in one.items():
                        yield f"dynamodb:{_WRITES[kind]}", self.table(write["TableName"])
            elif operation in ("BatchGetItem", "BatchWriteItem"):
                for name in params["RequestItems"]:
                    yield f"dynamodb:{operation}", self.table(name)
            else:
                yield f"dynamodb:{operation}", self.table(params["TableName"])
        elif service == "sns":
            yield f"sns:{operation}", arn_of("AWS::SNS::Topic", self.logical[params["TopicArn"]])
        elif service == "events":
            for entry in params["Entries"]:
                yield "events:PutEvents", arn_of("AWS::Events::EventBus", self.logical[entry["EventBusName"]])
        elif service == "s3":
            bucket = arn_of("AWS::S3::Bucket", self.logical[params["Bucket"]])
            action = "ListBucket" if operation.startswith("ListObjects") else operation
            yield f"s3:{action}", f"{bucket}/{params['Key']}" if "Key" in params else bucket
        elif service == "sqs" and "QueueUrl" in params:
            yield f"sqs:{operation}", arn_of("AWS::SQS::Queue", self.logical.get(params["QueueUrl"], "unknown"))
        else:
            yield f"{service}:{operation}", "*"

    def table(self, name: str) -> str:
        return arn_of("AWS::DynamoDB::Table", self.logical[name])


@contextmanager
def deployed(templates: tuple[dict[str, Any], dict[str, Any]]) -> Iterator[Deployment]:
    """Create both stacks in the mocked account (call within `mock_aws`) and record what the functions call."""
    mend()
    s3 = boto3.client("s3", region_name=REGION)
    s3.create_bucket(Bucket=ASSETS, CreateBucketConfiguration={"LocationConstraint": REGION})
    texts = [json.dumps(one).replace("${AWS::AccountId}", "123456789012").replace("${AWS::Region}", REGION)
             for one in templates]  # fmt: skip
    for key in {match for text in texts for match in _keys(json.loads(text))}:
        s3.put_object(Bucket=ASSETS, Key=key, Body=b"PK\x05\x06" + b"\0" * 18)
    cloud = boto3.client("cloudformation", region_name=REGION)
    logical, physical = {}, {}
    for name, text in zip(("TapewatchData", "Tapewatch"), texts, strict=True):
        cloud.create_stack(StackName=name, TemplateBody=text, Capabilities=["CAPABILITY_IAM"])
        for one in cloud.describe_stack_resources(StackName=name)["StackResources"]:
            if {"LogicalResourceId", "PhysicalResourceId"} <= one.keys():  # what moto passes over lacks one
                logical[one["PhysicalResourceId"]] = one["LogicalResourceId"]
                physical[one["LogicalResourceId"]] = one["PhysicalResourceId"]
    made = Deployment(templates, Resolver(templates), logical, physical)
    boto3.setup_default_session()
    events = boto3._get_default_session().events  # type: ignore[attr-defined]
    events.register("provide-client-params.*", made.record)
    try:
        yield made
    finally:
        boto3.setup_default_session()


def _keys(template: Mapping[str, Any]) -> Iterator[str]:
    for one in template["Resources"].values():
        if one["Type"] == "AWS::Lambda::Function":
            yield one["Properties"]["Code"]["S3Key"]
