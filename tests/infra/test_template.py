"""Every promise of the deployment, looked up in the synthesised templates."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from functions.api_access import token_access
from functions.api_reports import POLICY as REPORT_POLICY
from functions.bootstrap import EVENT_SOURCE
from functions.events import read_trigger
from infra.app import effective
from infra.jobs import BACKFILL_WANTED, BARS_STORED, FEATURES_STORED, jobs
from infra.names import futures_blocked, variable
from local.page_files import POLICY as PAGE_POLICY
from shared.alerts.channels.queued import KEEP_MS
from shared.jobs import deps
from shared.observability import ALWAYS, METRICS, Trouble
from shared.settings import Settings
from shared.settings_loader import load_settings, parse_settings
from tests.infra.policies import Resolver, allowed, arn_of
from tests.infra.synths import FULL, Synth

pytestmark = pytest.mark.aws

ROOT = Path(__file__).resolve().parents[2]
MINUTE_JOBS = {"volume-spike", "order-book", "kline-bars", "open-interest", "redelivery", "watchdog"}


def functions(synth: Synth) -> dict[str, dict[str, Any]]:
    return {one["Properties"]["Handler"]: one["Properties"] for one in synth.of("AWS::Lambda::Function").values()}


# --- state -------------------------------------------------------------------------------------------------------
def test_the_table_is_on_demand_expiring_recoverable_and_kept(synth: Synth) -> None:
    [table] = synth.data.find_resources("AWS::DynamoDB::Table").values()
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    told = table["Properties"]
    assert told["BillingMode"] == "PAY_PER_REQUEST"
    assert told["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert told["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert told["DeletionProtectionEnabled"] is True
    assert [(key["AttributeName"], key["KeyType"]) for key in told["KeySchema"]] == [("pk", "HASH"), ("sk", "RANGE")]


def test_the_bucket_is_private_tidied_and_kept(synth: Synth) -> None:
    [bucket] = synth.data.find_resources("AWS::S3::Bucket").values()
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    told = bucket["Properties"]
    assert set(told["PublicAccessBlockConfiguration"].values()) == {True}
    assert {rule["Prefix"] for rule in told["LifecycleConfiguration"]["Rules"] if "Prefix" in rule} == {
        "windows/",
        "models/",
        "reports/",
    }
    [policy] = synth.data.find_resources("AWS::S3::BucketPolicy").values()
    denied = [one for one in policy["Properties"]["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
    assert {"Bool": {"aws:SecureTransport": "false"}} in [one["Condition"] for one in denied]


def test_only_what_holds_data_is_retained(synth: Synth) -> None:
    kept = {name for name, one in synth.main.to_json()["Resources"].items() if one.get("DeletionPolicy") == "Retain"}
    assert kept == set()


# --- jobs --------------------------------------------------------------------------------------------------------
def test_every_handler_string_imports(full: Synth) -> None:
    for handler in functions(full):
        module, name = handler.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name)), handler


def test_every_function_is_arm64_python_313_with_its_own_role_and_log(full: Synth) -> None:
    made = functions(full)
    roles, logs = set(), set()
    for told in made.values():
        assert told["Architectures"] == ["arm64"]
        assert told["Runtime"] == "python3.13"
        roles.add(json.dumps(told["Role"]))
        logs.add(json.dumps(told["LoggingConfig"]["LogGroup"]))
    assert len(roles) == len(logs) == len(made)
    for group in full.of("AWS::Logs::LogGroup").values():
        assert group["Properties"]["RetentionInDays"] == 14


def test_the_table_of_jobs_is_what_is_deployed(synth: Synth) -> None:
    assert {job.handler for job in jobs(Settings())} <= functions(synth).keys()
    assert {job.name for job in jobs(Settings())} == MINUTE_JOBS | {
        "features",
        "sector",
        "backfill",
        "outcomes",
        "report",
    }


def test_schedules_are_sharp_short_lived_and_say_their_time(synth: Synth) -> None:
    found = {}
    for one in synth.of("AWS::Scheduler::Schedule").values():
        told, target = one["Properties"], one["Properties"]["Target"]
        assert told["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 1}
        assert target["DeadLetterConfig"]["Arn"]
        event = json.loads(target["Input"])
        assert event["scheduled_time"] == "<aws.scheduler.scheduled-time>"
        read_trigger(event | {"scheduled_time": "2026-01-01T00:01:00Z"})
        found[event["job"]] = told["ScheduleExpression"]
    assert found == dict.fromkeys(MINUTE_JOBS, "rate(1 minute)") | {
        "outcomes": "rate(5 minutes)",
        "report": "cron(5 0 * * ? *)",
    }


def test_a_failed_event_is_tried_once_more_and_then_kept(full: Synth) -> None:
    assert len(full.of("AWS::Lambda::EventInvokeConfig")) == len(functions(full))
    for one in full.of("AWS::Lambda::EventInvokeConfig").values():
        told = one["Properties"]
        assert (told["MaximumRetryAttempts"], told["MaximumEventAgeInSeconds"]) == (1, 60)
        assert told["DestinationConfig"]["OnFailure"]["Destination"]


def test_a_second_copy_cannot_run_where_it_would_hurt(synth: Synth, synth_of: Callable[..., Synth]) -> None:
    reserved = {
        handler.split(".")[1]: told.get("ReservedConcurrentExecutions") for handler, told in functions(synth).items()
    }
    alone = {name for name, number in reserved.items() if number == 1}
    assert alone == {
        "kline_bars",
        "open_interest",
        "features",
        "sector",
        "backfill",
        "redelivery",
        "watchdog",
        "outcomes",
    }
    assert reserved["api"] == 5
    without = synth_of({"aws": {"reserved_concurrency": False}})
    assert all("ReservedConcurrentExecutions" not in told for told in functions(without).values())


def test_events_chain_the_jobs_on_a_bus_of_their_own(synth: Synth) -> None:
    assert (BARS_STORED, FEATURES_STORED, BACKFILL_WANTED) == (
        deps.BARS_STORED,
        deps.FEATURES_STORED,
        deps.BACKFILL_WANTED,
    )
    [bus] = synth.of("AWS::Events::EventBus")
    chain = {}
    for one in synth.of("AWS::Events::Rule").values():
        told = one["Properties"]
        assert told["EventBusName"] == {"Ref": bus}
        assert told["EventPattern"]["source"] == [EVENT_SOURCE]
        [target] = told["Targets"]
        assert target["DeadLetterConfig"]
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 1}
        logical = target["Arn"]["Fn::GetAtt"][0]
        handler = synth.of("AWS::Lambda::Function")[logical]["Properties"]["Handler"]
        chain[told["EventPattern"]["detail-type"][0]] = handler.split(".")[1]
    assert chain == {"bars.stored": "features", "features.stored": "sector", "backfill.wanted": "backfill"}


def test_environment_names_are_settings(full: Synth) -> None:
    for handler, told in functions(full).items():
        env = told.get("Environment", {}).get("Variables", {})
        load_settings(environ=dict.fromkeys(env, "x"))  # an unknown name is refused
        assert handler.startswith("functions.page_files") or variable("storage.table_name") in env
    with pytest.raises(KeyError):
        variable("storage.tabel_name")


def test_no_secret_stands_in_a_template(full: Synth) -> None:
    for template in full.both:
        text = json.dumps(template)
        assert not re.search(r"\d{6,}:[A-Za-z0-9_-]{30,}", text)
        assert "SecretString" not in text


# --- streamer ----------------------------------------------------------------------------------------------------
def test_the_streamer_is_small_closed_and_checked(synth: Synth) -> None:
    [task] = [one["Properties"] for one in synth.of("AWS::ECS::TaskDefinition").values()]
    assert (task["Cpu"], task["Memory"]) == ("256", "512")
    assert task["RuntimePlatform"] == {"CpuArchitecture": "ARM64", "OperatingSystemFamily": "LINUX"}
    [container] = task["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["User"] == "10001:10001"
    assert container["StopTimeout"] == 20
    assert container["HealthCheck"]["Command"][-1].endswith("streamer/health_check.py")
    assert {name["Name"] for name in container["Secrets"]} == {
        variable("storage.table_name"),
        variable("alerts.sns.topic_arn"),
    }
    [service] = [one["Properties"] for one in synth.of("AWS::ECS::Service").values()]
    assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "ENABLED"
    assert service["CapacityProviderStrategy"] == [{"CapacityProvider": "FARGATE", "Weight": 1}]
    rolling = service["DeploymentConfiguration"]
    assert rolling["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert (rolling["MinimumHealthyPercent"], rolling["MaximumPercent"]) == (100, 200)
    assert synth.of("AWS::EC2::NatGateway") == {}
    [group] = [one["Properties"] for one in synth.of("AWS::EC2::SecurityGroup").values()]
    assert "SecurityGroupIngress" not in group
    assert synth.of("AWS::EC2::SecurityGroupIngress") == {}
    assert {rule["FromPort"] for rule in group["SecurityGroupEgress"]} == {443}


def test_the_image_is_slim_unprivileged_and_has_the_same_check() -> None:
    from infra.constructs.streamer import HEALTH_COMMAND, USER

    text = (ROOT / "streamer" / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["python:3.13-slim", "python:3.13", "python:3.13-slim"]
    assert f"USER {USER}" in text
    assert json.dumps(list(HEALTH_COMMAND)[1:]) in text
    last = text.rpartition("\nFROM ")[2]
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+)", last, re.MULTILINE)
    assert copied == ["/venv", "shared", "streamer", "/build/streamer/_hotloop*", "tapewatch.yaml"]  # no compiler


def test_spot_and_shards(full: Synth) -> None:
    services = [one["Properties"] for one in full.of("AWS::ECS::Service").values()]
    assert len(services) == 3
    for service in services:
        assert service["CapacityProviderStrategy"] == [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}]
    parameters = {name: one["Properties"]["Value"] for name, one in full.of("AWS::SSM::Parameter").items()}
    indexes = sorted(value for name, value in parameters.items() if "ShardIndex" in name)
    assert indexes == ["0", "1", "2"]


def test_the_streamer_can_be_left_out(synth_of: Callable[..., Synth]) -> None:
    without = synth_of({"aws": {"streamer": {"enabled": False}}})
    assert without.of("AWS::ECS::Service") == without.of("AWS::EC2::VPC") == {}
    settings, _ = effective(parse_settings({"aws": {"streamer": {"enabled": False}}}), None)
    assert not any((settings.trade_spike.enabled, settings.window_anomaly.enabled, settings.pump.enabled))
    assert settings.volume_spike.enabled


# --- alerts ------------------------------------------------------------------------------------------------------
def test_subscribers_come_from_the_configuration(full: Synth) -> None:
    [topic] = [name for name in full.of("AWS::SNS::Topic") if name.startswith("Alerts")]
    told = [one["Properties"] for one in full.of("AWS::SNS::Subscription").values()]
    alerts = [one for one in told if one["TopicArn"] == {"Ref": topic}]
    plain = {one["Protocol"]: one["Endpoint"] for one in alerts if isinstance(one["Endpoint"], str)}
    assert plain == {one["protocol"]: one["endpoint"] for one in FULL["aws"]["subscriptions"]}
    [filtered] = [one for one in alerts if "FilterPolicy" in one]
    assert filtered["FilterPolicy"] == {"severity": ["critical"]}


def test_telegram_stands_behind_a_queue_with_a_dead_letter_queue(full: Synth, synth: Synth) -> None:
    queues = full.of("AWS::SQS::Queue")
    [queue] = [one["Properties"] for name, one in queues.items() if name.startswith("TelegramQueue")]
    dead = queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
    assert dead in queues
    assert queue["VisibilityTimeout"] >= 6 * functions(full)["functions.telegram.lambda_handler"]["Timeout"]
    [source] = full.of("AWS::Lambda::EventSourceMapping").values()
    assert source["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["Properties"]["BatchSize"] <= 3
    # What was handed over is the far end's for longer than the queue gives it out again.
    assert queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"] * 1000 < KEEP_MS
    assert "functions.telegram.lambda_handler" not in functions(synth)


# --- front door --------------------------------------------------------------------------------------------------
def test_the_function_address_belongs_to_the_distribution(synth: Synth) -> None:
    """F706."""
    [url] = [one["Properties"] for one in synth.of("AWS::Lambda::Url").values()]
    assert url["AuthType"] == "AWS_IAM"
    [distribution] = synth.of("AWS::CloudFront::Distribution")
    rights = [one["Properties"] for one in synth.of("AWS::Lambda::Permission").values()]
    front = [one for one in rights if one["Principal"] == "cloudfront.amazonaws.com"]
    assert {one["Action"] for one in front} == {"lambda:InvokeFunction", "lambda:InvokeFunctionUrl"}
    assert all(distribution in json.dumps(one["SourceArn"]) for one in front)
    assert {one["Principal"] for one in rights} == {"cloudfront.amazonaws.com", "events.amazonaws.com"}


def test_reads_need_the_token_and_nothing_else_passes(synth: Synth, synth_of: Callable[..., Synth]) -> None:
    [config] = [
        one["Properties"]["DistributionConfig"] for one in synth.of("AWS::CloudFront::Distribution").values()
    ]  # fmt: skip
    a_report, api = config["CacheBehaviors"]  # in the order in which they are tried
    assert (a_report["PathPattern"], api["PathPattern"]) == ("/api/reports/*", "/api/*")
    differs = {name for name in api if api[name] != a_report[name]}
    assert differs == {"PathPattern", "ResponseHeadersPolicyId"}
    assert sorted(api["AllowedMethods"]) == ["GET", "HEAD"]
    [check] = api["FunctionAssociations"]
    assert check["EventType"] == "viewer-request"
    policies = synth.of("AWS::CloudFront::CachePolicy")
    cache = policies[api["CachePolicyId"]["Ref"]]["Properties"]["CachePolicyConfig"]
    assert (cache["DefaultTTL"], cache["MaxTTL"]) == (2, 2)
    assert cache["ParametersInCacheKeyAndForwardedToOrigin"]["QueryStringsConfig"]["QueryStringBehavior"] == "all"
    open_door = synth_of({"api": {"open_reads": True}})
    [config] = [
        one["Properties"]["DistributionConfig"] for one in open_door.of("AWS::CloudFront::Distribution").values()
    ]  # fmt: skip
    assert not [one for one in config["CacheBehaviors"] if "FunctionAssociations" in one]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_one_machine_s_token_is_not_asked_of_the_deployed_api(
    synth_of: Callable[..., Synth], tmp_path: Path, host: str
) -> None:
    """The function may not read a secret: it would answer each read with 500. The distribution checks the token."""
    api = {"host": host, "token_secret": "MY_API_TOKEN"}
    file = tmp_path / "tapewatch.yaml"
    file.write_text(json.dumps({"api": api}))
    env = functions(synth_of({"api": api}))["functions.api.lambda_handler"]["Environment"]["Variables"]
    deployed = load_settings(str(file), {name: value for name, value in env.items() if isinstance(value, str)}).settings
    assert token_access(deployed).refuse({}, change=False) is None
    refusal = token_access(deployed).refuse({}, change=True)
    assert refusal is not None
    assert refusal.status == 403


def test_the_streamer_reaches_the_ports_of_its_channels(synth_of: Callable[..., Synth]) -> None:
    hook = {"enabled": True, "url": "https://hooks.example.org:8443/x", "secret": "/tapewatch/hook"}
    telegram = {"enabled": True, "chat_id": 7, "bot_token": "/tapewatch/bot", "api_url": "http://bots.example.org:8081"}
    synth = synth_of({"alerts": {"webhook": hook, "telegram": telegram}})
    [group] = [one["Properties"] for one in synth.of("AWS::EC2::SecurityGroup").values()]
    assert {rule["FromPort"] for rule in group["SecurityGroupEgress"]} == {443, 8443, 8081}


def policy_of(synth: Synth, behavior: dict[str, Any]) -> str:
    headers = synth.of("AWS::CloudFront::ResponseHeadersPolicy")[behavior["ResponseHeadersPolicyId"]["Ref"]]
    security = headers["Properties"]["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"]
    return str(security["ContentSecurityPolicy"]["ContentSecurityPolicy"])


def test_page_and_reports_have_the_policies_of_the_local_server(synth: Synth) -> None:
    [config] = [
        one["Properties"]["DistributionConfig"] for one in synth.of("AWS::CloudFront::Distribution").values()
    ]  # fmt: skip
    a_report, api = config["CacheBehaviors"]
    assert policy_of(synth, config["DefaultCacheBehavior"]) == policy_of(synth, api) == PAGE_POLICY
    assert "unsafe" not in PAGE_POLICY
    assert policy_of(synth, a_report) == REPORT_POLICY
    assert "script-src" not in REPORT_POLICY  # default-src 'none'


def test_the_days_digest_knows_the_address_and_the_api_the_reports(synth: Synth) -> None:
    functions = {one["Properties"]["Handler"]: one["Properties"] for one in synth.of("AWS::Lambda::Function").values()}
    [distribution] = synth.of("AWS::CloudFront::Distribution")
    told = functions["functions.report.lambda_handler"]["Environment"]["Variables"]
    address = {"Fn::Join": ["", ["https://", {"Fn::GetAtt": [distribution, "DomainName"]}]]}
    assert told["TAPEWATCH_API__PUBLIC_URL"] == address
    reads = functions["functions.api.lambda_handler"]["Environment"]["Variables"]
    assert {"TAPEWATCH_STORAGE__TABLE_NAME", "TAPEWATCH_STORAGE__BUCKET_NAME"} <= reads.keys()


# --- watching ----------------------------------------------------------------------------------------------------
def test_alarms_take_missing_data_for_trouble(full: Synth) -> None:
    alarms = {name: one["Properties"] for name, one in full.of("AWS::CloudWatch::Alarm").items()}
    kinds = {re.sub(r"^Watching|[0-9A-F]{8}$", "", name) for name in alarms}
    assert kinds == {
        "StreamerSilent",
        "FeedLag",
        "MinuteMissed",
        "FunctionErrors",
        "Throttles",
        "DeadLetters",
    }
    for name, told in alarms.items():
        assert told["TreatMissingData"] == "breaching", name
        assert told["AlarmActions"]
        assert told["OKActions"]


def test_each_alarm_reads_its_own_condition_out_of_one_figure(full: Synth) -> None:
    """CloudWatch's expression is computed here, as it is written, for every possible figure."""
    wanted = {"StreamerSilent": 1, "FeedLag": 2, "MinuteMissed": 4, "FunctionErrors": 8, "DeadLetters": 16}
    assert {"".join(part.capitalize() for part in (one.name or "").split("_")): one.value for one in Trouble} == wanted
    seen = set()
    for name, one in full.of("AWS::CloudWatch::Alarm").items():
        metrics = one["Properties"].get("Metrics")
        if metrics is None:
            continue
        [expression] = [each["Expression"] for each in metrics if "Expression" in each]
        [metric] = [each["MetricStat"] for each in metrics if "MetricStat" in each]
        assert (metric["Metric"]["MetricName"], metric["Period"], metric["Stat"]) == ("Trouble", 60, "Maximum")
        kind = re.sub(r"^Watching|[0-9A-F]{8}$", "", name)
        for figure in range(32):
            found = eval(expression, {"FLOOR": math.floor, "t": figure})
            assert (found > one["Properties"]["Threshold"]) == bool(figure & wanted[kind]), (kind, figure)
        seen.add(kind)
    assert seen == wanted.keys()


