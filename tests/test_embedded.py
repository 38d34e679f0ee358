"""The embedded Postgres, for real: each test has a data directory and servers of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app import binaries, cluster, embedded
from app.errors import DataDirError, EmbeddedError
from app.settings import Settings

ROOT = os.geteuid() == 0
STARTER = """
import sys
from pathlib import Path
from app import embedded
from app.settings import Settings
server = embedded.start(Settings(_env_file=None, data_dir=Path(sys.argv[1])))
print(server.owned, server.url, flush=True)
sys.stdin.read()
server.stop()
"""

Start = Callable[[Path], embedded.Server]
Starter = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Like `embedded.start` of a data directory; what is still running is stopped after the test."""
    servers: list[embedded.Server] = []

    def started(data_dir: Path) -> embedded.Server:
        servers.append(embedded.start(_settings(data_dir)))
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


@pytest.fixture
def starter() -> Iterator[Starter]:
    """Another process that starts the server and stops it when its input ends."""
    running: list[subprocess.Popen[str]] = []

    def begin(data_dir: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", STARTER, str(data_dir)]
        running.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  ourselves
        )
        return running[-1]

    yield begin
    for process in running:
        process.communicate()


def _settings(data_dir: Path, pg_bin: Path | None = None) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir, pg_bin=pg_bin)


def _answer(process: subprocess.Popen[str]) -> tuple[bool, str]:
    assert process.stdout is not None
    owned, url = process.stdout.readline().split()
    return owned == "True", url


def _write(server: embedded.Server, value: int) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create table if not exists kept (value int)")
        connection.execute("insert into kept values (%s)", [value])


def _kept(server: embedded.Server) -> list[int]:
    with psycopg.connect(server.url) as connection:
        return [row[0] for row in connection.execute("select value from kept order by value")]


def _server_pid(server: embedded.Server) -> int:
    return int((server.directory / "data" / "postmaster.pid").read_text().splitlines()[0])


def _alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _programs(folder: Path, **scripts: str) -> Path:
    """Postgres's programs, some of them replaced by shell scripts."""
    folder.mkdir()
    real = binaries.find(None)
    for name in binaries.NEEDED:
        if name in scripts:
            (folder / name).write_text(f"#!/bin/sh\n{scripts[name].format(real=real / name)}\n")
            (folder / name).chmod(0o755)
        else:
            (folder / name).symlink_to(real / name)
    return folder


def test_a_cold_start_makes_a_private_database_and_a_warm_one_keeps_it(home: Path, start: Start) -> None:
    server = start(home / "data")
    assert server.owned
    _write(server, 1)
    for private in ("data", "socket"):
        assert stat.S_IMODE((server.directory / private).stat().st_mode) == 0o700
    assert embedded.running_url(_settings(home / "data")) == server.url
    pid = _server_pid(server)
    server.stop()
    assert not _alive(pid)
    assert embedded.running_url(_settings(home / "data")) is None
    again = start(home / "data")
    assert _kept(again) == [1]


def test_the_server_is_safe_and_modest(home: Path, start: Start) -> None:
    wanted = {"fsync": "on", "listen_addresses": "", "data_checksums": "on", "server_encoding": "UTF8"}
    with psycopg.connect(start(home / "data").url) as connection:
        for name, value in wanted.items():
            assert connection.execute("select current_setting(%s)", [name]).fetchone() == (value,)


def test_who_attaches_does_not_stop_it(home: Path, start: Start) -> None:
    server = start(home / "data")
    attached = start(home / "data")
    assert attached.url == server.url
    assert not attached.owned
    attached.stop()
    _write(server, 1)
    server.stop()
    server.stop()
    assert embedded.running_url(_settings(home / "data")) is None


def test_four_starters_at_once_make_one_server(home: Path, starter: Starter) -> None:
    answers = [_answer(process) for process in [starter(home / "data") for _ in range(4)]]
    assert sorted(owned for owned, _ in answers) == [False, False, False, True]
    assert len({url for _, url in answers}) == 1


def test_a_killed_server_comes_back_with_every_acknowledged_row(home: Path, start: Start) -> None:
    server = start(home / "data")
    _write(server, 1)
    os.kill(_server_pid(server), signal.SIGKILL)
    again = start(home / "data")
    assert _kept(again) == [1]
    assert not again.owned  # its first starter lives, and stops it
    server.stop()
    assert embedded.running_url(_settings(home / "data")) is None


