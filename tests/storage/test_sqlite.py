"""What only the SQLite table has: a file, other processes, other people's files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.errors import StorageError, StorageMissing, StorageUnavailable
from shared.storage.sqlite import FORMAT, SqliteTable
from shared.storage.table import Absent, Check, Equals, Put

REPOSITORY = Path(__file__).resolve().parents[2]


def test_keeps_its_items_when_closed_and_opened(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "state.sqlite"
    table = SqliteTable(path)
    table.put({"pk": "p", "sk": "a", "x": 1})
    table.close()
    again = SqliteTable(str(path), create=False)
    assert again.get(("p", "a")) == {"pk": "p", "sk": "a", "x": 1}
    again.close()


CALLS: dict[str, Callable[[SqliteTable], Any]] = {
    "get": lambda table: table.get(("p", "a")),
    "put": lambda table: table.put({"pk": "p", "sk": "a"}),
    "conditional put": lambda table: table.put({"pk": "p", "sk": "a"}, Absent()),
    "delete": lambda table: table.delete(("p", "a")),
    "query": lambda table: table.query("p"),
    "batch_put": lambda table: table.batch_put([{"pk": "p", "sk": "a"}]),
    "batch_get": lambda table: table.batch_get([("p", "a")]),
    "transact": lambda table: table.transact([Check(("p", "a"), Absent())]),
    "purge": lambda table: table.purge_expired(0),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_table_says_so(call: str) -> None:
    table = SqliteTable(":memory:")
    table.close()
    table.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        CALLS[call](table)


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StorageMissing, match=r"no state file at .*tapewatch run"):
        SqliteTable(tmp_path / "state.sqlite", create=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_or_a_file_in_the_way_of_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "state.sqlite"):
        with pytest.raises(StorageMissing, match="name a"):
            SqliteTable(path)


@pytest.mark.parametrize("content", [b"symbol,price\n" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageMissing, match=r"not a database|damaged"):
        SqliteTable(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE contacts (name)")
    other.close()
    with pytest.raises(StorageMissing, match="another program"):
        SqliteTable(path)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    SqliteTable(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {FORMAT + 1}")
    newer.close()
    with pytest.raises(StorageMissing, match="newer version"):
        SqliteTable(path)


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere (root)")
    with pytest.raises(StorageMissing, match="cannot be"):
        SqliteTable(folder / "state.sqlite")


def test_a_file_that_became_read_only_is_named(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "state.sqlite")
    table._db.execute("PRAGMA query_only = ON")  # what the system says then, without changing users
    with pytest.raises(StorageMissing, match="cannot be written"):
        table.put({"pk": "p", "sk": "a"})
    table.close()


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    table = SqliteTable(path)
    table.put({"pk": "p", "sk": "before"})
    (pages,) = table._db.execute("PRAGMA page_count").fetchone()
    table._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = {"pk": "p", "sk": "big", "data": b"x" * 100_000}
    for write in (
        lambda: table.put(big),
        lambda: table.put(big, Absent()),
        lambda: table.batch_put([{"pk": "p", "sk": "small"}, big]),
        lambda: table.transact([Put({"pk": "p", "sk": "small"}), Put(big)]),
    ):
        with pytest.raises(StorageUnavailable, match="disk is full"):
            write()
        assert table.query("p") == [{"pk": "p", "sk": "before"}]
    table._db.execute("PRAGMA max_page_count = 1000000")
    assert table.put(big, Absent()).applied
    table.close()


def test_a_damaged_item_is_named_and_harms_no_other(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "state.sqlite")
    table.put({"pk": "p", "sk": "a"})
    table.put({"pk": "p", "sk": "b"})
    table._db.execute("UPDATE items SET body = x'c1' WHERE sk = 'a'")
    with pytest.raises(StorageUnavailable, match="cannot be read"):
        table.get(("p", "a"))
    assert table.get(("p", "b")) == {"pk": "p", "sk": "b"}


def test_a_file_locked_by_another_program_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    table = SqliteTable(path, busy_s=0.2)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert table.get(("p", "a")) is None  # readers are not in its way
    with pytest.raises(StorageUnavailable, match="locked"):
        table.put({"pk": "p", "sk": "a"})
    with pytest.raises(StorageUnavailable, match="locked"):
        table.put({"pk": "p", "sk": "a"}, Absent())
    other.execute("ROLLBACK")
    assert table.put({"pk": "p", "sk": "a"}, Absent()).applied
    other.close()
    table.close()


def test_processes_racing_for_the_same_keys_never_both_win(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    script = """
import sys
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Absent
table = SqliteTable(sys.argv[1])
won = [n for n in range(200) if table.put({"pk": "race", "sk": str(n), "by": sys.argv[2]}, Absent()).applied]
print(",".join(map(str, won)))
"""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(me)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for me in range(3)
    ]
    won: list[int] = []
    for racer in racers:
        out, _ = racer.communicate(timeout=60)
        assert racer.returncode == 0
        won += [int(number) for number in out.strip().split(",") if number]
    assert sorted(won) == list(range(200))


def test_a_killed_writer_leaves_whole_transactions_behind(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    script = """
import sys
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Put
table = SqliteTable(sys.argv[1])
n = 0
while True:
    table.transact([Put({"pk": "pair", "sk": f"{n:06d}{half}", "data": b"x" * 3000}) for half in "ab"])
    n += 1
    if n == 20:
        print("going", flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.05)
    writer.kill()
    writer.communicate()
    table = SqliteTable(path)
    found = [str(item["sk"]) for item in table.query("pair")]
    assert len(found) >= 40
    assert found == [f"{number:06d}{half}" for number in range(len(found) // 2) for half in "ab"]
    table.close()


def test_threads_share_one_table(tmp_path: Path) -> None:
    table, failures = SqliteTable(tmp_path / "state.sqlite"), []

    def work(me: int) -> None:
        try:
            for number in range(50):
                table.put({"pk": f"{me}", "sk": f"{number:02d}"})
                assert len(table.query(f"{me}")) == number + 1
        except (StorageError, AssertionError) as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    table.close()


def test_purging_deletes_only_what_has_expired() -> None:
    table = SqliteTable(":memory:")
    table.batch_put(
        [
            {"pk": "p", "sk": "past", "expires_at": 99},
            {"pk": "p", "sk": "now", "expires_at": 100},
            {"pk": "p", "sk": "future", "expires_at": 101},
            {"pk": "p", "sk": "part", "expires_at": 100.5},
            {"pk": "p", "sk": "never"},
            {"pk": "p", "sk": "odd", "expires_at": "soon"},
        ]
    )
    table.put({"pk": "p", "sk": "past", "expires_at": 500})  # extended: the newest word counts
    assert len(table.query("p")) == 6
    assert table.purge_expired(100) == 2
    assert [item["sk"] for item in table.query("p")] == ["future", "never", "odd", "past"]
    assert table.purge_expired(100) == 0


def test_tokens_are_forgotten_after_ten_minutes() -> None:
    now = [0.0]
    table = SqliteTable(":memory:", wall_s=lambda: now[0])
    write = [Put({"pk": "p", "sk": "a"}, Absent())]
    assert table.transact(write, token="t").applied
    now[0] = 599
    assert table.transact(write, token="t").applied
    now[0] = 601
    assert not table.transact(write, token="t").applied
    assert table.transact([Put({"pk": "p", "sk": "b"}, Absent())], token="t").applied


def test_writes_by_the_thousand_each_second(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "state.sqlite")
    started = time.perf_counter()
    for number in range(1000):
        table.put({"pk": "p", "sk": f"{number}", "n": number}, Absent())
    assert time.perf_counter() - started < 2  # 0.1 s on an idle machine
    assert table.put({"pk": "p", "sk": "7"}, Equals("n", 7)).applied
    table.close()
