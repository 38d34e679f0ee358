"""`ticketqc up` as a process of its own session, so that a test can see what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import psycopg
from psycopg import sql

from app import embedded
from app.settings import Settings
from tests.factories import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass
class House:
    data: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    process: subprocess.Popen[str] | None = None
    browser: OpenerDirector = field(default_factory=lambda: build_opener(HTTPCookieProcessor()))
    lines: list[str] = field(default_factory=list)

    def start(self, *options: str) -> None:
        """Returns at once."""
        self._close_output()
        given = {
            "PATH": os.defpath,
            "TICKETQC_DATA_DIR": str(self.data),
            "TICKETQC_PORT": str(self.port),
            "TICKETQC_WORKER_MODEL": "none",
            "TICKETQC_STRONG_MODEL": "none",
            **self.environment,
        }
        self.process = subprocess.Popen(  # noqa: S603  our own command
            [sys.executable, "-m", "app.cli", "up", *options],
            env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            user=self.user, cwd=REPOSITORY,
        )  # fmt: skip

    def is_up(self, *options: str) -> float:
        """Started, and up after so many seconds by its own account."""
        self.start(*options)
        assert self.process is not None
        assert self.process.stdout is not None
        self.lines.clear()
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if "is up after" in line:
                return float(line.split("is up after ")[1].split(" s")[0])
        raise AssertionError("\n".join(self.lines))

    def command(self, *words: str) -> str:
        """What another of our commands says that works on the same data, and ends well."""
        done = subprocess.run(  # noqa: S603  our own command
            [sys.executable, "-m", "app.cli", *words],
            env={"PATH": os.defpath, "TICKETQC_DATA_DIR": str(self.data)}, cwd=REPOSITORY,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def refused(self, *options: str) -> tuple[int, str]:
        """Exit code and words of a start that comes to nothing; nothing is left of it."""
        self.start(*options)
        assert self.process is not None
        said, _ = self.process.communicate(timeout=60)
        assert self.left() == []
        return self.process.returncode, said

    def end(self, number: signal.Signals, *, everybody: bool = False) -> float:
        """Seconds from the signal, to `up` or to its whole group, until `up` has ended."""
        assert self.process is not None
        sent = time.monotonic()
        (os.killpg if everybody else os.kill)(self.process.pid, number)
        self.process.wait(30)
        return time.monotonic() - sent

    def pid(self, name: str) -> int:
        """Of the child that runs this command."""
        (found,) = self.pids(name)
        return found

    def pids(self, name: str) -> set[int]:
        """None for a moment where one has ended and the next has not begun."""
        return {pid for pid, command in self.processes().items() if f"app.cli {name} " in command}

    def database(self) -> int:
        """The server's process id."""
        return int((self.data / "postgres" / "data" / "postmaster.pid").read_text().split()[0])

    def rest(self) -> str:
        """What it said since it was up; it has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def answers(self, path: str) -> bool:
        try:
            return bool(self.get(path))
        except OSError:
            return False

    def running(self) -> set[str]:
        """Which of our commands run, besides `up` itself."""
        named = {command.partition("app.cli ")[2].partition(" ")[0] for command in self.left()}
        return named - {"", "up"}

    def processes(self) -> dict[int, str]:
        """Of this session, or working on this data directory, the database server among them."""
        assert self.process is not None
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                state, _parent, _group, session = (folder / "stat").read_text().rpartition(") ")[2].split()[:4]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                ours = session == str(self.process.pid) or f"{self.data}/" in command
                if ours and state != "Z":
                    found[int(folder.name)] = command
        return found

    def left(self) -> list[str]:
        return list(self.processes().values())

    def get(self, path: str) -> str:
        return self._asked(f"http://127.0.0.1:{self.port}{path}")

    def sign_in(self) -> str:
        """By the link that this start has printed; the page that its user then sees."""
        (link,) = (line.strip() for line in self.lines if "/welcome/" in line)
        form = {"email": "ada@example.com", "name": "Ada Sato", "password": PASSWORD, "again": PASSWORD}
        return self._asked(link, urlencode(form).encode())

    def _asked(self, address: str, form: bytes | None = None) -> str:
        with self.browser.open(address, form, timeout=20) as answer:
            body: bytes = answer.read()
        return body.decode()

    def ready(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = json.loads(self.get("/readyz"))
        return found

    def count(self, table: str) -> int:
        """Rows of a table of the embedded database, which runs."""
        url = embedded.running_url(Settings(_env_file=None, data_dir=self.data))
        assert url is not None
        with psycopg.connect(url) as connection:
            row = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchone()
        assert row is not None
        return int(row[0])

    def clean_up(self) -> None:
        if self.process is not None:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._close_output()

    def _close_output(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
            self.process.wait(30)


def wait_until(true: Callable[[], bool], *, seconds: float = 60) -> float:
    """How long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - began
