"""Least privilege in one place: each right as explicit actions on one resource, never a wildcard action."""

from __future__ import annotations

import re

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from shared.errors import ConfigurationError

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
    # Before it trusts a topic the channel looks whether anybody has subscribed.
    allow(role, ("sns:ListSubscriptionsByTopic", "sns:Publish"), topic.topic_arn)


def allow_emit(role: iam.IRole, bus: events.IEventBus) -> None:
    allow(role, ("events:PutEvents",), bus.event_bus_arn)


def allow_reports(role: iam.IRole, bucket: s3.IBucket) -> None:
    """Let the role write reports, and note and read whom it has told of them."""
    allow(role, ("s3:GetObject", "s3:PutObject"), bucket.arn_for_objects("reports/*"))
    allow(role, ("s3:ListBucket",), bucket.bucket_arn)


def allow_reading_reports(role: iam.IRole, bucket: s3.IBucket) -> None:
    allow(role, ("s3:GetObject",), bucket.arn_for_objects("reports/*"))
    allow(role, ("s3:ListBucket",), bucket.bucket_arn)


def allow_secret(scope: Construct, role: iam.IRole, setting: str, name: str) -> None:
    """Let the role read the secret that a setting names; the managed key of its store needs no right of its own.

    Raises:
        ConfigurationError: the name says no place on AWS.
    """
    stack = Stack.of(scope)
    if name.startswith("/"):
        arn = stack.format_arn(service="ssm", resource="parameter", resource_name=name.lstrip("/"))
        allow(role, ("ssm:GetParameter",), arn)
    elif re.fullmatch(r"arn:aws:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9_./-]+", name):
        allow(role, ("ssm:GetParameter",), name)
    elif re.fullmatch(r"arn:aws:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+", name):
        allow(role, ("secretsmanager:GetSecretValue",), name)
    elif name.startswith("secretsmanager:"):  # its ARN ends with six characters that nobody knows beforehand
        named = stack.format_arn(
            service="secretsmanager",
            resource="secret",
            resource_name=name.removeprefix("secretsmanager:") + "-??????",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        allow(role, ("secretsmanager:GetSecretValue",), named)
    else:
        raise ConfigurationError(
            f"{setting} names {name!r}: on AWS name a parameter (/tapewatch/...) or a secret (secretsmanager:...), "
            "or its whole ARN"
        )