def test_the_alarms_cost_less_than_a_dollar(synth: Synth) -> None:
    """0.10 US dollars a month for each metric of an alarm, 0.30 for each of the product's own that is always sent."""
    alarms = [one["Properties"] for one in synth.of("AWS::CloudWatch::Alarm").values()]
    metrics = sum(len([each for each in one.get("Metrics", [{"MetricStat": 1}]) if "MetricStat" in each])
                  for one in alarms)  # fmt: skip
    assert metrics * 0.10 + len(ALWAYS) * 0.30 < 1.0


def test_throttles_are_those_of_a_function_of_the_product(synth: Synth, synth_of: Callable[..., Synth]) -> None:
    for one, wanted in ((synth, "volume_spike"), (synth_of({"volume_spike": {"enabled": False},
                        "order_book": {"enabled": False}}), "watchdog")):  # fmt: skip
        [told] = [a["Properties"] for name, a in one.of("AWS::CloudWatch::Alarm").items() if "Throttles" in name]
        [dimension] = told["Dimensions"]
        assert (told["Namespace"], told["MetricName"], dimension["Name"]) == (
            "AWS/Lambda",
            "Throttles",
            "FunctionName",
        )
        handler = one.of("AWS::Lambda::Function")[dimension["Value"]["Ref"]]["Properties"]["Handler"]
        assert handler == f"functions.{wanted}.lambda_handler"


