"""Who puts the lights out: a small fork of `up` that stops the embedded database where `up` died without doing so."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app import embedded
from app.errors import TicketqcError

if TYPE_CHECKING:
    from app.settings import Settings


@dataclass(frozen=True)
class Guardian:
    """Waits until nobody holds `line` any more: neither we nor the children that inherit it from us."""

    pid: int
    line: int

    def dismiss(self) -> None:
        """The guardian is gone. It finds the database stopped."""
        os.close(self.line)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def watch(settings: Settings, *, closing: int) -> Guardian:
    """Forks, so call it before there are threads, pipes or connections that a copy of us would keep open.

    It keeps what we have open, but for `closing`: the lock that says that somebody is up.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(read)
        return Guardian(pid, write)
    try:
        os.close(write)
        os.close(closing)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # what is meant for everybody is not for the last
        _let_go_of_the_terminal()
        while os.read(read, 1):
            pass
        _stop_database(settings)
    finally:
        os._exit(0)


def _stop_database(settings: Settings) -> None:
    """Only where it runs, and nobody else who lives has started it."""
    with contextlib.suppress(TicketqcError):
        if embedded.running_url(settings) is not None:
            embedded.start(settings).stop()


def _let_go_of_the_terminal() -> None:
    """Whoever reads what `up` prints must see it end with `up`."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
