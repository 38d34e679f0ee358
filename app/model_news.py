"""Whether a model elsewhere can be used, as lines for the terminal."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from app.listening import address, called

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings import Settings

FIRST_LOOK = 1.0  # seconds
LOOK_EVERY = 5.0  # seconds


class ModelNews:
    """That it cannot be used, and that it can again. The pages know, because the worker writes it down for them."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._next_look = time.monotonic() + FIRST_LOOK
        self._failed = False

    def look(self) -> None:
        """A line, if there is news; called often."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY
        worker = self._ask()
        failed = worker.get("state") == "failed"
        if failed and not self._failed:
            hint = f"why and what to do: {address(self._settings)}/operations, or ticketqc doctor"
            self._say(f"model:  {worker.get('model')} cannot be used, so tickets wait; {hint}")
        elif self._failed and worker.get("state") == "ready":
            self._say(f"model:  {worker.get('model')} is ready")
        if worker.get("state") in {"failed", "ready"}:
            self._failed = failed

    def _ask(self) -> dict[str, str]:
        """Nothing where the pages are just not there, or know of no model yet."""
        host, port = called(self._settings.host), self._settings.port
        with (
            suppress(OSError, http.client.HTTPException, ValueError),
            closing(http.client.HTTPConnection(host, port, timeout=1)) as connection,
        ):
            connection.request("GET", "/readyz")
            worker: dict[str, str] = json.loads(connection.getresponse().read()).get("models", {}).get("worker", {})
            return worker
        return {}
