"""kill -9 of the worker in the middle of 62 reviews: every ticket has its verdict, and no recorded reply is paid again.

    .venv/bin/python -m bench.crash [--latency 0.3] [--kills 1]

Starts the whole product in a temporary folder against the double, imports the first 62 real tickets, kills the worker
when about a third of the verdicts are there, and lets the product start it again. Linux only: it looks into /proc.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text

from app.db import make_engine
from app.embedded import running_url
from app.settings import Settings
from bench.double import KEY, REPOSITORY, DoubleProcess, double
from bench.review import COUNT, MODEL, TICKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = 8217
GIVE_UP_SECONDS = 180.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds a call")
    parser.add_argument("--kills", type=int, default=1)
    arguments = parser.parse_args()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    with tempfile.TemporaryDirectory() as folder, double(latency=arguments.latency) as server:
        Path(folder).chmod(0o711)
        environment = _environment(server, Path(folder) / "data")
        with _product(environment):
            engine = make_engine(_database(Path(folder) / "data"))
            _import(Path(folder), environment)
            _kill_and_wait(engine, kills=arguments.kills)
            _print(engine, server)
            engine.dispose()


def _environment(server: DoubleProcess, data_dir: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],  # noqa: TID251  a clean environment for the product
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": server.base_url,
        "TICKETQC_DATA_DIR": str(data_dir),
        "TICKETQC_WORKER_MODEL": MODEL,
        "TICKETQC_STRONG_MODEL": "none",
        "TICKETQC_PORT": str(PORT),
    }


@contextmanager
def _product(environment: dict[str, str]) -> Iterator[None]:
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


def _database(data_dir: Path) -> str:
    url = running_url(Settings(_env_file=None, data_dir=data_dir))
    return url or sys.exit("the embedded database does not run")


def _import(folder: Path, environment: dict[str, str]) -> None:
    file = folder / "tickets.jsonl"
    with TICKETS.open("rb") as source:
        file.write_bytes(b"".join(islice(source, COUNT)))
    command = [sys.executable, "-m", "app.cli", "import", str(file)]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def _kill_and_wait(engine: Engine, *, kills: int) -> None:
    started = killed = time.monotonic()
    for kill in range(1, kills + 1):
        _wait_for(engine, COUNT * kill // (kills + 2))
        before = _count(engine, "verdicts")
        os.kill(_worker(), signal.SIGKILL)
        killed = time.monotonic()
        print(f"killed the worker with {before} verdicts after {killed - started:.1f} s")
        _wait_for(engine, _count(engine, "verdicts") + 1)
        print(f"  the next verdict came {time.monotonic() - killed:.1f} s later")
    _wait_for(engine, COUNT)
    print(f"{COUNT} verdicts {time.monotonic() - killed:.1f} s after the last kill")


def _wait_for(engine: Engine, verdicts: int) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while (there := _count(engine, "verdicts")) < verdicts:
        if time.monotonic() > deadline:
            sys.exit(f"gave up: {there} of {verdicts} verdicts after {GIVE_UP_SECONDS:.0f} s")
        time.sleep(0.02)


def _count(engine: Engine, table: str, where: str = "true") -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"select count(*) from {table} where {where}")).scalar_one())  # noqa: S608


def _worker() -> int:
    """The process id of the worker, which the product may just have started again."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            port = (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"work" in words and f"TICKETQC_PORT={PORT}".encode() in port:
            return int(entry.name)
    sys.exit("there is no worker process")


def _print(engine: Engine, server: DoubleProcess) -> None:
    calls = server.account()["totals"]
    kept = _count(engine, "runs", "replied")
    again = _count(engine, "runs", "outcome = 'duplicate'")
    lost = calls["replies"] - kept - again
    print(f"replies: {calls['replies']} given by the server, {kept} on record; {lost} died with the worker unrecorded")
    print(f"asked again although on record: {again}")


if __name__ == "__main__":
    main()
