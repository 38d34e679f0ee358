"""The model's process: one at a time, its state true while it lives, and nothing left when it or its parent dies."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app import local_model
from app.errors import DataDirError
from app.local_model import LocalState, read_state
from app.settings import Settings
from app.weights import DEMONSTRATION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 20.0  # seconds; a busy machine starts a process slowly
PARENT = """
import sys, time
from pathlib import Path
from app import local_model
from app.settings import load_settings

process = local_model.start_process(load_settings())
print(process.pid, flush=True)
time.sleep(60)
"""


@contextmanager
def process(folder: Path, what: str) -> Iterator[subprocess.Popen[bytes]]:
    order = [sys.executable, "-m", "tests.model_process", str(folder), what]
    with subprocess.Popen(order, stderr=subprocess.DEVNULL) as started:  # noqa: S603  our own
        try:
            yield started
        finally:
            started.kill()


def wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not reached():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def wait_for(folder: Path, state: str) -> LocalState:
    wait(lambda: read_state(folder).state == state)
    return read_state(folder)


def gone(pid: int) -> bool:
    """Ended; what its parent has not asked about yet counts."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def test_nobody_there_is_absent(tmp_path: Path) -> None:
    assert read_state(tmp_path) == LocalState("absent")


def test_it_publishes_its_address_and_its_name(tmp_path: Path) -> None:
    with process(tmp_path, "ready"):
        assert wait_for(tmp_path, "ready") == LocalState("ready", url="http://127.0.0.1:9", model="local:tiny")
        assert stat.S_IMODE((tmp_path / "local-model" / "state.json").stat().st_mode) == 0o600


def test_an_unknown_file_is_named_as_its_users_choice(tmp_path: Path) -> None:
    with process(tmp_path, "own"):
        assert "is your own choice" in wait_for(tmp_path, "ready").detail


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_and_takes_its_state_away(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path, "ready") as running:
        wait_for(tmp_path, "ready")
        running.send_signal(number)
        assert running.wait(SOON) == 0
    assert read_state(tmp_path) == LocalState("absent")
    assert not (tmp_path / "local-model" / "state.json").exists()


def test_a_signal_ends_a_download_too(tmp_path: Path) -> None:
    with process(tmp_path, "download") as running:
        wait_for(tmp_path, "downloading")
        running.terminate()
        assert running.wait(SOON) == 0


def test_a_second_one_ends_at_once(tmp_path: Path) -> None:
    with process(tmp_path, "ready"):
        wait_for(tmp_path, "ready")
        with process(tmp_path, "broken") as second:
            assert second.wait(SOON) == 0
        assert read_state(tmp_path).state == "ready"


def test_readers_do_not_keep_a_starter_out(tmp_path: Path) -> None:
    """They hold the lock for a moment; a starter tries for half a second."""
    with process(tmp_path, "ready") as first:
        wait_for(tmp_path, "ready")
        first.kill()
        first.wait()
    with process(tmp_path, "ready"):
        wait_for(tmp_path, "ready")


def test_the_state_of_a_killed_one_is_not_believed(tmp_path: Path) -> None:
    with process(tmp_path, "ready") as running:
        wait_for(tmp_path, "ready")
        running.kill()
        running.wait()
    assert json.loads((tmp_path / "local-model" / "state.json").read_text())["state"] == "ready"
    assert read_state(tmp_path) == LocalState("absent")


def test_progress_is_published(tmp_path: Path) -> None:
    with process(tmp_path, "download"):
        assert wait_for(tmp_path, "downloading") == LocalState(
            "downloading", progress=0.25, detail="downloading part 6 of 22"
        )


def test_a_failure_stays_in_sight_and_is_remembered(tmp_path: Path) -> None:
    with process(tmp_path, "broken") as running:
        assert wait_for(tmp_path, "failed").detail == "no weights anywhere; set ANTHROPIC_API_KEY"
        running.kill()
        running.wait()
    assert read_state(tmp_path) == LocalState("absent", detail="no weights anywhere; set ANTHROPIC_API_KEY")


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"pid": 1, "state": "ready", "colour": "blue"}', '{"state": "ready"}']
)
def test_a_state_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    with process(tmp_path, "ready"):
        wait_for(tmp_path, "ready")
        (tmp_path / "local-model" / "state.json").write_text(content)
        assert read_state(tmp_path) == LocalState("absent")


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """In the environment, for processes; the named weights are no GGUF file."""
    (tmp_path / "mine.gguf").write_bytes(b"no model")
    monkeypatch.setenv("TICKETQC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TICKETQC_LOCAL_MODEL_PATH", str(tmp_path / "mine.gguf"))
    return Settings(_env_file=None)


def test_the_command_says_what_is_wrong_until_it_is_stopped(own_settings: Settings) -> None:
    with local_model.start_process(own_settings) as running:
        assert "mine.gguf is not a GGUF file" in wait_for(own_settings.data_dir, "failed").detail
        running.terminate()
        assert running.wait(SOON) == 0
    assert "local_model.stopped" in (own_settings.data_dir / "local-model" / "server.log").read_text()


def test_the_end_of_its_input_stops_it(own_settings: Settings) -> None:
    with local_model.start_process(own_settings) as running:
        wait_for(own_settings.data_dir, "failed")
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(SOON) == 0


def test_it_dies_with_a_parent_that_was_killed(own_settings: Settings) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:  # noqa: S603  our own
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(own_settings.data_dir, "failed")
        assert not gone(child)
        parent.kill()
        wait(lambda: gone(child))
    assert read_state(own_settings.data_dir).state == "absent"


def test_the_demonstration_model_is_complete_in_its_parts() -> None:
    parts = DEMONSTRATION.parts
    assert (parts.count - 1) * parts.size < DEMONSTRATION.size <= parts.count * parts.size


def test_a_data_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Root ignores rights, so a file stands where the folder should be."""
    (tmp_path / "local-model").write_text("in the way")
    with pytest.raises(DataDirError, match="TICKETQC_DATA_DIR"):
        local_model.run(Settings(_env_file=None, data_dir=tmp_path))
