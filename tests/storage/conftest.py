"""The fixture `table`: the same tests on SQLite, moto, the sweeps' own AWS, and on DynamoDB Local when asked for."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from shared.storage.dynamodb import DynamoTable
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "delivery"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import dynamodb_local
from aws_faults import Faults
from small_aws import SmallAws

_names = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """DynamoDB Local joins only a run that names its marker: it costs a download and some seconds."""
    if "table" not in metafunc.fixturenames:
        return
    chosen = str(metafunc.config.option.markexpr)
    kinds: list[Any] = ["memory", "file", "moto", "small_aws"]
    if "dynamodb_local" in chosen and "not dynamodb_local" not in chosen:
        kinds.append(pytest.param("dynamodb_local", marks=pytest.mark.dynamodb_local))
    metafunc.parametrize("table", kinds, indirect=True)


@pytest.fixture
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    """An empty table."""
    kind: str = request.param
    if kind == "moto":
        with mock_aws():
            client = request.getfixturevalue("moto_client")
            yield DynamoTable(client, create_table(client), sleep=lambda _: None)
    elif kind == "small_aws":  # what the sweeps of the delivery tests stand on must be as good as the others
        yield DynamoTable(request.getfixturevalue("small_aws_client"), "small", sleep=lambda _: None)
    elif kind == "dynamodb_local":
        client = request.getfixturevalue("dynamodb_local_client")
        name = create_table(client)
        yield DynamoTable(client, name)
        client.delete_table(TableName=name)
    else:
        sqlite = SqliteTable(":memory:" if kind == "memory" else tmp_path / "state.sqlite")
        yield sqlite
        sqlite.close()


@pytest.fixture(scope="session")
def moto_client() -> Any:
    """One client for all tests, for it takes long to make; it answers only inside `mock_aws`."""
    return boto3.client("dynamodb", region_name="eu-central-1")


@pytest.fixture
def small_aws_client() -> Any:
    client = boto3.client("dynamodb", region_name="eu-central-1")
    return Faults(SmallAws(tables={"small": {}})).attach(client)


@pytest.fixture(scope="session")
def dynamodb_local_client() -> Iterator[Any]:
    """A client of DynamoDB Local; the test is skipped, with the reason, where it cannot run."""
    serving = dynamodb_local.server()
    try:
        address = serving.__enter__()
    except dynamodb_local.Unusable as exc:
        pytest.skip(str(exc))
    yield boto3.client("dynamodb", endpoint_url=address, config=Config(retries={"max_attempts": 0}))
    serving.__exit__(None, None, None)


@pytest.fixture
def is_moto(request: pytest.FixtureRequest) -> bool:
    return request.node.callspec.params.get("table") == "moto"


def create_table(client: Any) -> str:
    name = f"tapewatch-{next(_names)}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
    )
    return name


@pytest.fixture
def dynamo(moto_client: Any) -> Iterator[tuple[Any, Callable[[Any], DynamoTable]]]:
    """A moto client with one table, and a maker of DynamoTables over a client that wraps it."""
    with mock_aws():
        name = create_table(moto_client)
        yield moto_client, lambda wrapped: DynamoTable(wrapped, name, sleep=lambda _: None)
