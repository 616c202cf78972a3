"""AWS's refusals in our words: ask again, or a person must act."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, PartialCredentialsError

from shared.errors import StorageError, StorageMissing, StorageUnavailable

_ABSENT = frozenset({"ResourceNotFoundException", "TableNotFoundException", "NoSuchBucket"})
_FORBIDDEN = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KMSAccessDeniedException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_MISTAKES = frozenset({"ValidationException", "IdempotentParameterMismatchException", "InvalidArgument"})


def code_of(exc: Exception) -> str:
    """Return AWS's word for the failure, "" when it never answered."""
    return str(exc.response.get("Error", {}).get("Code", "")) if isinstance(exc, ClientError) else ""


def translate(exc: ClientError | BotoCoreError, what: str) -> StorageError | ValueError:
    """Return what to raise. `what` names the thing that was asked, such as `table tapewatch`.

    A request that is wrong in itself becomes a ValueError: neither asking again nor a person on duty helps.
    """
    code = code_of(exc)
    if code in _ABSENT:
        return StorageMissing(
            f"there is no {what} in this account and region: deploy the stack (`cdk deploy`), or check the name and"
            " the region in the settings"
        )
    if code in _FORBIDDEN:
        return StorageMissing(f"AWS refused access to {what} ({code}): check the credentials and their rights")
    if isinstance(exc, (NoCredentialsError, PartialCredentialsError)):
        return StorageMissing(f"no AWS credentials for {what}: sign in (`aws configure` or a role), then try again")
    if isinstance(exc, NoRegionError):
        return StorageMissing(f"no AWS region for {what}: set AWS_REGION or aws.region in tapewatch.yaml")
    if code in _MISTAKES and isinstance(exc, ClientError):
        return ValueError(f"{what} cannot take this: {exc.response.get('Error', {}).get('Message', code)}")
    return StorageUnavailable(f"{what} gave no answer ({code or type(exc).__name__}): ask again")
