"""The one tree of errors; each class says whether asking again may help.

TapewatchError
├── ConfigurationError        a setting is wrong or missing: a person must change something
├── UsageError                a command was called with words it cannot take
├── NotEnoughData             too little history for the question asked
├── ExchangeError             the exchange did not give a usable answer
│   ├── ExchangeUnavailable   network, time-out, 5xx: ask again            (retryable)
│   ├── RateLimited           429: ask again after `retry_after_s`         (retryable)
│   ├── Banned                418: no call before `until_ms`
│   ├── Blocked               403: the firewall refused; one probe after minutes
│   ├── RestrictedLocation    451: the exchange does not serve this place
│   ├── UnknownSymbol         -1121 and its kin
│   ├── BadRequest            any other 4xx: the call itself is wrong
│   └── BadResponse           an answer that is not what the exchange documents (retryable)
├── StorageError
│   ├── StorageUnavailable    no answer, throttled: ask again              (retryable)
│   ├── StorageMissing        no table, no file, no rights: a person must act
│   └── StorageBusy           another process owns the state file
└── DeliveryError             a channel did not take an alert; `retryable` is set per case
"""

from __future__ import annotations


class TapewatchError(Exception):
    """Base of every error that this product raises on purpose.

    `code` is stable and machine-readable; the message says what happened and what to do.
    """

    code = "error"
    retryable = False
    exit_status = 1


class ConfigurationError(TapewatchError):
    code = "configuration"


class UsageError(TapewatchError):
    code = "usage"
    exit_status = 2


class NotEnoughData(TapewatchError):
    code = "not_enough_data"


class ExchangeError(TapewatchError):
    """Base of the exchange's failures. `status` is the HTTP status, `api_code` the exchange's own (negative) code."""

    code = "exchange"

    def __init__(self, message: str, *, status: int | None = None, api_code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.api_code = api_code


class ExchangeUnavailable(ExchangeError):
    code = "exchange_unavailable"
    retryable = True


class RateLimited(ExchangeError):
    """429. No call to this host before `retry_after_s` seconds have passed."""

    code = "rate_limited"
    retryable = True

    def __init__(
        self, message: str, *, retry_after_s: float, status: int | None = 429, api_code: int | None = None
    ) -> None:
        super().__init__(message, status=status, api_code=api_code)
        self.retry_after_s = retry_after_s


class Banned(ExchangeError):
    """418. No call to this host before `until_ms` (epoch milliseconds, UTC)."""

    code = "banned"

    def __init__(self, message: str, *, until_ms: int, status: int | None = 418, api_code: int | None = None) -> None:
        super().__init__(message, status=status, api_code=api_code)
        self.until_ms = until_ms


class Blocked(ExchangeError):
    code = "blocked"


class RestrictedLocation(ExchangeError):
    code = "restricted_location"


class UnknownSymbol(ExchangeError):
    code = "unknown_symbol"


class BadRequest(ExchangeError):
    code = "bad_request"


class BadResponse(ExchangeError):
    code = "bad_response"
    retryable = True


class StorageError(TapewatchError):
    code = "storage"


class StorageUnavailable(StorageError):
    code = "storage_unavailable"
    retryable = True


class StorageMissing(StorageError):
    code = "storage_missing"
    exit_status = 3


class StorageBusy(StorageError):
    code = "storage_busy"


class DeliveryError(TapewatchError):
    """A channel did not take an alert.

    `retryable` False means this alert will never be taken; `fatal` True that the destination takes nothing until a
    person acts; `retry_after_s` is the earliest next attempt where the channel named one.
    """

    code = "delivery"

    def __init__(
        self, message: str, *, retryable: bool = True, retry_after_s: float | None = None, fatal: bool = False
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.fatal = fatal
