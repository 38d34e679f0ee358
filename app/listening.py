"""Where the pages are found, and the socket that they are served from."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from app.errors import CannotStart

if TYPE_CHECKING:
    from app.settings import Settings

UP = "up.lock"  # in the data directory: which `up` works there, and where it listens
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  who listens everywhere is called here


def listen(settings: Settings) -> socket.socket:
    """The port is ours from here on. Raises CannotStart."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {settings.host}, port {settings.port} ({_why(error)}); "
            "stop what uses it, or choose another: make run PORT=8001, or TICKETQC_PORT=8001"
        ) from None


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "there is no such address"
    return os.strerror(error.errno).lower() if error.errno else str(error)


def called(host: str) -> str:
    """How this machine calls itself where it listens on `host`."""
    return EVERYWHERE.get(host, host)


def address(settings: Settings) -> str:
    """Where people find the pages."""
    host = called(settings.host)
    return settings.base_url or f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def found_at(settings: Settings, pid: int) -> str:
    """What an `up` leaves in the data directory for commands in other terminals."""
    return f"{pid} {settings.host} {settings.port}"


def of_running(settings: Settings) -> Settings:
    """With the place where the `up` of this data directory listens: PORT=8080 of its terminal is not in ours."""
    try:
        pid, host, port = (settings.data_dir / UP).read_text().split()
        running = settings.model_copy(update={"host": host, "port": int(port)})
        with suppress(PermissionError):  # it is alive, and another account's
            os.kill(int(pid), 0)
    except (OSError, ValueError):  # none, a dead one, or one that is just beginning
        return settings
    return running