def test_a_killed_starter_leaves_its_server_to_the_next(home: Path, start: Start, starter: Starter) -> None:
    first = starter(home / "data")
    _, url = _answer(first)
    first.kill()
    first.wait()
    server = start(home / "data")
    assert server.url == url
    assert server.owned
    pid = _server_pid(server)
    server.stop()
    _gone(pid)


def test_both_killed(home: Path, start: Start, starter: Starter) -> None:
    first = starter(home / "data")
    _answer(first)
    os.kill(int((home / "data/postgres/data/postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    first.kill()
    first.wait()
    server = start(home / "data")
    assert server.owned
    _write(server, 1)


def _gone(pid: int) -> None:
    for _ in range(100):
        if not _alive(pid):
            return
        time.sleep(0.05)
    pytest.fail("the server still runs")


@pytest.mark.parametrize("name", ["with space", "a,b", "per%cent+plus", "größe", "it's", "x" * 120])
def test_any_path_will_do(home: Path, start: Start, name: str) -> None:
    server = start(home / name)
    _write(server, 1)
    assert embedded.running_url(_settings(home / name)) == server.url
    server.stop()
    shutil.rmtree(_socket_of(server))


def _socket_of(server: embedded.Server) -> Path:
    return Path(str(conninfo_to_dict(server.url)["host"]))


def test_a_long_path_has_its_socket_in_a_private_temporary_folder(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    folder = _socket_of(start(home / ("x" * 120)))
    assert folder.parent == home
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_socket_folder_that_somebody_else_made_is_refused(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    server = start(home / ("x" * 120))
    server.stop()
    folder = _socket_of(server)
    folder.rename(home / "elsewhere")
    folder.symlink_to(home / "elsewhere")
    with pytest.raises(EmbeddedError, match="not a private folder"):
        start(home / ("x" * 120))


def test_a_read_only_data_directory(unprivileged: Path, start: Start) -> None:
    unprivileged.chmod(0o500)
    for folder in (unprivileged, unprivileged / "data"):
        with pytest.raises(DataDirError, match=r"Permission denied.*nothing was changed.*TICKETQC_DATA_DIR"):
            start(folder)


def test_a_data_directory_that_is_a_file(home: Path, start: Start) -> None:
    (home / "data").write_text("")
    with pytest.raises(DataDirError, match="is a file"):
        start(home / "data")


def test_a_database_of_somebody_else(unprivileged: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    (unprivileged / "postgres/data").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(EmbeddedError, match=r"belongs to .*; start ticketqc as .* or as root"):
        start(unprivileged)


def test_a_folder_of_somebody_else(unprivileged: Path, start: Start) -> None:
    (unprivileged / "postgres").mkdir()
    (unprivileged / "postgres").chmod(0o600)
    assert embedded.running_url(_settings(unprivileged)) is None
    with pytest.raises(DataDirError, match="Permission denied"):
        start(unprivileged)


@pytest.mark.parametrize(
    "said",
    [
        "initdb: could not write: No space left on device",
        "FATAL: could not extend file: wrote only 4096 of 8192 bytes\nHINT: Check free disk space.\nAborted",
    ],
)
def test_a_disk_full_while_the_database_is_made(home: Path, said: str) -> None:
    programs = _programs(home / "bin", initdb=f"echo '{said}' >&2; exit 1")
    with pytest.raises(EmbeddedError, match=r"disk that holds .* is full.*Free some space"):
        embedded.start(_settings(home / "data", programs))
    assert not (home / "data/postgres/data").exists()


def test_a_disk_full_while_the_server_starts(home: Path, start: Start) -> None:
    start(home / "data").stop()
    full = 'case $1 in -V) exec {real} -V;; esac; echo "FATAL: could not write: No space left on device" >&2; exit 1'
    programs = _programs(home / "bin", postgres=full)
    with pytest.raises(EmbeddedError, match=r"could not be started: the disk that holds .* is full"):
        embedded.start(_settings(home / "data", programs))


def test_a_server_that_will_not_start_says_why(home: Path, start: Start) -> None:
    server = start(home / "data")
    server.stop()
    with (server.directory / "data/postgresql.conf").open("a") as file:
        file.write("nonsense = 1\n")
    with pytest.raises(EmbeddedError, match=r'could not be started: .*"nonsense".*server\.log'):
        start(home / "data")


def test_a_server_that_never_answers_is_not_left_behind(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WAIT_READY", 0.3)
    monkeypatch.setattr(cluster.Cluster, "answering", lambda _: None)
    with pytest.raises(EmbeddedError, match="has not answered"):
        start(home / "data")
    assert not (home / "data/postgres/data/postmaster.pid").exists()


def test_a_database_that_cannot_be_made_leaves_no_server(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "Identifier", lambda _: sql.SQL("template1"))  # is there already
    with pytest.raises(EmbeddedError, match="could not be made"):
        start(home / "data")
    assert not (home / "data/postgres/data/postmaster.pid").exists()


def test_ctrl_c_during_a_start_leaves_no_server(home: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start(home / "data").stop()

    def interrupted(_cluster: cluster.Cluster, _process: object, **_deadline: float) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cluster.Cluster, "_until_ready", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(home / "data")
    assert not (home / "data/postgres/data/postmaster.pid").exists()
    assert start(home / "data").owned


def test_a_cluster_half_made_is_made_again(home: Path, start: Start) -> None:
    killed = _programs(home / "bin", initdb='mkdir -p "$2/base"; echo 18 > "$2/PG_VERSION"; kill -9 $$')
    with pytest.raises(EmbeddedError, match="could not be made"):
        embedded.start(_settings(home / "data", killed))
    assert (home / "data/postgres/data.new").exists()
    _write(start(home / "data"), 1)


def test_a_cluster_of_another_postgres_is_left_alone(home: Path, start: Start) -> None:
    server = start(home / "data")
    server.stop()
    (server.directory / "data/PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match=r"made by Postgres 9, and this is Postgres \d+; nothing was changed"):
        start(home / "data")


def test_the_log_does_not_grow_for_ever(home: Path, start: Start) -> None:
    server = start(home / "data")
    server.stop()
    log = server.directory / "server.log"
    with log.open("a") as file:
        file.write("x" * cluster.LONGEST_LOG)
    start(home / "data")
    assert log.stat().st_size < 10_000
    assert re.match("x|20", log.with_suffix(".log.1").read_text()[:2])


@pytest.mark.skipif(not ROOT, reason="only root lends the server another account")
class TestAsRoot:
    def test_the_server_is_not_root(self, home: Path, start: Start) -> None:
        server = start(home / "data")
        assert Path(f"/proc/{_server_pid(server)}").stat().st_uid != 0
        assert (server.directory / "data").stat().st_uid == binaries.unprivileged().uid

    def test_the_owner_of_a_cluster_runs_it(self, home: Path, start: Start) -> None:
        nobody = binaries.Account(65534, 65534)
        folder = home / "data/postgres/data"
        server = start(home / "data")
        server.stop()
        subprocess.run(["/bin/chown", "-R", "65534:65534", str(home / "data")], check=True)  # noqa: S603  our folder
        again = start(home / "data")
        assert folder.stat().st_uid == nobody.uid
        assert Path(f"/proc/{_server_pid(again)}").stat().st_uid == nobody.uid
        assert (again.directory / "start.lock").stat().st_uid == nobody.uid

    def test_out_of_reach_it_lives_under_var_lib(
        self, home: Path, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "ROOT_PLACE", home / "var-lib")
        tmp_path.chmod(0o700)
        server = start(tmp_path / "data")
        assert server.directory.parent == home / "var-lib"
        _write(server, 1)
        assert embedded.running_url(_settings(tmp_path / "data")) == server.url
        server.stop()
        assert _kept(start(tmp_path / "data")) == [1]

    def test_data_stay_where_they_are_when_the_way_is_closed(self, home: Path, start: Start) -> None:
        start(home / "closed/data").stop()
        (home / "closed").chmod(0o700)
        with pytest.raises(EmbeddedError, match="can no longer reach"):
            start(home / "closed/data")

    def test_programs_out_of_reach_are_copied_once(
        self, home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(binaries.Account, "may_run", lambda _, program: home in program.parents)
        server = start(home / "data")
        running = Path(f"/proc/{_server_pid(server)}/exe").readlink()
        assert server.directory / "programs" in running.parents
        server.stop()
        made = running.stat().st_mtime_ns
        start(home / "data")
        assert running.stat().st_mtime_ns == made
