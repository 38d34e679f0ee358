"""The whole product as a stranger starts it, stops it and pulls its plug."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from app import data_dir
from app.errors import DataDirError
from app.importing import SAMPLES
from app.listening import address, of_running
from app.settings import Settings
from tests.house import House, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")

ON_A_BUSY_MACHINE = 6  # times the seconds promised: test machines are small and shared


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def house(home: Path) -> Iterator[House]:
    made = House(home / "data", free_port())
    yield made
    made.clean_up()


def judged(house: House) -> bool:
    queue = house.ready()["queue"]
    return queue["waiting"] == queue["running"] == 0


def test_from_the_first_start_to_the_last_process(house: House) -> None:
    samples = len(SAMPLES.read_text().splitlines())

    house.is_up()
    assert f"loaded {samples} sample tickets" in "\n".join(house.lines)
    assert f"http://127.0.0.1:{house.port}" in house.lines[-1]
    assert any(line.startswith("model:  none") for line in house.lines)
    wait_until(lambda: judged(house))
    assert house.count("tickets") == samples
    verdicts = house.count("verdicts")
    assert verdicts > 0
    assert "Nobody has an account yet" in house.get("/sign-in")
    assert "<table" in house.sign_in()
    assert "<table" in house.get("/")

    for name in ("serve", "work", "clock"):
        was = house.pid(name)
        os.kill(was, signal.SIGKILL)
        wait_until(lambda name=name, was=was: bool(house.pids(name) - {was}))  # type: ignore[misc]
    assert house.get("/healthz")

    os.kill(house.database(), signal.SIGKILL)
    wait_until(lambda: house.answers("/readyz"))

    assert house.end(signal.SIGINT) < 5 * ON_A_BUSY_MACHINE
    assert house.process is not None
    assert house.process.returncode == 0
    assert house.left() == []

    log = house.data / "logs" / "work.log"
    before = log.stat().st_size
    assert house.is_up() < 5 * ON_A_BUSY_MACHINE
    assert "loaded" not in "\n".join(house.lines)
    assert "/welcome/" not in "\n".join(house.lines)
    assert (house.count("tickets"), house.count("verdicts")) == (samples, verdicts)
    wait_until(lambda: "worker.started" in log.read_text()[before:])  # up may be up before its worker is
    assert house.end(signal.SIGTERM) < 5 * ON_A_BUSY_MACHINE
    assert house.left() == []
    assert "warning" not in log.read_text()[before:]  # the database outlived those who work with it


def test_whatever_kills_it_the_next_start_finds_the_place_clean(house: House) -> None:
    house.is_up("--no-samples")
    assert house.count("tickets") == 0
    house.end(signal.SIGKILL)
    wait_until(lambda: house.left() == [], seconds=10 * ON_A_BUSY_MACHINE)

    house.is_up("--no-samples")
    house.end(signal.SIGKILL)
    house.is_up("--no-samples")  # at once, while the processes of the last are just ending
    for pid, command in house.processes().items():
        if "app.cli" in command:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any("app.cli" in command for command in house.left()))
    assert any("postgres" in command for command in house.left())  # nobody was left to stop it

    house.is_up("--no-samples")
    house.end(signal.SIGINT, everybody=True)  # Ctrl-C in a terminal
    assert house.left() == []
    assert "Traceback" not in house.rest()


def test_a_second_one_on_the_same_data_is_refused(house: House) -> None:
    house.is_up("--no-samples")
    elsewhere = Settings(_env_file=None, data_dir=house.data)  # as in another terminal, which knows of no port
    assert address(of_running(elsewhere)) == f"http://127.0.0.1:{house.port}"
    second = House(house.data, free_port())
    second.start()
    assert second.process is not None
    said, _ = second.process.communicate(timeout=60)
    assert second.process.returncode == 2
    assert house.process is not None
    assert f"already up with the data in {house.data} (process {house.process.pid})" in said
    assert house.get("/healthz")
    house.end(signal.SIGKILL)
    assert of_running(elsewhere) == elsewhere


def test_a_signal_in_the_middle_of_the_start_leaves_nothing(house: House) -> None:
    house.start()
    wait_until(lambda: any("postgres" in command for command in house.left()))
    house.end(signal.SIGINT)
    assert house.left() == []


def test_a_port_in_use_is_one_clear_line(house: House) -> None:
    with socket.create_server(("127.0.0.1", house.port)):
        code, said = house.refused()
    assert code == 2
    assert said.startswith(f"ticketqc: cannot listen on 127.0.0.1, port {house.port} (address already in use)")
    assert len(said.splitlines()) == 1


def test_an_unknown_setting_is_named(house: House) -> None:
    house.environment["TICKETQC_PROT"] = "8000"
    code, said = house.refused()
    assert code == 2
    assert "TICKETQC_PROT: there is no such setting; did you mean TICKETQC_PORT?" in said


def test_a_data_directory_that_cannot_be_made_is_one_clear_line(house: House) -> None:
    house.data = Path("/proc/ticketqc")
    code, said = house.refused()
    assert code == 1
    assert said.startswith("ticketqc: cannot write /proc/ticketqc")
    assert "TICKETQC_DATA_DIR" in said


def test_a_data_directory_without_the_right_to_write_is_one_clear_line(house: House) -> None:
    house.data.mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom no folder refuses
        house.user = "nobody"
        try:
            subprocess.run([sys.executable, "-V"], check=True, user="nobody")
        except PermissionError:
            pytest.skip("somebody else cannot run this Python")
    code, said = house.refused()
    assert code == 1
    assert said.startswith(f"ticketqc: cannot write {house.data}")


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataDirError, match=r"No space left on device.*nothing was changed"):
        data_dir.try_to_write(tmp_path)


def test_a_database_of_a_newer_version_is_left_alone(house: House, empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("create table alembic_version (version_num varchar(32) not null)")
        connection.execute("insert into alembic_version values ('ffffffffffff')")
    house.environment["TICKETQC_DATABASE_URL"] = empty_database
    code, said = house.refused()
    assert code == 1
    assert said.startswith("ticketqc: this database was made by a newer ticketqc")


def test_a_database_that_is_not_there_is_one_clear_line(house: House) -> None:
    house.environment["TICKETQC_DATABASE_URL"] = f"postgresql://nobody@/nothing?host={house.data}"
    code, said = house.refused()
    assert code == 1
    assert "the database cannot be reached" in said
    assert "Traceback" not in said