def test_the_watchdog_counts_every_dead_letter_queue(full: Synth) -> None:
    queues = full.of("AWS::SQS::Queue")
    redrive = [one["Properties"].get("RedrivePolicy", {}).get("deadLetterTargetArn") for one in queues.values()]
    dead = {one["Fn::GetAtt"][0] for one in redrive if one} - {n for n in queues if n.startswith("Parked")}
    told = functions(full)["functions.watchdog.lambda_handler"]["Environment"]["Variables"]
    urls = json.dumps(told[variable("aws.dead_letter_urls")])
    counted = {name for name in queues if f'"{name}"' in urls}
    assert dead <= counted
    assert {name for name in queues if name.startswith("DeadLetters")} <= counted
    others = [one for handler, one in functions(full).items() if "watchdog" not in handler]
    assert all(variable("aws.dead_letter_urls") not in one["Environment"]["Variables"] for one in others
               if "Environment" in one)  # fmt: skip


def test_alarms_and_headings_know_each_other(full: Synth) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("## When an alarm goes off", 1)[1].split("\n## ", 1)[0]
    headings = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in
                re.findall(r"^### (.+)$", section, re.MULTILINE)}  # fmt: skip
    linked = set()
    for one in full.of("AWS::CloudWatch::Alarm").values():
        match = re.search(r"docs/operations\.md#([a-z0-9-]+)$", one["Properties"]["AlarmDescription"])
        assert match
        linked.add(match[1])
    assert linked == headings


