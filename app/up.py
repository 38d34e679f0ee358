"""`ticketqc up`: everything that the product needs, in one process group, until it is asked to stop.

1. The data directory can be written to and is ours alone; the port is free, and taken.
2. The web process begins to import what it needs; meanwhile the embedded database starts, unless one is configured.
3. A process of its own brings the schema up to date and, at the first start, releases the context files and loads the
   sample tickets; until there is an account, it makes a link for the first. (This one stays small: it outlives all the
   others.)
4. The web process answers; worker, clock and, where it is chosen, the local model follow.
5. Who dies is started again. Ctrl-C, SIGTERM and SIGHUP end them all within five seconds, then the database.

If this process is killed, its children end by themselves (`app.lifeline`) and a guardian stops the database
(`app.guardian`); if that is killed too, the next `up` finds the database running and takes it over.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

from app import data_dir, embedded, guardian
from app.errors import CannotStart, NotPrepared
from app.listening import UP, address, called, found_at, listen
from app.supervisor import Child, Supervisor, command, logging_to, open_log, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.model_news import ModelNews
    from app.model_progress import ModelProgress
    from app.settings import Settings

LOOK_EVERY = 0.1  # seconds between looks at children and signals
TELL_AFTER = 20.0  # seconds without an answer from the web process, before we say so
WAIT_FOR_GUARDIAN = 20.0  # seconds that a killed predecessor's processes and database may take to end


class _Stopped(Exception):  # noqa: N818  not an error
    """Somebody asked us to stop."""


class Prepared(NamedTuple):
    """What the preparing process has found and done. `notes` are lines for people."""

    model: str
    local_model: bool
    notes: list[str]
    first_link: str | None  # the token of a link that makes the admin, as long as there is nobody


class _Signals:
    """Heard, not obeyed at once: every step is short, and none is left half done."""

    def __init__(self) -> None:
        self._heard = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants us to stay
                signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: object) -> None:
        self._heard = True

    def pause(self) -> None:
        """A moment. Raises _Stopped after a signal."""
        if not self._heard:
            time.sleep(LOOK_EVERY)
        if self._heard:
            raise _Stopped


def run(settings: Settings, *, samples: bool, say: Callable[[str], None]) -> None:
    """Returns when it was asked to stop, and nothing runs any more."""
    signals = _Signals()
    try:
        with ExitStack() as ending:
            _Up(settings, signals, ending, say).run(samples=samples)
    except _Stopped:
        say("stopped; nothing is left running")


class _Database:
    """The embedded server, if there is one to be: started, started again where it dies, stopped."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._servers: list[embedded.Server] = []

    def start(self) -> None:
        if self._settings.database_url is None:
            self._servers.append(embedded.start(self._settings))
            if not self._servers[0].owned:
                self._say("database: started by another ticketqc process, and stopped when that one ends")

    def look(self) -> None:
        """A dead server is started again; who worked with it connects again by itself. Raises what `start` raises."""
        if self._servers and self._servers[-1].ended:
            self._say("the database ended unexpectedly and is started again; nothing acknowledged is lost")
            self.start()

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@dataclass(frozen=True)
class _Up:
    settings: Settings
    signals: _Signals
    ending: ExitStack
    say: Callable[[str], None]

    def run(self, *, samples: bool) -> None:
        began = time.monotonic()
        own_lock = self.ending.enter_context(_alone(self.settings, self.signals))
        held = self._guarded(own_lock)
        listener = self.ending.enter_context(listen(self.settings))
        database = _Database(self.settings, self.say)
        self.ending.callback(database.stop)  # after the children, who work with it
        children = Supervisor(say=self.say)
        self.ending.callback(children.stop)
        children.add(self._child("serve", "--socket", str(listener.fileno()), held=(listener.fileno(), *held)))
        prepared = self._prepared(database, samples=samples)
        children.go()
        self._wait_for_pages(children)
        for name in ("work", "clock"):
            children.add(self._child(name, held=held))
        self._greet(prepared, seconds=time.monotonic() - began)
        model: ModelProgress | ModelNews = self._model(children) if prepared.local_model else self._model_elsewhere()
        while True:  # until a signal comes
            self.signals.pause()
            database.look()
            children.look()
            model.look()

    def _guarded(self, own_lock: int) -> tuple[int, ...]:
        """What children hold for the guardian to notice that they are gone; it is needed for our own database only."""
        if self.settings.database_url is not None:
            return ()
        watching = guardian.watch(self.settings, closing=own_lock)
        self.ending.callback(watching.dismiss)
        return (watching.line,)

    def _child(self, name: str, *arguments: str, held: tuple[int, ...]) -> Child:
        log = open_log(self.settings.data_dir / "logs", name)
        return Child(name, logging_to(log, name, "--child", *arguments, held=held), log)

    def _prepared(self, database: _Database, *, samples: bool) -> Prepared:
        """The database runs and is ready. The process that prepares it imports while the database starts."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
            order = command("prepare", *([] if samples else ["--no-samples"]))
            process = subprocess.Popen(order, stdin=subprocess.PIPE, stdout=output, stderr=said)  # noqa: S603  our own
            with process:
                try:
                    database.start()
                    tell(process)
                    while process.poll() is None:
                        self.signals.pause()
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                message = _read(said).strip().removeprefix("ticketqc: ")
                raise NotPrepared(message or f"the database could not be prepared (exit code {process.returncode})")
            return Prepared(**json.loads(_read(output)))

    def _wait_for_pages(self, children: Supervisor) -> None:
        began, told = time.monotonic(), False
        while not _answers(self.settings):
            self.signals.pause()
            children.look()
            if not told and time.monotonic() - began > TELL_AFTER:
                self.say(f"still waiting for the pages; see {self.settings.data_dir / 'logs' / 'serve.log'}")
                told = True

    def _greet(self, prepared: Prepared, *, seconds: float) -> None:
        for note in prepared.notes:
            self.say(note)
        self.say(f"data:   {self.settings.data_dir}")
        self.say(f"model:  {prepared.model}")
        if prepared.first_link is not None:
            self.say("nobody can sign in yet; this link makes the admin, works once and for 24 hours:")
            self.say(f"        {address(self.settings)}/welcome/{prepared.first_link}")
        self.say(f"ticketqc is up after {seconds:.1f} s: {address(self.settings)}   (stop it with Ctrl-C)")

    def _model(self, children: Supervisor) -> ModelProgress:
        from app import local_model  # noqa: PLC0415  only where it is chosen
        from app.model_progress import ModelProgress  # noqa: PLC0415

        log = local_model.log_file(self.settings.data_dir)
        children.add(Child("local-model", lambda: local_model.start_process(self.settings), log, needed=False))
        return ModelProgress(self.settings.data_dir, say=self.say)

    def _model_elsewhere(self) -> ModelNews:
        from app.model_news import ModelNews  # noqa: PLC0415  after the start, which it would make longer

        return ModelNews(self.settings, say=self.say)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


@contextmanager
def _alone(settings: Settings, signals: _Signals) -> Iterator[int]:
    """The data directory can be written to, no other `up` works in it, and no guardian of a dead one is at work.

    Yields the lock that is ours alone; the other is our guardian's too, and frees the folder when that has ended.
    """
    home = settings.data_dir
    data_dir.ensure(home)
    data_dir.try_to_write(home)
    with (
        open(home / UP, "a+b", opener=_private) as up,
        open(home / "ending.lock", "a+b", opener=_private) as end,
    ):
        if not _locked(up.fileno()):
            other = os.pread(up.fileno(), 20, 0).decode().partition(" ")[0]
            raise CannotStart(f"ticketqc is already up with the data in {home} (process {other}); stop that one first")
        os.truncate(up.fileno(), 0)
        os.write(up.fileno(), found_at(settings, os.getpid()).encode())
        deadline = time.monotonic() + WAIT_FOR_GUARDIAN
        while not _locked(end.fileno()):
            if time.monotonic() > deadline:
                raise CannotStart(f"processes of a ticketqc that was killed still work in {home}; end them first")
            signals.pause()
        yield up.fileno()


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, mode=0o600)


def _answers(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(called(settings.host), settings.port, timeout=1)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    return False
