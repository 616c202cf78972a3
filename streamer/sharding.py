"""Which task streams which symbol: rendezvous hashing; pure.

Each task scores each symbol by a hash of both names, and the highest score has it. Every task works this out alone and
comes to the same answer; adding a task moves only the symbols that it wins, removing one only those it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def shard_of(symbol: str, shards: int) -> int:
    """Return the number of the task, 0 to shards - 1, that streams the symbol."""
    return max(range(shards), key=lambda shard: _score(symbol, shard))


def share_of(symbols: Iterable[str], shard: int, shards: int) -> tuple[str, ...]:
    """Return the symbols of one task, in the order given."""
    return tuple(symbol for symbol in symbols if shards == 1 or shard_of(symbol, shards) == shard)


def _score(symbol: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}\0{symbol}".encode(), digest_size=16).digest()
