"""What the local model is doing, as lines for the terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from app import local_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.local_model import LocalState

LOOK_EVERY = 1.0  # seconds
STEP_TERMINAL, STEP = 0.1, 0.5  # of a download, between two lines; fewer where a log keeps them


class ModelProgress:
    def __init__(self, data_dir: Path, *, say: Callable[[str], None]) -> None:
        self._data_dir = data_dir
        self._say = say
        self._step = STEP_TERMINAL if sys.stdout.isatty() else STEP
        self._next_look = 0.0
        self._told: tuple[str, int] = ("absent", 0)

    def look(self) -> None:
        """A line, if there is news; called often."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY
        state = local_model.read_state(self._data_dir)
        news = (state.state, int((state.progress or 0.0) / self._step))
        if news != self._told and state.state != "absent":
            self._say(line(state))
        self._told = news


def line(state: LocalState) -> str:
    share = "" if state.progress is None else f" {state.progress:.0%}"
    return f"local model: {state.state}{share}" + (f" ({state.detail})" if state.detail else "")