def test_one_dashboard_that_is_off_unless_wanted(synth: Synth, full: Synth) -> None:
    assert len(synth.of("AWS::CloudWatch::Dashboard")) == 0
    assert len(full.of("AWS::CloudWatch::Dashboard")) == 1


def test_at_most_ten_metrics_and_all_documented(full: Synth) -> None:
    assert len(METRICS) <= 10
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for name in METRICS:
        assert f"`{name}`" in page
    own = set(re.findall(r'"MetricName": "(\w+)", "Namespace": "Tapewatch"', json.dumps(full.main.to_json())))
    assert own <= METRICS.keys()


# --- regions and mistakes ----------------------------------------------------------------------------------------
def test_a_region_without_futures_runs_spot_only_and_says_so(synth_of: Callable[..., Synth]) -> None:
    from aws_cdk.assertions import Annotations, Match

    us = synth_of({}, region="us-east-1")
    names = {handler.split(".")[1] for handler in functions(us)}
    assert names.isdisjoint({"kline_bars", "features", "sector"})
    assert {"volume_spike", "order_book", "backfill"} <= names
    # Missing history starts the backfill there too: the volume spikes' job asks for it.
    [rule] = [one["Properties"] for one in us.of("AWS::Events::Rule").values()]
    assert rule["EventPattern"]["detail-type"] == ["backfill.wanted"]
    resolver = Resolver(us.both)
    [asking] = [name for name, one in us.of("AWS::Lambda::Function").items() if "volume_spike" in
                one["Properties"]["Handler"]]  # fmt: skip
    [bus] = us.of("AWS::Events::EventBus")
    rights = resolver.statements(resolver.role_of(asking))
    assert allowed(rights, "events:PutEvents", arn_of("AWS::Events::EventBus", bus))
    stack = us.app.node.find_child("Tapewatch")
    Annotations.from_stack(stack).has_warning("*", Match.string_like_regexp("us-east-1 lies in the US"))  # type: ignore[arg-type]
    assert futures_blocked("eu-central-1") is False
    assert futures_blocked(None) is False


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"aws": {"subscriptions": [{"protocol": "email", "endpoint": "nobody"}]}}, "aws.subscriptions[0].endpoint"),
        ({"aws": {"subscriptions": [{"protocol": "sms", "endpoint": "030 123"}]}}, "is not an address for sms"),
        (
            {"aws": {"subscriptions": [{"protocol": "email", "endpoint": "a@b.c", "filter": {"colour": ["red"]}}]}},
            "colour",
        ),
        ({"aws": {"log_retention_days": 2}}, "aws.log_retention_days"),
        ({"aws": {"streamer": {"memory_mb": 300}}}, "aws.streamer.memory_mb"),
        ({"aws": {"streamer": {"cpu": 100}}}, "aws.streamer.cpu"),
        ({"aws": {"stack_name": "my stack"}}, "aws.stack_name"),
        ({"aws": {"region": "Frankfurt"}}, "aws.region"),
        ({"aws": {"alarm_emails": ["x"]}}, "aws.alarm_emails[0]"),
        ({"api": {"token_sha256": "secret"}}, "api.token_sha256"),
    ],
)
def test_a_mistake_is_one_sentence(tree: dict[str, Any], words: str) -> None:
    from shared.errors import ConfigurationError

    with pytest.raises(ConfigurationError) as told:
        parse_settings(tree)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_mistake_fails_the_synth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from infra.app import main

    file = tmp_path / "tapewatch.yaml"
    file.write_text("aws: {stack_nam: Mine}\n")
    assert main({"TAPEWATCH_CONFIG": str(file)}) != 0
    said = capsys.readouterr().err.strip()
    assert "aws.stack_nam" in said
    assert len(said.splitlines()) == 1


# --- snapshot ----------------------------------------------------------------------------------------------------
def test_the_templates_are_those_that_were_reviewed(synth: Synth) -> None:
    """Normalised: hashes of assets are left out. To accept a change: `python -m tests.infra.snapshot`."""
    from tests.infra.snapshot import FILE, normalised

    assert normalised(*synth.both) == FILE.read_text(encoding="utf-8")
