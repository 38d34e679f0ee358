"""Children that die are started again, up to a point; when we stop, none is left."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from app import supervisor
from app.supervisor import Child, CrashLoop, Supervisor, open_log, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ECHO = "import sys; sys.stdin.readline(); print('going', flush=True); sys.stdin.read()"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def children(said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(say=said.append)
    yield made
    made.stop()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF", (0.01,) * 4)
    monkeypatch.setattr(supervisor, "STOP_WITHIN", 0.5)


def child(folder: Path, program: str, *, name: str = "child", needed: bool = True) -> Child:
    log = open_log(folder / "logs", name)

    def spawn() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            command = [sys.executable, "-c", program]
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)  # noqa: S603  our own

    return Child(name, spawn, log, needed)


def look_until(children: Supervisor, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        children.look()
        time.sleep(0.01)


def test_a_child_begins_when_it_is_told_to_and_a_later_one_at_once(tmp_path: Path, children: Supervisor) -> None:
    first, later = child(tmp_path, ECHO, name="first"), child(tmp_path, ECHO, name="later")
    children.add(first)
    time.sleep(0.3)
    assert first.last_lines() == ""
    children.go()
    children.add(later)
    look_until(children, lambda: "going" in first.last_lines() and "going" in later.last_lines())


@pytest.mark.usefixtures("_quick")
def test_a_child_that_dies_is_started_again_and_goes_on(tmp_path: Path, children: Supervisor, said: list[str]) -> None:
    one = child(tmp_path, ECHO)
    children.add(one)
    children.go()
    look_until(children, lambda: "going" in one.last_lines())
    assert one.process is not None
    one.process.kill()
    look_until(children, lambda: one.last_lines().count("going") == 2)
    assert said == ["child ended unexpectedly (signal 9) and is started again in 0.01 s"]


@pytest.mark.usefixtures("_quick")
def test_a_child_that_cannot_run_ends_everything_with_its_last_words(
    tmp_path: Path, children: Supervisor, said: list[str]
) -> None:
    children.add(child(tmp_path, "raise SystemExit('the reason')"))
    with pytest.raises(CrashLoop, match=r"child ended 5 times within 60 s.*\n  \| the reason"):
        look_until(children, lambda: False)
    assert len(said) == 4


@pytest.mark.usefixtures("_quick")
def test_what_is_not_needed_may_fail_without_the_others(tmp_path: Path, children: Supervisor, said: list[str]) -> None:
    children.add(child(tmp_path, "raise SystemExit(1)", needed=False))
    other = child(tmp_path, ECHO, name="other")
    children.add(other)
    look_until(children, lambda: any(line.endswith("going on without it") for line in said))
    children.look()
    assert other.process is not None
    assert other.process.poll() is None


@pytest.mark.usefixtures("_quick")
def test_what_is_not_needed_and_had_nothing_to_do_is_left_alone(
    tmp_path: Path, children: Supervisor, said: list[str]
) -> None:
    one = child(tmp_path, "", needed=False)
    children.add(one)
    look_until(children, lambda: one.process is None)
    children.look()
    assert (one.due, said) == (None, [])


def test_old_deaths_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: Supervisor) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF", (0.01,) * 4)
    monkeypatch.setattr(supervisor, "WITHIN", 0.05)
    one = child(tmp_path, "import time; time.sleep(0.05)")
    children.add(one)
    look_until(children, lambda: one.log.exists() and len(one.deaths) == supervisor.CRASHES)
    look_until(children, lambda: one.process is not None)


@pytest.mark.usefixtures("_quick")
def test_a_child_that_does_not_listen_is_ended_too(tmp_path: Path, children: Supervisor) -> None:
    one = child(tmp_path, DEAF)
    children.add(one)
    look_until(children, lambda: "deaf" in one.last_lines())
    process = one.process
    assert process is not None
    began = time.monotonic()
    children.stop()
    assert process.returncode == -9
    assert time.monotonic() - began < 2


def test_telling_a_dead_child_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as process:
        process.wait()
        tell(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_LOG", 10)
    open_log(tmp_path / "logs", "work").write_text("x" * 11)
    log = open_log(tmp_path / "logs", "work")
    assert not log.exists()
    assert log.with_suffix(".log.1").read_text() == "x" * 11
