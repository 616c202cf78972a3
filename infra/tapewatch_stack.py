"""Everything that can be made again: jobs, streamer, alerts, front door and what watches them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import Annotations, CfnOutput, Duration, Stack
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.alert_topic import AlertTopic, TelegramSender
from infra.constructs.front_door import FrontDoor
from infra.constructs.image_build import ImageBuild
from infra.constructs.job_function import JobFunction
from infra.constructs.streamer import Streamer
from infra.constructs.watching import Watching
from infra.data_stack import DataStack
from infra.jobs import Job, Right, canary, jobs
from infra.names import variable
from infra.rights import allow, allow_emit, allow_publish, allow_reports, allow_secret, allow_table
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What the streamer's image is built from in the account: the folder, its hash, and who starts the build."""

    folder: Path
    version: str
    starter: lambda_.Code


@dataclass(frozen=True, slots=True)
class Parts:
    """What is built before synth: code of the functions, the page's, the streamer's image (or what it is built from
    in the account), the token's hash."""

    functions: lambda_.Code
    page: lambda_.Code
    page_version: str
    image: ecs.ContainerImage | ImageSource | None
    token_sha256: str | None


class TapewatchStack(Stack):
    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Settings,
        data: DataStack,
        parts: Parts,
        notes: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, **kwargs)
        for number, note in enumerate(notes):
            Annotations.of(self).add_warning_v2(f"tapewatch:advice{number}", note)
        self.settings, self.data, self.parts = settings, data, parts
        self.log_days = retention(settings.aws.log_retention_days)
        self.bus = events.EventBus(self, "Bus", description="Tapewatch: from one job to the next")
        self.dead_letters = self._dead_letters()
        self.alerts = AlertTopic(self, "Alerts", settings=settings, dead_letters=self.dead_letters)
        self.variables = {
            variable("storage.table_name"): data.table.table_name,
            variable("storage.bucket_name"): data.bucket.bucket_name,
            variable("alerts.sns.topic_arn"): self.alerts.topic.topic_arn,
            variable("aws.event_bus"): self.bus.event_bus_name,
        }
        self.watching = Watching(self, "Watching", settings=settings, dead_letters=self.dead_letters)
        self.telegram = self._telegram() if settings.alerts.telegram.enabled else None
        self.functions = {job.name: self._job(job) for job in jobs(settings)}
        self._watch(jobs(settings))
        if settings.aws.streamer.enabled:
            self._streamer()
        if settings.api.enabled:
            self._front_door()
        self.watching.dashboard(
            [one.function for one in self.functions.values()], [self.dead_letters], self.functions["watchdog"].log
        )
        CfnOutput(self, "TopicArn", value=self.alerts.topic.topic_arn)
        CfnOutput(self, "BusName", value=self.bus.event_bus_name)

    def _dead_letters(self) -> sqs.Queue:
        """Make the queue of what was given up; what is sent back and returns a thousand times is parked."""
        days = Duration.days(14)
        parked = sqs.Queue(self, "Parked", enforce_ssl=True, retention_period=days)
        again = sqs.DeadLetterQueue(queue=parked, max_receive_count=1000)
        return sqs.Queue(self, "DeadLetters", enforce_ssl=True, retention_period=days, dead_letter_queue=again)

    def _job(self, job: Job) -> JobFunction:
        made = JobFunction(
            self,
            job.id,
            job=job,
            code=self.parts.functions,
            env=self.variables if Right.PUBLISH in job.rights else self.variables | self._mute(),
            log_days=self.log_days,
            reserve=self.settings.aws.reserved_concurrency,
            bus=self.bus,
            dead_letters=self.dead_letters,
        )
        if Right.READ in job.rights:
            allow_table(made.role, self.data.table, write=Right.WRITE in job.rights)
        if Right.PUBLISH in job.rights:
            self._allow_alerts(made.role)
        if Right.EMIT in job.rights:
            allow_emit(made.role, self.bus)
        if Right.STORE in job.rights:
            allow_reports(made.role, self.data.bucket)
        CfnOutput(self, f"{job.id}Name", value=made.function.function_name)
        return made

    def _watch(self, known: tuple[Job, ...]) -> None:
        """The watchdog counts what was given up, and one figure of its tells every alarm but one."""
        self.watching.jobs()
        if self.settings.aws.streamer.enabled:
            self.watching.streamer()
        self.watching.throttles(self.functions[canary(known).name].function)
        watchdog = self.functions["watchdog"]
        queues = [self.dead_letters] if self.telegram is None else [self.dead_letters, self.telegram.dead_letters]
        allow(watchdog.role, ("sqs:GetQueueAttributes",), *(queue.queue_arn for queue in queues))
        urls = variable("aws.dead_letter_urls")
        watchdog.function.add_environment(urls, ",".join(queue.queue_url for queue in queues))

    def _telegram(self) -> TelegramSender:
        telegram = TelegramSender(
            self,
            "Telegram",
            settings=self.settings,
            code=self.parts.functions,
            env=dict(self.variables),
            log_days=self.log_days,
        )
        allow_table(telegram.sender.role, self.data.table, write=True)
        self.variables[variable("aws.telegram_queue_url")] = telegram.queue.queue_url
        return telegram

    def _allow_alerts(self, role: iam.Role) -> None:
        allow_publish(role, self.alerts.topic)
        if self.telegram is not None:
            allow(role, ("sqs:SendMessage",), self.telegram.queue.queue_arn)
        webhook = self.settings.alerts.webhook
        if webhook.enabled:
            allow_secret(self, role, "alerts.webhook.secret", webhook.secret)

    def _mute(self) -> dict[str, str]:
        """What a function without alerts is told, so that it does not look for a secret that its role forbids."""
        return {variable("alerts.webhook.enabled"): "false"} if self.settings.alerts.webhook.enabled else {}

    def _streamer(self) -> None:
        image, build = self.parts.image, None
        if self.settings.aws.streamer.image is not None:
            image = ecs.ContainerImage.from_registry(self.settings.aws.streamer.image)
        if image is None:
            raise ValueError("the streamer needs an image")
        if isinstance(image, ImageSource):
            build = ImageBuild(
                self,
                "StreamerImage",
                folder=image.folder,
                version=image.version,
                code=image.starter,
                log_days=self.log_days,
                dead_letters=self.dead_letters,
            )
            image = build.image
        streamer = Streamer(
            self, "Streamer", settings=self.settings, image=image, env=self._streamer_env(), log_days=self.log_days
        )
        for role in streamer.roles:
            self._grant_streamer(role)
        if build is not None:
            for service in streamer.services:
                service.node.add_dependency(build.done)

    def _streamer_env(self) -> dict[str, str]:
        left_out = {variable("storage.bucket_name"), variable("aws.event_bus")}
        return {name: value for name, value in self.variables.items() if name not in left_out}

    def _grant_streamer(self, role: iam.Role) -> None:
        allow_table(role, self.data.table, write=True)
        self._allow_alerts(role)
        if self.settings.alerts.telegram.enabled:  # its commands are read by the streamer, by long poll
            allow_secret(self, role, "alerts.telegram.bot_token", self.settings.alerts.telegram.bot_token)

    def _front_door(self) -> None:
        door = FrontDoor(
            self,
            "FrontDoor",
            table=self.data.table,
            bucket=self.data.bucket,
            code=self.parts.functions,
            page_code=self.parts.page,
            page_version=self.parts.page_version,
            env=self._api_env(),
            log_days=self.log_days,
            reserve=self.settings.aws.reserved_concurrency,
            dead_letters=self.dead_letters,
            token_sha256=None if self.settings.api.open_reads else self.parts.token_sha256,
        )
        # The day's digest names its report's address.
        address = f"https://{door.distribution.domain_name}"
        self.functions["report"].function.add_environment(variable("api.public_url"), address)

    def _api_env(self) -> dict[str, str]:
        """The API reads the table and the reports; told of the queue, it does not look for Telegram's token.

        `api.token_secret` is one machine's: here the distribution checks, and the function may read no secret. Without
        it a `host` beyond loopback would be refused, so the function is told that too.
        """
        names = ("storage.table_name", "storage.bucket_name", "aws.telegram_queue_url")
        env = {name: self.variables[name] for name in map(variable, names) if name in self.variables} | self._mute()
        if self.settings.api.token_secret is not None:
            env |= {variable("api.token_secret"): "", variable("api.host"): "127.0.0.1"}
        return env


def retention(days: int) -> logs.RetentionDays:
    """Return CloudWatch's word for a number of days; the settings admit only those that have one."""
    names = {
        1: "ONE_DAY", 3: "THREE_DAYS", 5: "FIVE_DAYS", 7: "ONE_WEEK", 14: "TWO_WEEKS", 30: "ONE_MONTH",
        60: "TWO_MONTHS", 90: "THREE_MONTHS", 120: "FOUR_MONTHS", 150: "FIVE_MONTHS", 180: "SIX_MONTHS",
        365: "ONE_YEAR", 400: "THIRTEEN_MONTHS", 545: "EIGHTEEN_MONTHS", 731: "TWO_YEARS", 1096: "THREE_YEARS",
        1827: "FIVE_YEARS", 2192: "SIX_YEARS", 2557: "SEVEN_YEARS", 2922: "EIGHT_YEARS", 3288: "NINE_YEARS",
        3653: "TEN_YEARS",
    }  # fmt: skip
    return logs.RetentionDays[names[days]]
