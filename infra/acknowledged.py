"""What cdk-nag is told to accept, each with its reason; a test holds this list to ten at most."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Acknowledgment, Stack, Validations


@dataclass(frozen=True, slots=True)
class Accepted:
    rule: str
    reason: str


ACCEPTED: tuple[Accepted, ...] = (
    Accepted(
        "AwsSolutions::AwsSolutions-IAM5[Resource::*]",
        "ecr:GetAuthorizationToken, with which the streamer's image is fetched, knows no resource.",
    ),
    Accepted(
        "AwsSolutions::AwsSolutions-IAM5[Resource::{name}Data:ExportsOutputFnGetAttBucket83908E77Arn063C8555/reports/*]",
        "One function writes the daily report under this prefix of one bucket, the API reads it.",
    ),
    Accepted("AwsSolutions::AwsSolutions-L1", "Python 3.13 is what the bundles are compiled and tested for."),
    Accepted(
        "Serverless::Serverless-LambdaLatestVersion", "Python 3.13 is what the bundles are compiled and tested for."
    ),
    Accepted(
        "AwsSolutions::AwsSolutions-S1",
        "Both buckets are private and written by named roles only; data events of CloudTrail tell more, where wanted.",
    ),
    Accepted("Serverless::Serverless-SQSRedrivePolicy", "A dead-letter queue is where it ends."),
    Accepted(
        "Serverless::Serverless-LambdaEventSourceMappingDestination",
        "Lambda has no such destination for a queue; the Telegram queue has its dead-letter queue instead.",
    ),
    Accepted(
        "AwsSolutions::AwsSolutions-CFR3",
        "Access logs need a bucket with ACLs, which could not be destroyed with the stack; the API has a log.",
    ),
    Accepted(
        "AwsSolutions::AwsSolutions-CFR4",
        "Without a domain of one's own CloudFront's certificate fixes the protocol; viewers are redirected to HTTPS.",
    ),
    Accepted(
        "AwsSolutions::AwsSolutions-ECS4",
        "Container insights cost more than the service; health, data age and logs are watched by alarms.",
    ),
)


def acknowledge_all(stack_name: str, *stacks: Stack) -> None:
    """Acknowledge what is accepted; a few rules name a resource by the stack that it is in."""
    for stack in stacks:
        for one in ACCEPTED:
            Validations.of(stack).acknowledge(
                Acknowledgment(id=one.rule.replace("{name}", stack_name), reason=one.reason)
            )
