"""Objects by name, in a folder and in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from shared.errors import StorageMissing, StorageUnavailable
from shared.storage.objects import FolderObjects, ObjectStore, S3Objects


@pytest.fixture(scope="module")
def s3_client() -> Any:
    """One client for all tests, for it takes long to make; it answers only inside `mock_aws`."""
    return boto3.client("s3", region_name="eu-central-1")


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, s3_client: Any) -> Iterator[ObjectStore]:
    if request.param == "folder":
        yield FolderObjects(tmp_path / "objects")
        return
    with mock_aws():
        client = s3_client
        client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        client.put_object(Bucket="bucket", Key="not-ours", Body=b"")
        yield S3Objects(client, "bucket", prefix="tapewatch/")


def test_stores_reads_lists_and_deletes(objects: ObjectStore) -> None:
    assert objects.list() == []
    assert objects.get("reports/none.csv") is None
    objects.put("reports/b.csv", b"1")
    objects.put("reports/a/测试币456.csv", b"")
    objects.put("reports/b.csv", b"2" * 100_000)
    objects.put("models/x", b"3")
    assert objects.get("reports/b.csv") == b"2" * 100_000
    assert objects.get("reports/a/测试币456.csv") == b""
    assert objects.list() == ["models/x", "reports/a/测试币456.csv", "reports/b.csv"]
    assert objects.list("reports/") == ["reports/a/测试币456.csv", "reports/b.csv"]
    assert objects.list("rep") == objects.list("reports/")
    assert objects.get("reports") is None
    objects.delete("reports/b.csv")
    objects.delete("reports/b.csv")
    assert objects.list("reports/b") == []


@pytest.mark.parametrize(
    "name",
    ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "./a", "a/", "a\\b", "a\x00b", "a\nb", "x" * 300],
)
def test_a_name_never_leaves_the_store(objects: ObjectStore, name: str) -> None:
    for call in (lambda: objects.put(name, b""), lambda: objects.get(name), lambda: objects.delete(name)):
        with pytest.raises(ValueError):
            call()


def test_a_file_in_the_way_of_the_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("x")
    objects = FolderObjects(tmp_path / "objects")
    with pytest.raises((StorageUnavailable, StorageMissing), match="objects"):
        objects.put("a", b"")
    assert objects.get("a") is None


def test_a_broken_write_leaves_the_old_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = FolderObjects(tmp_path)
    objects.put("a", b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageUnavailable, match="No space left"):
        objects.put("a", b"new")
    assert objects.get("a") == b"old"
    assert objects.list() == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_missing_bucket_says_what_to_run() -> None:
    with mock_aws():
        objects = S3Objects(boto3.client("s3", region_name="eu-central-1"), "nowhere")
        for call in (lambda: objects.put("a", b""), lambda: objects.get("a"), objects.list):
            with pytest.raises(StorageMissing, match="bucket nowhere"):
                call()


def test_a_throttled_bucket_is_asked_again() -> None:
    class Busy:
        def put_object(self, **_: object) -> None:
            raise ClientError({"Error": {"Code": "SlowDown"}}, "PutObject")

    with pytest.raises(StorageUnavailable, match="ask again"):
        S3Objects(Busy(), "b").put("a", b"")  # type: ignore[arg-type]
