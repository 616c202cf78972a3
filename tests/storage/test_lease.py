"""One owner at a time, whatever the clocks say."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.storage.lease import Lease, LeaseRepository
from shared.storage.table import Put, Table


def test_one_owner_until_it_releases(table: Table) -> None:
    repo, other = LeaseRepository(table), LeaseRepository(table)
    mine = repo.acquire("streamer", "me", 0, 10_000)
    assert mine == Lease("streamer", "me", 1, 1, 10_000)
    assert other.acquire("streamer", "you", 0, 10_000) is None
    assert other.acquire("another", "you", 0, 10_000) is not None
    repo.release(mine)
    yours = other.acquire("streamer", "you", 1, 10_000)
    assert yours is not None
    assert yours.fence == 2
    repo.release(mine)
    assert repo.renew(mine) is None
    assert other.renew(yours) is not None


def test_the_next_run_under_the_same_name_goes_on_at_once_and_the_old_one_is_out(table: Table) -> None:
    repo = LeaseRepository(table)
    old = repo.acquire("streamer", "me", 0, 10_000)
    assert old is not None
    new = repo.acquire("streamer", "me", 1, 10_000)
    assert new == Lease("streamer", "me", 2, 2, 10_000)
    assert not table.transact([old.check()]).applied
    assert repo.renew(old) is None
    repo.release(old)  # an old run that hung and ends late
    assert repo.renew(new) is not None


@pytest.mark.parametrize("wrong_by_ms", [0, -600_000, 600_000, 10**12])
def test_a_dead_owner_is_followed_after_its_silence_on_the_followers_clock(table: Table, wrong_by_ms: int) -> None:
    """F410: the two clocks are never compared."""
    owner, follower = LeaseRepository(table), LeaseRepository(table)
    lease = owner.acquire("streamer", "me", 0, 10_000)
    assert lease is not None
    now = wrong_by_ms
    for _ in range(5):  # as long as the owner renews, nobody follows
        for _ in range(3):
            assert follower.acquire("streamer", "you", now, 10_000) is None
            now += 3_000
        lease = owner.renew(lease)
        assert lease is not None
    assert follower.acquire("streamer", "you", now, 10_000) is None
    assert follower.acquire("streamer", "you", now + 9_999, 10_000) is None
    followed = follower.acquire("streamer", "you", now + 10_000, 10_000)
    assert followed is not None
    assert followed.fence == lease.fence + 1


def test_an_owner_that_slept_through_its_lease_writes_nothing(table: Table) -> None:
    """F408: its writes carry the fence, and are refused."""
    sleeper, follower = LeaseRepository(table), LeaseRepository(table)
    lease = sleeper.acquire("streamer", "me", 0, 1_000)
    assert lease is not None
    assert table.transact([Put({"pk": "w", "sk": "1"}), lease.check()]).applied
    renewed = sleeper.renew(lease)
    assert renewed is not None
    assert table.transact([Put({"pk": "w", "sk": "2"}), lease.check()]).applied  # a renewal does not end the fence
    follower.acquire("streamer", "you", 0, 1_000)
    taken = follower.acquire("streamer", "you", 1_000, 1_000)
    assert taken is not None
    assert not table.transact([Put({"pk": "w", "sk": "3"}), renewed.check()]).applied
    assert table.transact([Put({"pk": "w", "sk": "4"}), taken.check()]).applied
    assert sleeper.renew(renewed) is None
    assert [item["sk"] for item in table.query("w")] == ["1", "2", "4"]


def test_of_many_followers_one_follows(table: Table, is_moto: bool) -> None:
    if is_moto:
        pytest.skip("moto's tables take no lock; DynamoDB Local proves this")
    LeaseRepository(table).acquire("streamer", "dead", 0, 1_000)
    start = threading.Barrier(6)

    def follow(me: int) -> Lease | None:
        repo, since = LeaseRepository(table), random.Random(me).randrange(10**6)
        assert repo.acquire("streamer", f"{me}", since, 1_000) is None
        start.wait()
        return repo.acquire("streamer", f"{me}", since + 1_000, 1_000)

    with ThreadPoolExecutor(6) as pool:
        leases = [lease for lease in pool.map(follow, range(6)) if lease is not None]
    assert [lease.fence for lease in leases] == [2]
