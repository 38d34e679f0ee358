"""One Postgres cluster on disk: make it, start its server, ask whether it answers, stop it. Locks are the caller's."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import psycopg
from psycopg import sql

from app.binaries import ENVIRONMENT
from app.errors import EmbeddedError

if TYPE_CHECKING:
    from app.binaries import Binaries

NAME = "ticketqc"  # of the database and its role
PORT = "5432"  # only part of the socket's name: nothing listens on the network
LONGEST_SOCKET = 103  # bytes; Linux takes 107, macOS 103
WAIT_READY = 300.0  # seconds; replaying the log after a crash takes its time on a slow disk
WAIT_RETRY = 20.0  # seconds
# What a killed server leaves behind for a moment: itself as a zombie, and children that hold its memory.
PASSING = ('lock file "postmaster.pid" already exists', "pre-existing shared memory block")
WAIT_STOP = 60  # seconds
PAUSE = 0.02
LONGEST_LOG = 1_000_000  # bytes; a start beyond puts the old one aside
# For a small machine that also runs a model. `terse`: a log must not repeat the row that broke a rule.
OPTIONS = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "max_connections": "100",  # enough for the pages, two workers and some commands
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
OWN_LOCALE_SINCE = 17  # from this Postgres on the locale is its own, the same on every system
# What Postgres says where the disk is full; the second alone where the last block was written in part.
FULL = ("No space left on device", "Check free disk space")


class Address(NamedTuple):
    socket: str
    port: str

    def url(self, database: str) -> str:
        return f"postgresql://{NAME}@/{database}?host={quote(self.socket, safe='/')}&port={self.port}"


@dataclass(frozen=True)
class Cluster:
    """`base` holds everything of it; `programs` know who runs them."""

    base: Path
    programs: Binaries

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def log(self) -> Path:
        return self.base / "server.log"

    def answering(self) -> Address | None:
        """The address of the running server, if it answers. Its own note says where its socket is."""
        try:
            note = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None
        if [line.strip() for line in note[7:8]] != ["ready"]:
            return None
        address = Address(socket=note[4], port=note[3])
        answer = self.programs.run(
            "pg_isready", "-q", "-h", address.socket, "-p", address.port, "-U", NAME, "-d", "postgres"
        )
        return address if answer.returncode == 0 else None

    def make(self) -> None:
        """There is a complete cluster of this Postgres's version: a new one is made beside, then renamed."""
        major = self.programs.major
        if (self.data / "PG_VERSION").exists():
            return self._check_version(major)
        draft = self.base / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        self._own_folder(draft)
        made = self.programs.run("initdb", "-D", draft, *_initdb_options(major))
        if made.returncode:
            raise self._failed("the database could not be made", made.stdout)
        draft.rename(self.data)
        return None

    def launch(self) -> tuple[subprocess.Popen[bytes], Address]:
        """A server that answers. Tries again while what a killed server left behind goes away."""
        started = time.monotonic()
        while True:
            before = self._rotate_log()
            process = self._spawn()
            try:
                if address := self._until_ready(process, deadline=started + WAIT_READY):
                    return process, address
            except BaseException:  # Ctrl-C among them: leave no server behind
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
            said = self.log.read_bytes()[before:].decode(errors="replace")
            if not any(sign in said for sign in PASSING) or time.monotonic() - started > WAIT_RETRY:
                raise self._failed("the database could not be started", said)
            time.sleep(0.2)

    def make_database(self, address: Address) -> None:
        """Our database exists in the running server."""
        try:
            with psycopg.connect(address.url("postgres"), autocommit=True) as connection:
                if not connection.execute("select from pg_database where datname = %s", [NAME]).rowcount:
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(NAME)))
        except psycopg.Error as error:
            raise self._failed("the database could not be made", str(error)) from error

    def stop(self) -> None:
        """No server runs. Connections are closed, everything acknowledged is on disk."""
        if not (self.data / "postmaster.pid").exists():
            return
        stopped = self.programs.run("pg_ctl", "stop", "-D", self.data, "-m", "fast", "-w", "-t", str(WAIT_STOP))
        if stopped.returncode and self.answering():
            raise self._failed("the database could not be stopped", stopped.stdout)

    def _check_version(self, major: str) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != major:
            raise EmbeddedError(
                f"the database in {self.data} was made by Postgres {made_by}, and this is Postgres {major}; nothing "
                f"was changed. Set TICKETQC_PG_BIN to the folder of Postgres {made_by}'s programs."
            )

    def _spawn(self) -> subprocess.Popen[bytes]:
        """In a session of its own, so that Ctrl-C reaches us and not the server; it logs to a file, never a pipe."""
        options = {**OPTIONS, "unix_socket_directories": str(self._socket_folder())}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with open(self.log, "ab", opener=_private) as log:
            process = subprocess.Popen(  # noqa: S603  our own arguments, no shell
                self.programs.command("postgres", "-D", self.data, *arguments),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", env=ENVIRONMENT,
                **self.programs.identity(),
            )  # fmt: skip
        # Killed, it must not stay behind as our zombie: Postgres takes that for a running server and starts no other.
        threading.Thread(target=process.wait, name="postgres-reaper", daemon=True).start()
        return process

    def _until_ready(self, process: subprocess.Popen[bytes], *, deadline: float) -> Address | None:
        """None where the process has ended instead."""
        while process.poll() is None:
            if address := self.answering():
                return address
            if time.monotonic() > deadline:
                raise EmbeddedError(f"the database has not answered for {WAIT_READY:.0f} s; its log: {self.log}")
            time.sleep(PAUSE)
        return None

    def _rotate_log(self) -> int:
        """The log's length now."""
        with suppress(FileNotFoundError):
            if (length := self.log.stat().st_size) <= LONGEST_LOG:
                return length
            self.log.replace(self.log.with_suffix(".log.1"))
        return 0

    def _socket_folder(self) -> Path:
        """Beside the data; where that is too long for a socket or has a character lists are split at, in the temporary
        folder under a name of its own."""
        near = self.base / "socket"
        if len(os.fsencode(near / f".s.PGSQL.{PORT}")) > LONGEST_SOCKET or set(str(near)) & set(",\"'\\"):
            name = "ticketqc-" + hashlib.sha256(os.fsencode(self.base)).hexdigest()[:16]
            near = self._temporary() / name
        self._own_folder(near)
        return near

    def _temporary(self) -> Path:
        chosen = Path(tempfile.gettempdir())
        account = self.programs.account
        return chosen if account is None or account.may_pass(chosen / "ticketqc") else Path("/tmp")  # noqa: S108

    def _own_folder(self, folder: Path) -> None:
        """A folder of the server's account alone. One that somebody else has put there is refused, not used."""
        account = self.programs.account
        uid = account.uid if account else os.geteuid()
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if account is not None:
                os.chown(folder, account.uid, account.gid)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise EmbeddedError(f"{folder} is not a private folder of the database's account; move it away")

    def _failed(self, what: str, said: str) -> EmbeddedError:
        if any(sign in said for sign in FULL):
            return EmbeddedError(
                f"{what}: the disk that holds {self.base} is full. What was stored is safe. "
                "Free some space and start again, or set TICKETQC_DATA_DIR to a folder on another disk."
            )
        last = " ".join(said.strip().splitlines()[-3:]) or "it said nothing"
        return EmbeddedError(f"{what}: {last} (its log: {self.log})")


def _initdb_options(major: str) -> list[str]:
    own = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    locale = own if int(major) >= OWN_LOCALE_SINCE else ["--locale=C.UTF-8"]
    return ["-U", NAME, "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--data-checksums", *locale]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, mode=0o600)
