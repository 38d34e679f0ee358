"""What commands share that ask a model themselves: the local one loaded, a bar, and an end without waiting."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from app.local_model import LocalState
    from app.settings import Settings

POLL_SECONDS = 0.5


@contextmanager
def left_at_once() -> Iterator[None]:
    """Asked to stop we go, though threads wait for an answer; the local model's process ends with its parent."""
    from app.review_file import Stopped

    try:
        yield
    except Stopped as stopped:
        typer.echo(f"ticketqc: {stopped}", err=True)
        os._exit(stopped.exit_code)


def loaded_local_model(settings: Settings, errors: Console) -> LocalState:
    """The local model, attached to where it runs already, else started by us and ended with us."""
    from app import local_model
    from app.errors import ModelError

    process = None
    with errors.status("loading the local model") as status:
        while (state := local_model.read_state(settings.data_dir)).state != "ready":
            if state.state == "failed":
                raise ModelError(state.detail)
            if state.state == "absent":
                process = _running(process, settings)
            share = f" {state.progress:.0%}" if state.progress is not None else ""
            status.update(f"local model: {state.state}{share}")
            time.sleep(POLL_SECONDS)
    return state


def _running(process: subprocess.Popen[bytes] | None, settings: Settings) -> subprocess.Popen[bytes]:
    """Our own process of the local model; one that found another's at work ended with 0 and may be needed again."""
    import atexit

    from app import local_model
    from app.errors import ModelError

    if process is None or process.poll() == 0:
        process = local_model.start_process(settings)
        atexit.register(process.terminate)
    elif (code := process.poll()) is not None:
        raise ModelError(f"the local model ended ({code}); see {local_model.log_file(settings.data_dir)}")
    return process


@contextmanager
def progress(errors: Console, *, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error where that is a terminal; nothing otherwise."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as bar:
        task = bar.add_task("tickets", total=total)
        yield lambda: bar.advance(task)
