"""A child process' end of the line to its parent: when the parent dies, however it dies, the child ends too."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE = 5.0  # seconds to end in good order


def end_with_parent() -> None:
    """From here on this process is asked to end, and then made to, once nobody holds the other end of its input.

    The parent never writes there; it holds the end open, and the system closes it with the parent's last breath.
    """
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), name="lifeline", daemon=True).start()


def _watch(line: int) -> None:
    while os.read(line, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
