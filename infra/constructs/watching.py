"""Alarms and the dashboard. Every alarm links to the heading of docs/operations.md that says what to do."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cw
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from shared.observability import METRICS, NAMESPACE, SERVICE
from shared.settings import Settings

PAGE = "docs/operations.md"
MINUTE = Duration.minutes(1)
SILENT_S = 180
LAG_S = 60
METRICS_OF_AN_EXPRESSION = 10  # CloudWatch's limit


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
        age = own("StreamerDataAgeSeconds", "Maximum")
        self._alarm("StreamerSilent", "streamer-silent", age, SILENT_S, minutes=3)
        self._alarm("FeedLag", "feed-lag", age, LAG_S, minutes=10, of=15)

    def minutes(self) -> None:
        self._alarm("MinuteMissed", "minute-missed", own("ComponentsSilent", "Maximum"), 0, minutes=3)

    def functions(self, functions: Sequence[lambda_.IFunction]) -> None:
        """Watch the errors of functions that run each minute: no data means that they do not run."""
        watched = list(functions)[:METRICS_OF_AN_EXPRESSION]
        names = [f"e{number}" for number in range(len(watched))]
        errors = cw.MathExpression(
            expression=" + ".join(f"FILL({name}, 0)" for name in names[:-1]) + f" + {names[-1]}",
            using_metrics={
                name: one.metric_errors(statistic="Sum", period=Duration.minutes(5))
                for name, one in zip(names, watched, strict=True)
            },
            period=Duration.minutes(5),
            label="errors",
        )
        self._alarm("FunctionErrors", "function-errors", errors, 1, minutes=2, period=Duration.minutes(5))
        # The whole account's number: throttled is who shares its concurrency, whoever used it up.
        throttles = cw.Metric(
            namespace="AWS/Lambda", metric_name="Throttles", statistic="Sum", period=Duration.minutes(5)
        )
        self._alarm("Throttles", "throttles", throttles, 0, minutes=2, period=Duration.minutes(5))

    def dead_letters(self, id_: str, queue: sqs.IQueue) -> None:
        # An idle queue stops reporting after some hours, so here alone missing data is good news.
        visible = queue.metric_approximate_number_of_messages_visible(period=Duration.minutes(5), statistic="Maximum")
        self._alarm(
            id_, "dead-letter-queue-not-empty", visible, 0, minutes=1, missing=cw.TreatMissingData.NOT_BREACHING
        )

    def dashboard(self, functions: Sequence[lambda_.IFunction], queues: Sequence[sqs.IQueue]) -> None:
        if not self._settings.aws.dashboard:
            return
        board = cw.Dashboard(self, "Dashboard", default_interval=Duration.hours(3))
        board.add_widgets(
            cw.AlarmStatusWidget(alarms=self.alarms, title="Alarms", width=24, height=3),
            cw.GraphWidget(
                title="Age of the newest trade (s)", left=[own("StreamerDataAgeSeconds", "Maximum")], width=12
            ),
            cw.GraphWidget(
                title="Signals and alerts",
                left=[own(name, "Sum") for name in METRICS if name in ("SignalsFound", "AlertsMade", "AlertsHeld")],
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
        missing: cw.TreatMissingData = cw.TreatMissingData.BREACHING,
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
            treat_missing_data=missing,
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
