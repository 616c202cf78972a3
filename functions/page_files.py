"""Copies the page's files into their bucket at a deployment, and empties it before the bucket is deleted."""

from __future__ import annotations

import json
import mimetypes
import urllib.request
from pathlib import Path
from typing import Any

WEB = Path(__file__).resolve().parent.parent / "web"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
          ".html": "text/html; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2"}  # fmt: skip
_REASON = 800  # characters of an error that CloudFormation is told


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """Answer CloudFormation's request; an error is answered too, or the deployment would wait for an hour."""
    bucket = event["ResourceProperties"]["Bucket"]
    status, reason = "SUCCESS", ""
    try:
        import boto3

        client = boto3.client("s3")
        wanted = {} if event["RequestType"] == "Delete" else page_files()
        for name, body in wanted.items():
            client.put_object(
                Bucket=bucket, Key=name, Body=body, ContentType=content_type(name), CacheControl="max-age=60"
            )
        for name in stored(client, bucket) - wanted.keys():
            client.delete_object(Bucket=bucket, Key=name)
    except Exception as exc:  # whatever it is, CloudFormation must hear of it
        status, reason = "FAILED", f"{type(exc).__name__}: {exc}"[:_REASON]
    answer = {
        "Status": status,
        "Reason": reason or "done",
        "PhysicalResourceId": f"page-files-{bucket}",
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    respond(event["ResponseURL"], answer)
    return answer


def page_files(folder: Path = WEB) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def content_type(name: str) -> str:
    known = _TYPES.get(Path(name).suffix)
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"


def stored(client: Any, bucket: str) -> set[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def respond(url: str, answer: dict[str, str]) -> None:
    if not url.startswith(("https://", "http://127.0.0.1")):
        raise ValueError("CloudFormation's address is not https")
    body = json.dumps(answer).encode()
    request = urllib.request.Request(url, data=body, method="PUT", headers={"content-type": ""})  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=20):  # noqa: S310
        pass
