"""F605: a changed configuration takes effect in the running system; one that cannot be used leaves it as it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from local.config_watch import ConfigWatch
from local.exchange.market import SimulatedMarket
from local.exchange.server import LocalExchange
from local.reloading import COMPONENT, Reloading
from shared.clock import SystemClock, floor_minute_ms
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
