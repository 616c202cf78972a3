"""The copying of the page at a deployment, against an emulated bucket and a listening CloudFormation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from moto import mock_aws

from functions import page_files


@pytest.fixture
def answers() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    got: list[dict[str, Any]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/answer", got
    server.shutdown()
    server.server_close()


def event(kind: str, url: str, bucket: str = "page") -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": "s",
        "RequestId": "r",
        "LogicalResourceId": "Files",
        "ResourceProperties": {"Bucket": bucket, "Version": "1"},
    }


def test_the_page_is_copied_tidied_and_removed(answers: tuple[str, list[dict[str, Any]]]) -> None:
    url, got = answers
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="page")
        s3.put_object(Bucket="page", Key="old.js", Body=b"")
        page_files.lambda_handler(event("Create", url), None)
        stored = {one["Key"] for one in s3.list_objects_v2(Bucket="page")["Contents"]}
        assert stored == page_files.page_files().keys()
        assert s3.head_object(Bucket="page", Key="index.html")["ContentType"] == "text/html; charset=utf-8"
        page_files.lambda_handler(event("Delete", url), None)
        assert s3.list_objects_v2(Bucket="page")["KeyCount"] == 0
        page_files.lambda_handler(event("Update", url, "missing"), None)
    assert [one["Status"] for one in got] == ["SUCCESS", "SUCCESS", "FAILED"]
    assert "NoSuchBucket" in got[2]["Reason"]
    assert len({one["PhysicalResourceId"] for one in got}) == 2
