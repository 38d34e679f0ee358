"""The processes that `up` has started: told when to begin, started again when they die, ended all at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.errors import TicketqcError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CRASHES, WITHIN = 5, 60.0  # this many deaths of one process in so many seconds are a defect, not bad luck
BACKOFF = (0.5, 1.0, 2.0, 4.0)  # seconds before a dead process is started again
STOP_WITHIN = 3.4  # seconds; then they are killed. Leaves the database its part of the five in which all has to end
STOP_AT_ONCE = 1.0  # seconds, for who has nothing to lose
LONGEST_LOG = 10_000_000  # bytes; a start beyond puts the old one aside
LAST_LINES = 5


class CrashLoop(TicketqcError):  # noqa: N818  the name says it
    """A process that cannot run here; everything is ended."""


@dataclass
class Child:
    """One process that has to run. One that is not `needed` may fail for good, and has nothing to finish."""

    name: str
    spawn: Callable[[], subprocess.Popen[bytes]]
    log: Path
    needed: bool = True
    process: subprocess.Popen[bytes] | None = None
    due: float | None = None  # when it is started again
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=CRASHES))

    def start(self) -> None:
        self.process, self.due = self.spawn(), None

    def last_lines(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
            return "\n".join(f"  | {line}" for line in lines)
        return ""


class Supervisor:
    def __init__(self, *, say: Callable[[str], None]) -> None:
        self._say = say
        self._children: list[Child] = []
        self._going = False

    def add(self, child: Child) -> None:
        """Started now; it waits for `go`, if that has not been given yet."""
        self._children.append(child)
        self._start(child)

    def go(self) -> None:
        """The database is ready: those that wait begin, and those that come later do not wait."""
        self._going = True
        for child in self._children:
            tell(child.process)

    def look(self) -> None:
        """Who has died is started again after a while. Raises CrashLoop where that has no end."""
        now = time.monotonic()
        for child in self._children:
            if child.due is not None:
                if now >= child.due:
                    self._start(child)
            elif child.process is not None and child.process.poll() is not None:
                self._died(child, child.process, now=now)

    def stop(self) -> None:
        """None of them runs: asked, and after a while made to."""
        running = [(child, child.process) for child in self._children if child.process is not None]
        for _, process in running:
            process.terminate()
        asked = time.monotonic()
        for child, process in sorted(running, key=lambda pair: pair[0].needed):
            patience = STOP_WITHIN if child.needed else STOP_AT_ONCE
            try:
                process.wait(max(0.0, asked + patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _hang_up(process)
        self._children.clear()

    def _start(self, child: Child) -> None:
        child.start()
        if self._going:
            tell(child.process)

    def _died(self, child: Child, process: subprocess.Popen[bytes], *, now: float) -> None:
        code = process.returncode
        _hang_up(process)
        child.process = None
        if code == 0 and not child.needed:
            return  # it had nothing to do
        child.deaths.append(now)
        recent = sum(now - death < WITHIN for death in child.deaths)
        if recent == CRASHES:
            self._give_up(child)
        else:
            wait = BACKOFF[recent - 1]
            child.due = now + wait
            self._say(f"{child.name} ended unexpectedly ({_how(code)}) and is started again in {wait:g} s")

    def _give_up(self, child: Child) -> None:
        what = f"{child.name} ended {CRASHES} times within {WITHIN:.0f} s; its last lines (all of them: {child.log}):"
        if child.needed:
            raise CrashLoop(f"{what}\n{child.last_lines()}")
        self._say(f"{what}\n{child.last_lines()}\ngoing on without it")


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def tell(process: subprocess.Popen[bytes] | None) -> None:
    """Whoever waits for it begins."""
    if process is not None and process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it is dead, and looked after as such
            process.stdin.write(b"\n")
            process.stdin.flush()


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    """Our end of a dead process' line."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def command(*arguments: str) -> list[str]:
    """Our own command line in the same interpreter."""
    return [sys.executable, "-m", "app.cli", *arguments]


def logging_to(log: Path, *arguments: str, held: Sequence[int] = ()) -> Callable[[], subprocess.Popen[bytes]]:
    """How to start one of our commands as a child that writes to a file and has us at the other end of its input."""

    def spawn() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603  our own command
                command(*arguments), stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=held
            )

    return spawn


def open_log(folder: Path, name: str) -> Path:
    """The file's folder is there, and the file not endless."""
    folder.mkdir(mode=0o700, exist_ok=True)
    log = folder / f"{name}.log"
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LONGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
    return log
