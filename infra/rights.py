"""Least privilege in one place: each right as explicit actions on one resource, never a wildcard action."""

from __future__ import annotations

from aws_cdk import Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from shared.settings import Settings

TABLE_READ = ("dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query")
# A transaction needs the rights of the writes in it, and the check of a condition is one of them.
TABLE_WRITE = ("dynamodb:BatchWriteItem", "dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:PutItem")


def allow(role: iam.IRole, actions: tuple[str, ...], *resources: str) -> None:
    role.add_to_principal_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources)))


def allow_logs(role: iam.IRole, group: logs.ILogGroup) -> None:
    allow(role, ("logs:CreateLogStream", "logs:PutLogEvents"), group.log_group_arn)


def allow_table(role: iam.IRole, table: dynamodb.ITable, *, write: bool) -> None:
    allow(role, TABLE_READ + TABLE_WRITE if write else TABLE_READ, table.table_arn)


def allow_publish(role: iam.IRole, topic: sns.ITopic) -> None:
    allow(role, ("sns:Publish",), topic.topic_arn)


def allow_emit(role: iam.IRole, bus: events.IEventBus) -> None:
    allow(role, ("events:PutEvents",), bus.event_bus_arn)


def allow_reports(role: iam.IRole, bucket: s3.IBucket) -> None:
    allow(role, ("s3:PutObject",), bucket.arn_for_objects("reports/*"))


def allow_secret(scope: Construct, role: iam.IRole, settings: Settings, name: str) -> None:
    """Let the role read one secret by its name; the managed key of its store needs no right of its own."""
    full = settings.aws.secret_prefix + name
    stack = Stack.of(scope)
    if settings.aws.secret_store == "ssm":  # noqa: S105 - the store's name
        arn = stack.format_arn(service="ssm", resource="parameter", resource_name=full.lstrip("/"))
        allow(role, ("ssm:GetParameter",), arn)
    else:  # its ARN ends with six characters that nobody knows beforehand
        base = stack.format_arn(service="secretsmanager", resource="secret").rstrip("/")
        allow(role, ("secretsmanager:GetSecretValue",), f"{base}:{full}-??????")
