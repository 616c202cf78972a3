"""moto as a server on loopback, one request at a time: its threads lose writes under concurrent transactions."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

ACCOUNT = "123456789012"
REGION = "eu-central-1"


@contextmanager
def moto_server() -> Iterator[str]:
    """Serve an emulated account; yields its address. Lambda is not run, its calls are answered at once."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *words: Any) -> None:
            pass

    mend()
    app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            return list(app(environ, start_response))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Quiet)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        post(address, "/moto-api/reset", b"")
        post(address, "/moto-api/config", json.dumps({"lambda": {"use_docker": False}}).encode())
        yield address
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def post(address: str, path: str, body: bytes) -> None:
    request = urllib.request.Request(
        address + path, data=body, method="POST", headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


def account_env(address: str) -> dict[str, str]:
    """Return the environment that sends every SDK's calls to the server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ENDPOINT_URL_S3": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def mend() -> None:
    """Teach moto that a reference to an event bus is its name, and to leave calling functions to the test."""
    from moto.events.models import EventBus, Rule

    EventBus.physical_resource_id = property(lambda self: self.name)  # type: ignore[attr-defined]
    Rule.send_to_targets = lambda self, *words, **more: None  # type: ignore[method-assign]
