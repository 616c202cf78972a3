"""Starts the build of the streamer's image at a deployment, and tells CloudFormation how it ended.

CloudFormation's request carries an address for the answer. It travels with the build as a variable; the build's end
comes back as an event, whatever ended it, and is answered there. So no function waits for minutes, and a build that
fails, is stopped or runs out of time fails the deployment with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from functions.page_files import respond

ASKED = ("ResponseURL", "StackId", "RequestId", "LogicalResourceId")
_PREFIX = "TAPEWATCH_"
_REASON = 800  # characters of an error that CloudFormation is told


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, str] | None:
    """Take CloudFormation's request or CodeBuild's event; return the answer given, None while a build runs."""
    import boto3

    if event.get("source") == "aws.codebuild":
        return ended(boto3.client("codebuild"), event["detail"])
    try:
        if event["RequestType"] == "Delete":  # the repository goes with its images
            return answer(event, "SUCCESS", "nothing to do")
        wanted = event["ResourceProperties"]
        if built(boto3.client("ecr"), wanted["Repository"], wanted["Tag"]):
            return answer(event, "SUCCESS", "this image is there already")
        start(boto3.client("codebuild"), event, wanted)
    except Exception as exc:  # whatever it is, CloudFormation must hear of it, or it waits for an hour
        return answer(event, "FAILED", f"the build did not start: {type(exc).__name__}: {exc}")
    return None


def built(ecr: Any, repository: str, tag: str) -> bool:
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.ImageNotFoundException:
        return False
    return bool(found["imageDetails"])


def start(codebuild: Any, event: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    """Start the build; CloudFormation's repeated request starts no second one."""
    variables = {"IMAGE_TAG": wanted["Tag"]} | {_PREFIX + name: str(event[name]) for name in ASKED}
    codebuild.start_build(
        projectName=wanted["Project"],
        idempotencyToken=str(event["RequestId"]),
        sourceTypeOverride="S3",
        sourceLocationOverride=wanted["Source"],
        environmentVariablesOverride=[
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
        ],
    )


def ended(codebuild: Any, detail: Mapping[str, Any]) -> dict[str, str] | None:
    """Answer the request that a build was started for; a build that a person started has none."""
    [build] = codebuild.batch_get_builds(ids=[detail["build-id"].rpartition("/")[2]])["builds"]
    variables = {one["name"]: one["value"] for one in build["environment"]["environmentVariables"]}
    if not all(_PREFIX + name in variables for name in ASKED):
        return None
    request = {name: variables[_PREFIX + name] for name in ASKED}
    status = str(detail["build-status"])
    failed = [
        f"{phase['phaseType']}: {one.get('message', '')}"
        for phase in build.get("phases", [])
        for one in phase.get("contexts", [])
        if phase.get("phaseStatus") not in (None, "SUCCEEDED")
    ]
    log = build.get("logs", {}).get("deepLink", "its log")
    reason = "built" if status == "SUCCEEDED" else f"the image's build {status}: {'; '.join(failed)} See {log}"
    return answer(request, "SUCCESS" if status == "SUCCEEDED" else "FAILED", reason)


def answer(request: Mapping[str, Any], status: str, reason: str) -> dict[str, str]:
    told = {
        "Status": status,
        "Reason": reason[:_REASON],
        "PhysicalResourceId": "streamer-image",
        "StackId": str(request["StackId"]),
        "RequestId": str(request["RequestId"]),
        "LogicalResourceId": str(request["LogicalResourceId"]),
    }
    respond(str(request["ResponseURL"]), told)
    return told
