"""F101, F106 with toxiproxy between streamer and exchange: what our own fault proxy says, said by somebody else's.

`go install github.com/Shopify/toxiproxy/v2/cmd/server@latest` gives the binary `server`: name it in
TAPEWATCH_TOXIPROXY, or put it on the PATH as `toxiproxy-server`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.storage.sqlite import SqliteTable
from tests.faults.harness import Exchange, figure, finished, judge, make_service
from tests.streamer.streams import settings
from tests.streamer.test_service import FakeAlerts, ServedFeed, wait_until

TOXIPROXY = os.environ.get("TAPEWATCH_TOXIPROXY") or shutil.which("toxiproxy-server")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TOXIPROXY, reason="toxiproxy is not here: set TAPEWATCH_TOXIPROXY to its server"),
]


class Toxiproxy:
    """A running toxiproxy with one proxy in front of an address."""

    def __init__(self, api: int, upstream: str) -> None:
        self._api = api
        self.port: int = int(self._ask("POST", "/proxies", name="exchange", listen="127.0.0.1:0", upstream=upstream)
                             ["listen"].rpartition(":")[2])  # fmt: skip

    def add(self, kind: str, **attributes: int) -> None:
        self._ask("POST", "/proxies/exchange/toxics", name=kind, type=kind, stream="downstream", attributes=attributes)

    def remove(self, kind: str) -> None:
        self._ask("DELETE", f"/proxies/exchange/toxics/{kind}")

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._api}{path}", json.dumps(body).encode() if body else None, method=method
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextmanager
def toxiproxy(upstream: str) -> Iterator[Toxiproxy]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        api = free.getsockname()[1]
    assert TOXIPROXY is not None
    process = subprocess.Popen(
        [TOXIPROXY, "-host", "127.0.0.1", "-port", str(api)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def up() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", api)) == 0

        wait_until(up, 10)
        yield Toxiproxy(api, upstream)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("row", "toxic", "attributes"),
    [
        ("F101", "limit_data", {"bytes": 40_001}),  # somewhere inside a frame
        ("F101", "reset_peer", {"timeout": 300}),
        ("F106", "timeout", {"timeout": 0}),  # nothing comes through and nothing is closed
    ],
)
def test_f101_f106_toxiproxy_agrees(row: str, toxic: str, attributes: dict[str, int]) -> None:
    exchange, table, alerts = Exchange(per_s=150), SqliteTable(":memory:"), FakeAlerts()
    base = settings(watchdog_seconds=1.0)
    with ServedFeed(exchange.script) as feed, toxiproxy(feed.url.removeprefix("ws://")) as proxy:
        service = make_service(f"ws://127.0.0.1:{proxy.port}", exchange, table, alerts, base)
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] > 300)
        proxy.add(toxic, **attributes)
        wait_until(lambda: service.status()["reconnects"] >= 1)
        proxy.remove(toxic)
        wait_until(lambda: finished(service, exchange), 60)
        wait_until(lambda: service.status()["queued"] == 0)
        reconnects = service.status()["reconnects"]
        assert service.stop(15)
    figure(row=row, toxic=toxic, reconnects=reconnects)
    verdict = judge(exchange, table, [alerts], base)
    assert verdict.clean, verdict
