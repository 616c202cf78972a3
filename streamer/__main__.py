"""Entry of the streamer's container: runs until SIGTERM or SIGINT, then stores what it has within 20 s."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable

from shared.errors import TapewatchError
from shared.observability import make_logger
from streamer.bootstrap import production_service
from streamer.health_file import HealthFile
from streamer.service import StreamerService

FLUSH_WITHIN_S = 15.0  # of the 20 s that a deployment leaves between SIGTERM and the end


async def serve(service: StreamerService) -> None:
    """Run the service until a signal asks for its end."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await service.run(stop, flush_within_s=FLUSH_WITHIN_S)


def in_container() -> StreamerService:
    return production_service(progress=HealthFile())


def main(build: Callable[[], StreamerService] = in_container) -> int:
    """Return the exit status; an error is one JSON object on stderr, never a traceback."""
    make_logger()
    try:
        asyncio.run(serve(build()))
    except TapewatchError as exc:
        sys.stderr.write(json.dumps({"error": str(exc), "code": exc.code}) + "\n")
        return exc.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
