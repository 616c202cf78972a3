"""The state of the deployment on AWS, for a command of the owner's: the table by the owner's own credentials."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import StorageMissing
from shared.settings import Settings, StorageSettings
from shared.storage.aws_errors import translate
from shared.storage.dynamodb import DynamoTable


class DeployedTable(DynamoTable):
    """The deployment's table; there is nothing to close, but whoever opens a state closes it."""

    def close(self) -> None:
        return None


def deployed_table(settings: Settings) -> DeployedTable:
    """Return the table of the stack that `aws.stack_name` names, or that which `storage.table_name` was set to.

    Raises:
        StorageMissing: no credentials, no region, no such stack, or no right to look at it; the message says which.
        StorageUnavailable: AWS gave no answer.
    """
    import boto3

    region = settings.aws.region
    name = settings.storage.table_name
    stack = f"{settings.aws.stack_name}Data"
    try:
        if name == StorageSettings().table_name:  # AWS chose the name; the stack tells it
            found = boto3.client("cloudformation", region_name=region).describe_stacks(StackName=stack)["Stacks"]
            outputs = {one["OutputKey"]: one["OutputValue"] for one in found[0].get("Outputs", [])}
            if "TableName" not in outputs:
                raise StorageMissing(f"the stack {stack} names no table: deploy again, or set storage.table_name")
            name = outputs["TableName"]
        return DeployedTable(boto3.client("dynamodb", region_name=region), name)
    except ClientError as exc:
        if "does not exist" in str(exc.response.get("Error", {}).get("Message", "")):
            raise StorageMissing(
                f"there is no stack {stack} in this account and region: deploy it, or set aws.region and aws.stack_name"
            ) from None
        raise translate(exc, f"stack {stack}") from exc
    except BotoCoreError as exc:
        raise translate(exc, f"stack {stack}") from exc
