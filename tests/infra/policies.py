"""A small simulator of IAM: evaluates the policies of a template as AWS does, for the kinds of statements in it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ACCOUNT, REGION, PARTITION = "123456789012", "eu-central-1", "aws"
_ARNS = {
    "AWS::DynamoDB::Table": "dynamodb:{r}:{a}:table/{n}",
    "AWS::S3::Bucket": "s3:::{n}",
    "AWS::SQS::Queue": "sqs:{r}:{a}:{n}",
    "AWS::SNS::Topic": "sns:{r}:{a}:{n}",
    "AWS::Events::EventBus": "events:{r}:{a}:event-bus/{n}",
    "AWS::Lambda::Function": "lambda:{r}:{a}:function:{n}",
    "AWS::Logs::LogGroup": "logs:{r}:{a}:log-group:{n}:*",
    "AWS::ECR::Repository": "ecr:{r}:{a}:repository/{n}",
    "AWS::CodeBuild::Project": "codebuild:{r}:{a}:project/{n}",
    "AWS::IAM::Role": "iam::{a}:role/{n}",
}


def arn_of(kind: str, name: str) -> str:
    return f"arn:{PARTITION}:" + _ARNS.get(kind, "other:{r}:{a}:{n}").format(r=REGION, a=ACCOUNT, n=name)


@dataclass
class Resolver:
    """Gives each resource of the templates its logical id as its name, and resolves what refers to it."""

    templates: tuple[Mapping[str, Any], ...]
    resources: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    exports: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for template in self.templates:
            self.resources |= template["Resources"]
            for output in template.get("Outputs", {}).values():
                if "Export" in output:
                    self.exports[output["Export"]["Name"]] = output["Value"]

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.resolve(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "Fn::ImportValue" in value:
            return self.resolve(self.exports[value["Fn::ImportValue"]])
        if "Fn::Join" in value:
            separator, parts = value["Fn::Join"]
            return separator.join(str(self.resolve(part)) for part in parts)
        if "Ref" in value:
            return self._reference(value["Ref"])
        if "Fn::GetAtt" in value:
            name, attribute = value["Fn::GetAtt"]
            kind = self.resources[name]["Type"]
            return arn_of(kind, name) if attribute.endswith("Arn") else f"{name}.{attribute}"
        return {key: self.resolve(one) for key, one in value.items()}

    def _reference(self, name: str) -> str:
        known = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": PARTITION}
        if name in known:
            return known[name]
        kind = self.resources.get(name, {}).get("Type", "")
        return arn_of(kind, name) if kind == "AWS::SNS::Topic" else name

    def statements(self, role: str) -> list[Mapping[str, Any]]:
        """Return a role's own statements and those of bucket policies that name it."""
        found = []
        for one in self.resources.values():
            told = one.get("Properties", {})
            if one["Type"] == "AWS::IAM::Policy" and {"Ref": role} in told.get("Roles", []):
                found += [self.resolve(each) for each in told["PolicyDocument"]["Statement"]]
            if one["Type"] == "AWS::S3::BucketPolicy":
                for each in told["PolicyDocument"]["Statement"]:
                    resolved = self.resolve(each)
                    if resolved.get("Principal", {}) == {"AWS": arn_of("AWS::IAM::Role", role)}:
                        found.append(resolved)
        return found

    def role_of(self, function: str) -> str:
        return str(self.resources[function]["Properties"]["Role"]["Fn::GetAtt"][0])


def allowed(statements: list[Mapping[str, Any]], action: str, resource: str) -> bool:
    """Decide as AWS does: an explicit Deny wins, then any Allow, else no. A condition is taken as not met."""
    hits = [one for one in statements if _matches(one, action, resource)]
    if any(one["Effect"] == "Deny" for one in hits):
        return False
    return any(one["Effect"] == "Allow" and "Condition" not in one for one in hits)


def _matches(statement: Mapping[str, Any], action: str, resource: str) -> bool:
    actions = (fnmatch.fnmatchcase(action.lower(), one.lower()) for one in each(statement["Action"]))
    resources = (fnmatch.fnmatchcase(resource, one) for one in each(statement["Resource"]))
    return any(actions) and any(resources)


def each(value: Any) -> Iterator[str]:
    yield from value if isinstance(value, list) else [value]
