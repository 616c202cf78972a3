"""F605: settings that change while the system runs; a file that cannot be used changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local.config_watch import ConfigWatch
from shared.settings_loader import load_settings


def write(file: Path, text: str, at: list[int] = [1_000_000_000_000_000_000]) -> None:  # noqa: B006 - a clock for files
    file.write_text(text)
    at[0] += 1_000_000_000
    os.utime(file, ns=(at[0], at[0]))


def polled(watch: ConfigWatch) -> bool:
    """Look twice: what is read was the same in two looks."""
    return watch.poll() or watch.poll()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "tapewatch.yaml", "volume_spike: {threshold: 3}")
    return tmp_path / "tapewatch.yaml"


@pytest.fixture
def watch(file: Path) -> ConfigWatch:
    return ConfigWatch(str(file), load_settings(str(file), {}).settings, {})


def test_other_settings_are_offered_once(file: Path, watch: ConfigWatch) -> None:
    assert not polled(watch)
    write(file, "volume_spike: {threshold: 4}")
    assert not watch.poll()  # somebody may still be writing
    assert watch.poll()
    assert watch.fresh is not None
    assert watch.fresh.volume_spike.threshold == 4
    watch.taken()
    assert not polled(watch)
    assert watch.fresh is None


def test_a_comment_more_changes_nothing(file: Path, watch: ConfigWatch) -> None:
    write(file, "# louder\nvolume_spike: {threshold: 3}")
    assert not polled(watch)
    assert watch.fresh is None


@pytest.mark.parametrize("text", ["volume_spike: {threshold: 0}", "a: &x 1\nb: *x", "api: [1", "#" * 70_000])
def test_a_bad_file_is_told_and_its_repair_ends_the_problem(file: Path, watch: ConfigWatch, text: str) -> None:
    write(file, text)
    assert polled(watch)
    assert watch.problem
    assert watch.fresh is None
    write(file, "volume_spike: {threshold: 3}")
    assert polled(watch)
    assert (watch.problem, watch.fresh) == (None, None)


def test_a_file_that_is_gone_is_told(file: Path, watch: ConfigWatch) -> None:
    file.unlink()
    assert polled(watch)
    assert "does not exist" in str(watch.problem)


def test_the_place_of_the_state_waits_for_the_next_start(file: Path, watch: ConfigWatch) -> None:
    write(file, "storage: {sqlite_path: elsewhere.sqlite}\nvolume_spike: {threshold: 5}")
    assert polled(watch)
    assert watch.fresh is not None
    assert watch.fresh.storage.sqlite_path != "elsewhere.sqlite"
    assert watch.notes == ["storage: takes effect at the next start"]


def test_settings_that_could_not_be_started_stay_refused_until_the_file_changes(file: Path, watch: ConfigWatch) -> None:
    before = watch.running
    write(file, "volume_spike: {threshold: 4}")
    assert polled(watch)
    watch.taken()
    watch.refused(before, "the port is taken")
    assert not polled(watch)
    assert (watch.running, watch.fresh, watch.problem) == (before, None, "the port is taken")
    write(file, "volume_spike: {threshold: 5}")
    assert polled(watch)
    assert watch.problem is None
    assert watch.fresh is not None
    assert watch.fresh.volume_spike.threshold == 5
