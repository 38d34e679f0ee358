"""The whole product as processes, for benches: started against the double, fed with a file or with signed webhooks,
looked into by /proc.

Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx2
from sqlalchemy import Engine, text

from app.clock import now
from app.db import make_engine, transaction
from app.embedded import running_url
from app.intake import connections
from app.intake.example import Sender, sign
from app.intake.signatures import Options
from app.settings import Settings
from app.vault import Vault
from bench.double import KEY, REPOSITORY
from bench.review import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.double import DoubleProcess

PORT = 8217
GIVE_UP_SECONDS = 240.0
TICK = os.sysconf("SC_CLK_TCK")  # of the times in /proc, per second
SENDERS = 4  # deliveries on their way at once
CONNECTION = "bench"


class Cpu(NamedTuple):
    """Seconds of processor that each has used."""

    web: float
    worker: float
    database: float


@dataclass(frozen=True)
class House:
    """The product while it runs in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    engine: Engine

    def fill(self, tickets: bytes) -> None:
        """These tickets, one a line, are imported."""
        file = self.folder / "tickets.jsonl"
        file.write_bytes(tickets)
        command = [sys.executable, "-m", "app.cli", "import", str(file)]
        subprocess.run(command, cwd=REPOSITORY, env=self.environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603

    def connect(self) -> Sender:
        """A connection that takes signed deliveries, as the other side is told of it."""
        vault = Vault.load(Settings(_env_file=None, data_dir=self.folder / "data"))
        with transaction(self.engine) as session:
            kept = connections.add(session, vault, connections.Wanted(CONNECTION, "standard"))
        address = f"http://127.0.0.1:{PORT}/hooks/{CONNECTION}"
        return Sender(address, "standard", Options(), kept.made_secret or "", mapped=False)

    def send(self, tickets: bytes, *, sender: Sender) -> None:
        """These tickets, one a line, are stored as deliveries, each of which came over a connection of its own."""

        def post(body: bytes) -> None:
            signed = sign(sender, body=body, now=now())
            client.post(signed.address, headers=dict(signed.headers), content=body).raise_for_status()

        limits = httpx2.Limits(max_keepalive_connections=0)
        with httpx2.Client(limits=limits, trust_env=False) as client, ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(post, tickets.splitlines()))

    def wait_for(self, verdicts: int) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while (there := self.count("verdicts")) < verdicts:
            if time.monotonic() > deadline:
                sys.exit(f"gave up: {there} of {verdicts} verdicts after {GIVE_UP_SECONDS:.0f} s")
            time.sleep(0.5)  # looking is work for the database, too

    def count(self, table: str, where: str = "true") -> int:
        with self.engine.connect() as connection:
            found = connection.execute(text(f"select count(*) from {table} where {where}"))  # noqa: S608  our own words
            return int(found.scalar_one())

    def worker(self) -> int:
        """The process id of the worker, which the product may just have started again."""
        return self._child(b"work")

    def cpu(self) -> Cpu:
        """So far, of processes that have lived since the start."""
        return Cpu(_seconds(self._child(b"serve")), _seconds(self.worker()), self._database_seconds())

    def _child(self, name: bytes) -> int:
        found = [pid for pid in _pids() if name in _words(pid) and self._ours(pid)]
        return found[0] if found else sys.exit(f"there is no process of `ticketqc {name.decode()}`")

    def _database_seconds(self) -> float:
        """Of the server, of its processes that live, and of those that have ended."""
        pid = int((self.folder / "data" / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        return _seconds(pid, ended=True) + sum(_seconds(child) for child in _pids() if _parent(child) == pid)

    def _ours(self, pid: int) -> bool:
        try:
            return f"TICKETQC_PORT={PORT}".encode() in (Path("/proc") / str(pid) / "environ").read_bytes()
        except OSError:
            return False


@contextmanager
def house(server: DoubleProcess, **settings: str) -> Iterator[House]:
    """The product with an empty embedded database, up; gone when the block ends."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)  # the account of an embedded database comes through
        environment = {
            "PATH": os.environ["PATH"],  # noqa: TID251  a clean environment for the product
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": server.base_url,
            "TICKETQC_DATA_DIR": str(folder / "data"),
            "TICKETQC_WORKER_MODEL": MODEL,
            "TICKETQC_STRONG_MODEL": "none",
            "TICKETQC_PORT": str(PORT),
            **settings,
        }
        with _up(environment):
            url = running_url(Settings(_env_file=None, data_dir=folder / "data"))
            engine = make_engine(url or sys.exit("the embedded database does not run"))
            yield House(folder, environment, engine)
            engine.dispose()


@contextmanager
def _up(environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "app.cli", "up", "--no-samples"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        while not _answers():
            if process.poll() is not None:
                sys.exit("the product did not start")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _answers() -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz", timeout=1).close()
    except OSError:
        return False
    return True


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _words(pid: int) -> list[bytes]:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """What /proc/PID/stat says after the name, which may hold anything; empty for a process that is gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def _seconds(pid: int, *, ended: bool = False) -> float:
    """Of this process; with `ended`, of its children that are no more too."""
    stat = _stat(pid)
    return sum(map(int, stat[11 : 15 if ended else 13])) / TICK
