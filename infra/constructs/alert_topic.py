"""Where alerts go out: one topic with the configured subscribers, and Telegram behind a queue of its own."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.job_function import LoggedFunction
from infra.rights import allow, allow_secret
from shared.settings import Settings

RAW = ("sqs",)  # the published JSON itself, without SNS's envelope
TELEGRAM_TIMEOUT_S = 60
TELEGRAM_TRIES = 5


class AlertTopic(Construct):
    """The topic and its subscribers; e-mail addresses must confirm within two days."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, dead_letters: sqs.IQueue) -> None:
        super().__init__(scope, id_)
        self.dead_letters = dead_letters
        # The managed key costs nothing, and every principal of the account that may use SNS may use it.
        self.topic = sns.Topic(
            self, "Topic", enforce_ssl=True, master_key=kms.Alias.from_alias_name(self, "Key", "alias/aws/sns")
        )
        for number, one in enumerate(settings.aws.subscriptions):
            sns.CfnSubscription(
                self,
                f"Subscription{number}",
                topic_arn=self.topic.topic_arn,
                protocol=one.protocol,
                endpoint=one.endpoint,
                filter_policy={name: list(values) for name, values in one.filter.items()} or None,
                raw_message_delivery=True if one.protocol in RAW else None,
                redrive_policy={"deadLetterTargetArn": dead_letters.queue_arn},
            )
        # What a subscriber does not take after SNS's own attempts is kept.
        dead_letters.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sqs:SendMessage"],
                principals=[iam.ServicePrincipal("sns.amazonaws.com")],
                resources=[dead_letters.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": self.topic.topic_arn}},
            )
        )


class TelegramSender(Construct):
    """Queue -> function -> Telegram; what Telegram does not take after some tries waits in a second queue."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Settings,
        code: lambda_.Code,
        env: Mapping[str, str],
        log_days: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, id_)
        self.dead_letters = sqs.Queue(self, "DeadLetters", enforce_ssl=True, retention_period=Duration.days(14))
        self.queue = queue = sqs.Queue(
            self,
            "Queue",
            enforce_ssl=True,
            # Six times the function's time, as AWS advises, so that a message in work is not given out again.
            visibility_timeout=Duration.seconds(6 * TELEGRAM_TIMEOUT_S),
            retention_period=Duration.days(1),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=TELEGRAM_TRIES),
        )
        sender = LoggedFunction(
            self,
            "Sender",
            code=code,
            handler="functions.telegram.lambda_handler",
            env=env,
            memory_mb=256,
            timeout_s=TELEGRAM_TIMEOUT_S,
            log_days=log_days,
            dead_letters=self.dead_letters,
            description="Tapewatch: telegram",
        )
        self.sender = sender
        sender.function.add_event_source(
            sources.SqsEventSource(queue, batch_size=3, max_concurrency=2, report_batch_item_failures=True)
        )
        allow(
            sender.role,
            ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"),
            queue.queue_arn,
        )
        allow_secret(self, sender.role, "alerts.telegram.bot_token", settings.alerts.telegram.bot_token)
