"""The streamer's image built in the account itself, for who deploys without a container engine."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from aws_cdk import CustomResource, Duration, RemovalPolicy, Stack
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as event_targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.job_function import LoggedFunction
from infra.rights import allow, allow_logs

BUILD_MINUTES = 20
WAIT_MINUTES = 40  # CloudFormation's patience: the queue for a machine, the build and its event
KEPT_IMAGES = 5
ENDED = ("SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT")
# The same official images from AWS's own registry: Docker's refuses strangers behind a shared address.
MIRROR = "public.ecr.aws/docker/library/"
COMMANDS = {
    "pre_build": ['aws ecr get-login-password | docker login --username AWS --password-stdin "${REPOSITORY%%/*}"'],
    "build": [
        f"sed -i 's#^FROM python:#FROM {MIRROR}python:#' Dockerfile",
        'docker build --tag "$REPOSITORY:$IMAGE_TAG" .',
        'docker push "$REPOSITORY:$IMAGE_TAG"',
    ],
}
PUSH = (
    "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
)  # fmt: skip


class ImageBuild(Construct):
    """Source -> arm64 build -> repository. `.image` is the task's; what uses it depends on `.done`."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        folder: Path,
        version: str,
        code: lambda_.Code,
        log_days: logs.RetentionDays,
        dead_letters: sqs.IQueue,
    ) -> None:
        super().__init__(scope, id_)
        self.repository = ecr.Repository(
            self,
            "Repository",
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            lifecycle_rules=[ecr.LifecycleRule(max_image_count=KEPT_IMAGES)],
            empty_on_delete=True,
            removal_policy=RemovalPolicy.DESTROY,
        )
        source = s3_assets.Asset(self, "Source", path=str(folder))
        project = self._project(source, log_days)
        starter = LoggedFunction(
            self,
            "Starter",
            code=code,
            handler="functions.image_build.lambda_handler",
            env={},
            memory_mb=256,
            timeout_s=30,
            log_days=log_days,
            dead_letters=dead_letters,
            description="Tapewatch: builds the streamer's image at deployment",
        )
        allow(starter.role, ("codebuild:BatchGetBuilds", "codebuild:StartBuild"), project.project_arn)
        allow(starter.role, ("ecr:DescribeImages",), self.repository.repository_arn)
        ended = events.Rule(
            self,
            "Ended",
            description="Tapewatch: the build of the streamer's image has ended",
            event_pattern=events.EventPattern(
                source=["aws.codebuild"],
                detail_type=["CodeBuild Build State Change"],
                detail={"project-name": [project.project_name], "build-status": list(ENDED)},
            ),
            targets=[event_targets.LambdaFunction(starter.function, dead_letter_queue=dead_letters)],
        )
        self.done = CustomResource(
            self,
            "Image",
            service_token=starter.function.function_arn,
            resource_type="Custom::StreamerImage",
            service_timeout=Duration.minutes(WAIT_MINUTES),
            properties={
                "Project": project.project_name,
                "Repository": self.repository.repository_name,
                "Source": f"{source.s3_bucket_name}/{source.s3_object_key}",
                "Tag": version,
            },
        )
        for needed in (starter.role, project.role, ended):
            if needed is not None:
                self.done.node.add_dependency(needed)
        self.image = ecs.ContainerImage.from_ecr_repository(self.repository, version)

    def _project(self, source: s3_assets.Asset, log_days: logs.RetentionDays) -> codebuild.Project:
        group = logs.LogGroup(self, "Logs", retention=log_days, removal_policy=RemovalPolicy.DESTROY)
        role = iam.Role(self, "Builder", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
        allow_logs(role, group)
        allow(role, ("s3:GetObject", "s3:GetObjectVersion"), source.bucket.arn_for_objects(source.s3_object_key))
        allow(role, ("ecr:GetAuthorizationToken",), "*")
        allow(role, PUSH, self.repository.repository_arn)
        project = codebuild.Project(
            self,
            "Project",
            description="Tapewatch: the streamer's image",
            role=role.without_policy_updates(),
            build_spec=codebuild.BuildSpec.from_object(
                {"version": "0.2", "phases": {name: {"commands": words} for name, words in COMMANDS.items()}}
            ),
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxArmBuildImage.AMAZON_LINUX_2_STANDARD_3_0,
                compute_type=codebuild.ComputeType.SMALL,
                privileged=True,  # a container engine inside the build's own machine
            ),
            environment_variables={
                "REPOSITORY": codebuild.BuildEnvironmentVariable(value=self.repository.repository_uri)
            },
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=group)),
            timeout=Duration.minutes(BUILD_MINUTES),
            queued_timeout=Duration.minutes(BUILD_MINUTES - 5),
            concurrent_build_limit=1,
        )
        # A build leaves nothing but the image; the account's managed key is named for whatever it keeps meanwhile.
        key = Stack.of(self).format_arn(service="kms", resource="alias/aws", resource_name="s3")
        cast(codebuild.CfnProject, project.node.default_child).encryption_key = key
        return project
