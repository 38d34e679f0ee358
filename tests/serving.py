"""An application behind a real socket, for what only a real server shows: bodies that stop half way, many at once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uvicorn._types import ASGIApplication


@contextmanager
def serving(app: object) -> Iterator[str]:
    """Its address while the block runs."""
    config = uvicorn.Config(cast("ASGIApplication", app), host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
