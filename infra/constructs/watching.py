"""Alarms and the dashboard. Every alarm links to the heading of docs/operations.md that says what to do."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cw
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from shared.observability import METRICS, NAMESPACE, SERVICE, Trouble
from shared.settings import Settings

PAGE = "docs/operations.md"
MINUTE = Duration.minutes(1)


class Watching(Construct):
    """The alarms, their topic and, where it is switched on, the dashboard."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, dead_letters: sqs.IQueue) -> None:
        super().__init__(scope, id_)
        self._settings = settings
        # Alarms cannot publish through the account's managed SNS key, so this topic has none; it carries no secret.
        self.topic = sns.Topic(self, "Topic", enforce_ssl=True)
        for address in settings.aws.alarm_emails:
            self.topic.add_subscription(subscriptions.EmailSubscription(address, dead_letter_queue=dead_letters))
        self.alarms: list[cw.Alarm] = []

    def streamer(self) -> None:
        self._condition("StreamerSilent", "streamer-silent", Trouble.STREAMER_SILENT, minutes=3)
        self._condition("FeedLag", "feed-lag", Trouble.FEED_LAG, minutes=10, of=15)

    def jobs(self) -> None:
        self._condition("MinuteMissed", "minute-missed", Trouble.MINUTE_MISSED, minutes=3)
        self._condition("FunctionErrors", "function-errors", Trouble.FUNCTION_ERRORS, minutes=3)
        self._condition("DeadLetters", "dead-letter-queue-not-empty", Trouble.DEAD_LETTERS, minutes=3)

    def throttles(self, canary: lambda_.IFunction) -> None:
        """Watch one function that runs each minute out of the account's common pool: it is throttled with the pool.

        Those with a reserved copy cannot be starved by others, and what they miss themselves is a missed minute.
        """
        throttles = canary.metric_throttles(statistic="Sum", period=Duration.minutes(5))
        self._alarm("Throttles", "throttles", throttles, 0, minutes=2, period=Duration.minutes(5))

    def _condition(self, id_: str, heading: str, trouble: Trouble, *, minutes: int, of: int | None = None) -> None:
        """Watch one of the conditions whose sum is the metric; the watchdog's silence is trouble of every kind."""
        bit = int(trouble)
        flag = cw.MathExpression(
            expression=f"FLOOR(t / {bit}) - 2 * FLOOR(t / {2 * bit})",
            using_metrics={"t": own("Trouble", "Maximum")},
            period=MINUTE,
            label=id_,
        )
        self._alarm(id_, heading, flag, 0, minutes=minutes, of=of)

    def dashboard(
        self, functions: Sequence[lambda_.IFunction], queues: Sequence[sqs.IQueue], watchdog_log: logs.ILogGroup
    ) -> None:
        if not self._settings.aws.dashboard:
            return
        board = cw.Dashboard(self, "Dashboard", default_interval=Duration.hours(3))
        board.add_widgets(
            cw.AlarmStatusWidget(alarms=self.alarms, title="Alarms", width=24, height=3),
            cw.LogQueryWidget(
                title="Age of the newest trade (s)",
                log_group_names=[watchdog_log.log_group_name],
                view=cw.LogQueryVisualizationType.LINE,
                query_lines=[
                    "filter job = 'watchdog' and ispresent(report.streamer_data_age_s)",
                    "stats max(report.streamer_data_age_s) by bin(1m)",
                ],
                width=12,
            ),
            cw.GraphWidget(title="Trouble (sum, 0: none)", left=[own("Trouble", "Maximum")], width=12),
            cw.GraphWidget(
                title="Alerts and failures",
                left=[own(name, "Sum") for name in ("AlertsMade", "DeliveriesFailed", "SymbolsFailed")],
                width=12,
            ),
            cw.GraphWidget(
                title="Errors", left=[one.metric_errors(period=Duration.minutes(5)) for one in functions], width=12
            ),
            cw.GraphWidget(
                title="Duration (p99)",
                left=[one.metric_duration(statistic="p99", period=Duration.minutes(5)) for one in functions],
                width=12,
            ),
            cw.GraphWidget(
                title="Dead letters",
                left=[one.metric_approximate_number_of_messages_visible() for one in queues],
                width=12,
            ),
        )

    def _alarm(
        self,
        id_: str,
        heading: str,
        metric: cw.IMetric,
        above: float,
        *,
        minutes: int,
        of: int | None = None,
        period: Duration = MINUTE,
    ) -> None:
        """Alarm when `minutes` of the last `of` periods are above; the description names the heading."""
        alarm = cw.Alarm(
            self,
            id_,
            metric=metric,
            threshold=above,
            comparison_operator=cw.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=of or minutes,
            datapoints_to_alarm=minutes,
            treat_missing_data=cw.TreatMissingData.BREACHING,
            alarm_description=f"What to do: {PAGE}#{heading}",
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        alarm.add_ok_action(actions.SnsAction(self.topic))
        self.alarms.append(alarm)


def own(name: str, statistic: str) -> cw.Metric:
    """Return one of the product's own metrics; a symbol is never a dimension.

    Raises:
        KeyError: a name that `METRICS` does not document.
    """
    if name not in METRICS:
        raise KeyError(f"metric {name} is not documented in METRICS")
    return cw.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"service": SERVICE},
        statistic=statistic,
        period=MINUTE,
    )
