"""What a transaction may consist of, for every table alike."""

from __future__ import annotations

from collections.abc import Sequence

from shared.storage.codec import check_key, key_of
from shared.storage.table import Put, Write

_MAX_WRITES = 100


def check_writes(writes: Sequence[Write]) -> Sequence[Write]:
    """Return the writes of a transaction: 1 to 100 of them, to distinct keys, as DynamoDB wants them.

    Raises:
        ValueError: they are not.
    """
    if not 0 < len(writes) <= _MAX_WRITES:
        raise ValueError(f"a transaction has 1 to {_MAX_WRITES} writes, not {len(writes)}")
    keys = {key_of(write.item) if isinstance(write, Put) else check_key(write.key) for write in writes}
    if len(keys) != len(writes):
        raise ValueError("the writes of a transaction must have distinct keys")
    return writes
