"""A worker of its own process, doing what a test wants done: python -m tests.worker_process URL FOLDER CONCURRENCY.

A job writes `began:ID`, then does what its task stands for, then writes `done:ID`:
review waits while the file `hold` is there; triage waits for as many others as the worker can run at once;
intake waits for nobody.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from app import log, worker
from app.db import make_engine, transaction
from app.deps import Deps
from app.jobs import Handler
from app.settings import Settings
from app.tables import Tick
from app.vault import Vault

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.model_watch import Models


def main(url: str, folder: str, concurrency: str) -> None:
    """The pace is a tenth of the real one, so that tests of waiting need not wait as long."""
    worker.HEARTBEAT, worker.SILENCE, worker.SWEEP_EVERY = 0.5, timedelta(seconds=2), 0.5
    log.configure()
    engine = make_engine(url)
    settings = Settings(_env_file=None, data_dir=Path(folder), worker_model="none", strong_model="none")
    deps = Deps(engine, Vault.load(settings), settings, cast("Models", _Models(engine)))
    everybody = threading.Barrier(int(concurrency))

    def review(deps: Deps, *, revision_id: int) -> None:
        _say(deps.engine, f"began:{revision_id}:{os.getpid()}")
        while (Path(folder) / "hold").exists():
            time.sleep(0.02)
        _say(deps.engine, f"done:{revision_id}:{os.getpid()}")

    def triage(deps: Deps, *, revision_id: int) -> None:
        everybody.wait(timeout=30)
        _say(deps.engine, f"done:{revision_id}:{os.getpid()}")

    def intake(deps: Deps, *, delivery_id: int) -> None:
        _say(deps.engine, f"done:{delivery_id}:{os.getpid()}")

    handlers = {"review": Handler(review), "triage": Handler(triage), "intake": Handler(intake)}
    worker.run(deps, url=url, handlers=handlers, concurrency=int(concurrency))


class _Models:
    """Writes `refreshed` once; that what models do is another test's subject."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._refreshed = False

    def refresh(self) -> None:
        if not self._refreshed:
            _say(self._engine, "refreshed")
            self._refreshed = True


def _say(engine: Engine, what: str) -> None:
    with transaction(engine) as session:
        session.add(Tick(key=what))


if __name__ == "__main__":
    main(*sys.argv[1:])
