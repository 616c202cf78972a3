"""F605: a changed configuration takes effect in the running system; one that cannot be used leaves it as it is."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.config_watch import ConfigWatch
from local.exchange.market import SimulatedMarket
from local.exchange.server import LocalExchange
from local.reloading import COMPONENT, Reloading
from shared.clock import SystemClock, floor_minute_ms
from shared.detection.reading import Detector, Signal
from shared.market.model import Market
from shared.settings_loader import load_settings
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.sqlite import SqliteTable


def wait(until: Callable[[], bool], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_symbols_come_with_the_file_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    clock = SystemClock()
    file = tmp_path / "tapewatch.yaml"
    with LocalExchange(SimulatedMarket(seed=3, start_ms=floor_minute_ms(clock.now_ms())), clock) as exchange:
        common = (
            f"exchange: {{spot_rest_url: '{exchange.rest_url}', spot_ws_url: '{exchange.ws_url}'}}\n"
            "sector: {enabled: false}\nvolume_spike: {enabled: false}\norder_book: {enabled: false}\n"
            f"api: {{enabled: false}}\nstorage: {{sqlite_path: '{tmp_path / 'state.sqlite'}'}}\n"
        )
        file.write_text(common + "universe: {spot_symbols: [BTCUSDT]}\n")
        settings = load_settings(str(file), {}).settings
        table, stop = SqliteTable(str(tmp_path / "state.sqlite")), threading.Event()
        running = Reloading(table, ConfigWatch(str(file), settings, {}), stop, as_json=False, backfill=False)
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(running.run(settings)), daemon=True)
        thread.start()

        def problem() -> object:
            return HeartbeatRepository(table).all().get(COMPONENT, {}).get("problem")

        def streamed() -> tuple[object, object]:
            now = running.world.streamer.status() if running.world and running.world.streamer else {}
            return now.get("symbols"), now.get("state")

        try:
            wait(lambda: streamed() == (1, "live"))
            file.write_text(common + "universe: {spot_symbols: [BTCUSDT, ETHUSDT], nonsense: 1}\n")
            os.utime(file, ns=(1, 1))
            wait(lambda: "nonsense" in str(problem()))
            assert streamed() == (1, "live")
            file.write_text(common + "universe: {spot_symbols: [BTCUSDT, ETHUSDT]}\n")
            wait(lambda: streamed() == (2, "live"))
            assert problem() is None
        finally:
            stop.set()
            thread.join(20)
            table.close()
    assert ended == [True]


def test_neither_a_taken_port_nor_a_channel_that_hangs_ends_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old settings come back where the new ones cannot start; a part that does not end holds nothing up."""
    monkeypatch.setenv("TAPEWATCH_WEBHOOK_SECRET", "correct horse battery")
    clock = SystemClock()
    file = tmp_path / "tapewatch.yaml"
    with (
        LocalExchange(SimulatedMarket(seed=3, start_ms=floor_minute_ms(clock.now_ms())), clock) as exchange,
        socket.create_server(("127.0.0.1", 0)) as silent,  # takes a connection and never answers
        socket.create_server(("127.0.0.1", 0)) as other,
    ):

        def write(port: int, symbols: str) -> None:
            file.write_text(
                f"exchange: {{spot_rest_url: '{exchange.rest_url}', spot_ws_url: '{exchange.ws_url}'}}\n"
                "sector: {enabled: false}\nvolume_spike: {enabled: false}\norder_book: {enabled: false}\n"
                f"api: {{port: {port}}}\nuniverse: {{spot_symbols: [{symbols}]}}\n"
                f"storage: {{sqlite_path: '{tmp_path / 'state.sqlite'}', objects_path: '{tmp_path / 'objects'}'}}\n"
                f"alerts: {{webhook: {{enabled: true, url: 'http://127.0.0.1:{silent.getsockname()[1]}/'}}}}\n"
            )

        write(0, "BTCUSDT")
        settings = load_settings(str(file), {}).settings
        table, stop = SqliteTable(str(tmp_path / "state.sqlite")), threading.Event()
        watch = ConfigWatch(str(file), settings, os.environ)
        running = Reloading(table, watch, stop, as_json=False, backfill=False)
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(running.run(settings)), daemon=True)
        thread.start()

        def streamed() -> tuple[object, object]:
            now = running.world.streamer.status() if running.world and running.world.streamer else {}
            return now.get("symbols"), now.get("state")

        def problem() -> str:
            return str(HeartbeatRepository(table).all().get(COMPONENT, {}).get("problem"))

        try:
            wait(lambda: streamed() == (1, "live"))
            first = running.world
            write(other.getsockname()[1], "BTCUSDT, ETHUSDT")
            wait(lambda: "cannot serve the API" in problem())
            wait(lambda: streamed() == (1, "live"))
            second = running.world
            assert second is not None
            assert second is not first
            now_ms = clock.now_ms()
            second.alerts.handle(Signal(Detector.SYSTEM, Market.SPOT, "x", now_ms, now_ms, {"message": "m"}, {}))
            write(0, "ETHUSDT, BTCUSDT")
            wait(lambda: streamed() == (2, "live"))
            assert problem() == "None"
            third = running.world
            assert third is not None
            assert third.streamer is not None
            assert second.streamer is not None
            assert third.streamer.ownership.lease is not None
            assert second.streamer.ownership.lease is None
        finally:
            stop.set()
            thread.join(20)
            table.close()
    assert ended == [False]
