"""One Lambda function with a role and a log of its own, started by a schedule or by an event."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as event_targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.jobs import Job
from infra.rights import allow, allow_logs

EVENT_AGE_S = 60  # a minute's work that comes later than that is done by the next minute
ATTEMPTS_AGAIN = 1


class LoggedFunction(Construct):
    """Define one arm64 function; callers grant it what it needs through `.role`."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        code: lambda_.Code,
        handler: str,
        env: Mapping[str, str],
        memory_mb: int,
        timeout_s: int,
        log_days: logs.RetentionDays,
        dead_letters: sqs.IQueue,
        at_once: int | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__(scope, id_)
        self.log = group = logs.LogGroup(self, "Logs", retention=log_days, removal_policy=RemovalPolicy.DESTROY)
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        allow_logs(self.role, group)
        self.function = lambda_.Function(
            self,
            "Function",
            code=code,
            handler=handler,
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=memory_mb,
            timeout=Duration.seconds(timeout_s),
            environment=dict(env),
            role=self.role.without_policy_updates(),
            log_group=group,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            system_log_level_v2=lambda_.SystemLogLevel.WARN,  # no START, END and REPORT lines to pay for
            reserved_concurrent_executions=at_once,
            dead_letter_queue=dead_letters,
            on_failure=destinations.SqsDestination(dead_letters),  # the same event again, with the error beside it
            max_event_age=Duration.seconds(EVENT_AGE_S),
            retry_attempts=ATTEMPTS_AGAIN,
        )
        allow(self.role, ("sqs:SendMessage",), dead_letters.queue_arn)
        self.function.node.add_dependency(self.role)  # its rights first: Lambda tries the queue's when it is made


class JobFunction(LoggedFunction):
    """A job of the table in `infra/jobs.py` with what starts it."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        job: Job,
        code: lambda_.Code,
        env: Mapping[str, str],
        log_days: logs.RetentionDays,
        reserve: bool,
        bus: events.IEventBus,
        dead_letters: sqs.IQueue,
    ) -> None:
        super().__init__(
            scope,
            id_,
            code=code,
            handler=job.handler,
            env=env,
            memory_mb=job.memory_mb,
            timeout_s=job.timeout_s,
            log_days=log_days,
            at_once=1 if job.alone and reserve else None,
            dead_letters=dead_letters,
            description=f"Tapewatch: {job.name}",
        )
        if job.every_minutes is not None or job.cron is not None:
            self._schedule(job, dead_letters)
        if job.on is not None:
            events.Rule(
                self,
                "Rule",
                event_bus=bus,
                event_pattern=events.EventPattern(source=["tapewatch"], detail_type=[job.on]),
                targets=[
                    event_targets.LambdaFunction(
                        self.function,
                        dead_letter_queue=dead_letters,
                        max_event_age=Duration.seconds(EVENT_AGE_S),
                        retry_attempts=ATTEMPTS_AGAIN,
                    )
                ],
            )

    def _schedule(self, job: Job, dead_letters: sqs.IQueue) -> None:
        minutes = job.every_minutes
        expression = f"rate({minutes} minute{'s' if minutes != 1 else ''})" if minutes else f"cron({job.cron})"
        event = {"job": job.name, "scheduled_time": "<aws.scheduler.scheduled-time>"}
        caller = iam.Role(self, "Scheduler", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
        allow(caller, ("lambda:InvokeFunction",), self.function.function_arn)
        allow(caller, ("sqs:SendMessage",), dead_letters.queue_arn)
        # Written out, because the ready-made target also grants the right to call every version of the function.
        scheduler.CfnSchedule(
            self,
            "Schedule",
            description=f"Tapewatch: {job.name}",
            schedule_expression=expression,
            schedule_expression_timezone="UTC",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.function.function_arn,
                role_arn=caller.role_arn,
                input=json.dumps(event),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=dead_letters.queue_arn),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=EVENT_AGE_S, maximum_retry_attempts=ATTEMPTS_AGAIN
                ),
            ),
        ).node.add_dependency(caller)
