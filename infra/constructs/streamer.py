"""The trade stream as a Fargate service: no inbound rule, no NAT, health from the data path."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.names import variable
from infra.rights import allow, allow_logs
from shared.settings import Settings

STOP_WITHIN_S = 20
HEALTH_COMMAND = ("CMD", "python", "-I", "-S", "/app/streamer/health_check.py")
USER = "10001:10001"


class Streamer(Construct):
    """One service per shard; `.roles` are the tasks' roles, which callers grant rights to."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Settings,
        image: ecs.ContainerImage,
        env: Mapping[str, str],
        log_days: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, id_)
        self.settings, self.roles, self.services = settings, list[iam.Role](), list[ecs.FargateService]()
        vpc = ec2.Vpc(
            self,
            "Network",
            max_azs=2,
            nat_gateways=0,
            # Its function would need rights on everything; no rule of the default group is used by anyone.
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(name="Public", subnet_type=ec2.SubnetType.PUBLIC, map_public_ip_on_launch=False)
            ],
        )
        self._log_rejected(vpc, log_days)
        vpc.add_gateway_endpoint("Table", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
        vpc.add_gateway_endpoint("Bucket", service=ec2.GatewayVpcEndpointAwsService.S3)
        group = ec2.SecurityGroup(
            self, "Traffic", vpc=vpc, allow_all_outbound=False, description="Tapewatch streamer: outbound only"
        )
        for port in outbound_ports(settings):
            group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(port), "exchange and AWS")
        cluster = ecs.Cluster(self, "Cluster", vpc=vpc, enable_fargate_capacity_providers=True)
        log_group = logs.LogGroup(self, "Logs", retention=log_days, removal_policy=RemovalPolicy.DESTROY)
        execution = iam.Role(self, "Starter", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
        allow_logs(execution, log_group)
        shards = settings.streamer.shards
        for index in range(shards):
            shard_env = {**env}
            if shards > 1:
                shard_env |= {
                    variable("streamer.shards"): str(shards),
                    variable("streamer.shard_index"): str(index),
                }
            self._shard(index, cluster, group, image, shard_env, execution, log_group)

    def _log_rejected(self, vpc: ec2.Vpc, log_days: logs.RetentionDays) -> None:
        """Keep a record of who knocked and was not let in; what passes is the exchange and AWS."""
        group = logs.LogGroup(self, "Rejected", retention=log_days, removal_policy=RemovalPolicy.DESTROY)
        writer = iam.Role(self, "RejectedWriter", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        allow_logs(writer, group)
        allow(writer, ("logs:DescribeLogStreams",), group.log_group_arn)
        ec2.CfnFlowLog(
            self,
            "RejectedTraffic",
            resource_id=vpc.vpc_id,
            resource_type="VPC",
            traffic_type="REJECT",
            log_destination_type="cloud-watch-logs",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=writer.role_arn,
        )

    def _from_parameters(self, index: int, env: Mapping[str, str]) -> dict[str, ecs.Secret]:
        """Keep the task's names in parameters: a task definition is read by many who need not know them."""
        made = {}
        for name, value in env.items():
            word = "".join(part.capitalize() for part in name.lower().split("_") if part)
            path = f"/{self.settings.aws.stack_name}/streamer{index}/{name}"
            parameter = ssm.StringParameter(self, f"{word}{index}", parameter_name=path, string_value=value)
            made[name] = ecs.Secret.from_ssm_parameter(parameter)
        return made

    def _shard(
        self,
        index: int,
        cluster: ecs.Cluster,
        group: ec2.SecurityGroup,
        image: ecs.ContainerImage,
        env: Mapping[str, str],
        execution: iam.Role,
        log_group: logs.LogGroup,
    ) -> None:
        aws = self.settings.aws.streamer
        role = iam.Role(self, f"Role{index}", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
        self.roles.append(role)
        task = ecs.FargateTaskDefinition(
            self,
            f"Task{index}",
            cpu=aws.cpu,
            memory_limit_mib=aws.memory_mb,
            task_role=role,
            execution_role=execution,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.ARM64, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
            volumes=[ecs.Volume(name="scratch")],
        )
        container = task.add_container(
            "streamer",
            image=image,
            secrets=self._from_parameters(index, env),
            user=USER,
            readonly_root_filesystem=True,
            stop_timeout=Duration.seconds(STOP_WITHIN_S),
            logging=ecs.LogDriver.aws_logs(stream_prefix="streamer", log_group=log_group),
            health_check=ecs.HealthCheck(
                command=list(HEALTH_COMMAND),
                interval=Duration.seconds(30),
                timeout=Duration.seconds(10),
                retries=3,
                start_period=Duration.seconds(120),
            ),
        )
        container.add_mount_points(
            ecs.MountPoint(container_path="/tmp", source_volume="scratch", read_only=False)  # noqa: S108 - the task's own
        )
        provider = "FARGATE_SPOT" if aws.spot else "FARGATE"
        service = ecs.FargateService(
            self,
            f"Service{index}",
            cluster=cluster,
            task_definition=task,
            desired_count=1,
            assign_public_ip=True,  # instead of a NAT gateway, which costs more than all the rest
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC),
            security_groups=[group],
            capacity_provider_strategies=[ecs.CapacityProviderStrategy(capacity_provider=provider, weight=1)],
            # The new task is up before the old one goes: it stands by, which is healthy, until the old one is stopped
            # and releases the lease. The same anomaly has the same alert id, so none is sent twice.
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
        )
        self.services.append(service)


def outbound_ports(settings: Settings) -> list[int]:
    """Return the ports of the addresses that the streamer speaks to, and 443 for AWS."""
    exchange, alerts = settings.exchange, settings.alerts
    urls = [exchange.spot_rest_url, exchange.spot_trades_url, exchange.spot_ws_url, exchange.futures_ws_url]
    if alerts.webhook.enabled and alerts.webhook.url:
        urls.append(alerts.webhook.url)
    if alerts.telegram.enabled:  # its commands are read by long poll
        urls.append(alerts.telegram.api_url)
    ports = {443}
    for parts in map(urlsplit, filter(None, urls)):
        ports.add(parts.port or (443 if parts.scheme in ("https", "wss") else 80))
    return sorted(ports)
