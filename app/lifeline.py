"""A process that `up` started is tied to it by its standard input, which `up` holds open as long as it lives.

A line on it says that the database is ready; its end says that `up` has died, in whatever way, and that we end too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE = 4.0  # seconds to end in good order


def wait_for_go() -> None:
    """Returns once the parent says so; ends this process if the parent dies first."""
    if not os.read(sys.stdin.fileno(), 1):
        sys.exit(1)


def end_with_parent() -> None:
    """From here on this process is asked to end, and then made to, once the parent is gone."""
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), name="lifeline", daemon=True).start()


def _watch(line: int) -> None:
    while os.read(line, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
