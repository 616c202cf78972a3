"""Larger things by name: a folder on one machine, a bucket in the cloud."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from shared.errors import StorageMissing, StorageUnavailable
from shared.storage.aws_errors import translate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LONGEST_NAME = 900  # bytes; S3 takes 1024 with its prefix


class ObjectStore(Protocol):
    """Names are paths of words joined by `/`.

    Methods raise StorageUnavailable (ask again), StorageMissing (a person must act), or ValueError for a bad name.
    """

    def put(self, name: str, data: bytes) -> None:
        """Store or replace, whole or not at all."""
        ...

    def get(self, name: str) -> bytes | None: ...

    def list(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`, sorted."""
        ...

    def delete(self, name: str) -> None:
        """Delete; nothing happens when it is not there."""
        ...


def checked_name(name: str) -> str:
    """Return a name that is safe as a path below a folder.

    Raises:
        ValueError: it is empty, too long, has control characters or backslashes, or a part that is empty, `.` or `..`.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(ord(sign) < 0x20 or sign in "\\\x7f" for sign in name):
        raise ValueError(f"{name!r} cannot name an object")
    if len(name.encode()) > _LONGEST_NAME or any(len(part.encode()) > 240 for part in parts):
        raise ValueError("the name of an object is too long")
    return name


class FolderObjects:
    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, name: str, data: bytes) -> None:
        path = self._folder / checked_name(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except PermissionError as exc:
            raise StorageMissing(f"{path} cannot be written: allow writing to its folder, or name another") from exc
        except OSError as exc:
            raise StorageUnavailable(f"{path} could not be written: {exc.strerror}") from exc

    def get(self, name: str) -> bytes | None:
        path = self._folder / checked_name(name)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as exc:
            raise StorageUnavailable(f"{path} could not be read: {exc.strerror}") from exc

    def list(self, prefix: str = "") -> list[str]:
        names = (
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if path.is_file() and not path.name.startswith(_TEMPORARY)
        )
        return sorted(name for name in names if name.startswith(prefix))

    def delete(self, name: str) -> None:
        path = self._folder / checked_name(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise StorageUnavailable(f"{path} could not be deleted: {exc.strerror}") from exc


class S3Objects:
    """Objects of one bucket below `prefix`."""

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def put(self, name: str, data: bytes) -> None:
        key = self._prefix + checked_name(name)
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        except (ClientError, BotoCoreError) as exc:
            raise translate(exc, f"bucket {self._bucket}") from exc
        except ResponseParserError as exc:  # it belongs to neither family
            raise StorageUnavailable(f"bucket {self._bucket} answered with something unreadable: ask again") from exc

    def get(self, name: str) -> bytes | None:
        key = self._prefix + checked_name(name)
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise translate(exc, f"bucket {self._bucket}") from exc
        except BotoCoreError as exc:
            raise translate(exc, f"bucket {self._bucket}") from exc

    def list(self, prefix: str = "") -> list[str]:
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        except (ClientError, BotoCoreError) as exc:
            raise translate(exc, f"bucket {self._bucket}") from exc
        return sorted(key.removeprefix(self._prefix) for key in keys)

    def delete(self, name: str) -> None:
        key = self._prefix + checked_name(name)
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        except (ClientError, BotoCoreError) as exc:
            raise translate(exc, f"bucket {self._bucket}") from exc


_TEMPORARY = ".writing-"
