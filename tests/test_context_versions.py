"""`ticketqc context export|import|rollback|diff|history`, and a release: byte-exact, in order, on record."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from agents.context import parse, read_folder
from app import releases
from app.audit import Actor
from app.commands.context import context_app
from app.db import transaction
from app.errors import BadRequest, Conflict, NotFound
from app.tables import AuditEvent, ContextVersion, Release
from tests.cast import REPOSITORY, shipped_context

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

LEAD = Actor("lead@example.com")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Path:
    """A copy of the shipped files, configured, that a test may change; it stands in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKETQC_CONTEXT_DIR", str(tmp_path / "ours"))
    monkeypatch.setenv("TICKETQC_DATABASE_URL", database_url)
    shutil.copytree(REPOSITORY / "context", tmp_path / "ours")
    return tmp_path / "ours"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(context_app, arguments)
    return result.exit_code, result.stdout, result.stderr


def variant(number: int) -> dict[str, str]:
    """The shipped files with one line more."""
    files = dict(shipped_context().files)
    return {**files, "qc.md": f"{files['qc.md']}\n- Line {number}.\n"}


def in_force(session: Session) -> str | None:
    session.expire_all()
    return releases.newest_version(session)


def released(engine: Engine, *files: Mapping[str, str]) -> list[str]:
    """These went live one after the other; their versions."""
    versions = []
    for number, some in enumerate(files):
        with transaction(engine) as session:
            versions.append(releases.release(session, some, note=f"release {number}", actor=LEAD).version)
    return versions


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_rollback_goes_to_the_version_before_byte_for_byte_and_a_second_one_back(
    engine: Engine, session: Session
) -> None:
    windows = {name: text.replace("\n", "\r\n") for name, text in variant(1).items()}
    first, second = released(engine, windows, variant(2))
    with transaction(engine) as writing:
        context = releases.rollback(writing, note="it failed too much", actor=LEAD)
    assert (context.version, dict(context.files)) == (first, windows)
    assert in_force(session) == first
    newest = session.scalars(select(Release).order_by(Release.id.desc())).first()
    assert newest is not None
    assert (newest.kind, newest.actor, newest.note) == ("rollback", LEAD.name, "it failed too much")
    event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.subject, event.before) == (
        "context.rolled_back",
        f"context:{first}",
        {"version": second},
    )
    with transaction(engine) as writing:
        assert releases.rollback(writing, note="it was better", actor=LEAD).version == second


def test_what_cannot_be_rolled_back_to_is_refused_and_changes_nothing(engine: Engine, session: Session) -> None:
    (only,) = released(engine, variant(1))
    with transaction(engine) as writing:
        stored = releases.store(writing, variant(2)).version
    with transaction(engine) as writing, pytest.raises(Conflict, match="no earlier version"):
        releases.rollback(writing, note="x", actor=LEAD)
    with transaction(engine) as writing, pytest.raises(Conflict, match="never in force"):
        releases.rollback(writing, to=stored, note="x", actor=LEAD)
    with transaction(engine) as writing, pytest.raises(Conflict, match="in force already"):
        releases.rollback(writing, to=only, note="x", actor=LEAD)
    with transaction(engine) as writing, pytest.raises(NotFound):
        releases.release_version(writing, "0" * 64, note="x", actor=LEAD)
    assert len(list(session.scalars(select(Release)))) == 1


def test_of_two_releases_at_the_same_moment_the_second_is_told_what_changed(engine: Engine, session: Session) -> None:
    (seen,) = released(engine, variant(0))
    with transaction(engine) as writing:
        wanted = [releases.store(writing, variant(number)).version for number in range(1, 5)]
    together = Barrier(len(wanted))

    def try_it(version: str) -> bool:
        together.wait()
        try:
            with transaction(engine) as writing:
                releases.release_version(writing, version, note="mine", actor=LEAD, expected=seen)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(len(wanted)) as pool:
        won = [version for version, done in zip(wanted, pool.map(try_it, wanted), strict=True) if done]
    assert won == [in_force(session)]
    assert len(list(session.scalars(select(Release)))) == 2


def test_a_version_is_found_by_its_beginning(session: Session) -> None:
    def stored(version: str) -> None:
        session.add(ContextVersion(version=version, documents={"version": 1, "files": {}}))

    stored("abcdef" + "0" * 58)
    stored("abcdef" + "1" * 58)
    stored("fedcba" + "1" * 58)
    session.flush()
    assert releases.find(session, " FEDCBA ") == "fedcba" + "1" * 58
    with pytest.raises(BadRequest, match=r"abcdef is the beginning of 2 versions.*: abcdef0+, abcdef1+$"):
        releases.find(session, "abcdef")
    for short in ("", "abcde"):
        with pytest.raises(BadRequest, match="at least 6"):
            releases.find(session, short)
    for unknown in ("000000", "abcdef%", "______", "a" * 500, "abc\0def"):
        with pytest.raises(NotFound):
            releases.find(session, unknown)


def test_export_gives_back_the_bytes_and_says_what_it_wrote(engine: Engine, folder: Path, tmp_path: Path) -> None:
    windows = {name: text.replace("\n", "\r\n") for name, text in variant(1).items()}
    first, second = released(engine, windows, variant(2))
    code, out, _ = run("export", "new/place", "--version", first[:6])
    assert code == 0
    assert bytes_in(tmp_path / "new" / "place") == {name: text.encode() for name, text in windows.items()}
    assert out.count("wrote new/place/") == 6
    assert first in out
    assert parse(read_folder(tmp_path / "new" / "place")).version == first
    assert run("export", "new/place", "--version", first)[1] == (
        f"new/place is version {first}; it was before: nothing written\n"
    )
    code, out, _ = run("export")  # the shipped files stand in no version yet, but only one file of theirs would go
    assert code == 1
    with transaction(engine) as session:
        releases.store(session, shipped_context().files)
    code, out, _ = run("export")
    assert (code, out) == (0, f"wrote ours/qc.md\nours is version {second}\n")
    assert parse(read_folder(folder)).version == second


def test_export_keeps_text_that_is_in_no_version_unless_forced(engine: Engine, folder: Path, tmp_path: Path) -> None:
    released(engine, variant(1))
    for raw in (b"# Mine\n\nOnly here.\n", b"\xff\xfe not text", b"a\0b"):
        (folder / "qc.md").write_bytes(raw)
        before = bytes_in(folder)
        code, out, err = run("export")
        assert (code, out) == (1, "")
        assert "ours has changes that are in no version: qc.md. Nothing was written." in err
        assert bytes_in(folder) == before
    assert run("export", "--force")[0] == 0
    assert bytes_in(folder)["qc.md"] == variant(1)["qc.md"].encode()
    (tmp_path / "file").write_text("")
    for place in ("file", "file/inside"):
        code, _, err = run("export", place)
        assert (code, "cannot be used" in err) == (1, True)


def test_import_stores_a_version_without_putting_it_in_force(engine: Engine, folder: Path, session: Session) -> None:
    (before,) = released(engine, shipped_context().files)
    (folder / "qc.md").write_text(variant(7)["qc.md"])
    code, out, _ = run("import", "--note", "to try")
    version = parse(variant(7)).version
    assert (code, out) == (0, f"{version}\n")
    assert in_force(session) == before
    event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.subject, event.note) == ("context.imported", f"context:{version}", "to try")
    code, out, _ = run("release", "--version", version[:8], "--note", "tried")
    assert (code, out.splitlines()[0]) == (0, f"in force now: {version}")
    assert in_force(session) == version
    (folder / "qc_rubric.md").write_text("")
    code, _, err = run("import", "--note", "broken")
    assert code == 1
    assert "Nothing was imported" in err


def test_the_commands_refuse_what_makes_no_sense(engine: Engine, folder: Path) -> None:
    (only,) = released(engine, shipped_context().files)
    assert folder.is_dir()
    assert run("release", "ours", "--version", only, "--note", "x")[0] == 2
    assert run("rollback", "--note", "  ")[0] == 2
    assert run("rollback", "--note", "x" * 2_001)[0] == 2
    assert run("import", "--note", "\u200b")[0] == 2
    assert run("import", "nowhere", "--note", "x")[0] == 1
    for arguments in (["rollback", "--note", "x"], ["rollback", "--to", "000000", "--note", "x"], ["diff", "abc"]):
        assert isinstance(CliRunner().invoke(context_app, arguments).exception, Conflict | NotFound | BadRequest)


def test_rollback_diff_and_history_tell_what_happened(engine: Engine, folder: Path) -> None:
    first, second = released(engine, shipped_context().files, variant(2))
    assert folder.is_dir()
    code, out, _ = run("diff", first[:6], "in-force")
    assert code == 0
    assert [line for line in out.splitlines() if line[:1] in "+-"] == ["--- a/qc.md", "+++ b/qc.md", "+- Line 2.", "+"]
    assert run("diff", first)[1].endswith("The same, byte for byte.\n")
    assert "-- Line 2." in run("diff", "in-force", "disk")[1]
    code, out, _ = run("rollback", "--note", "worse")
    assert out.splitlines() == [f"in force now: {first}", f"before:       {second}", "  qc.md: +0 -2 lines"]
    told = [line.split("  ", 1)[1] for line in run("history")[1].splitlines()]
    assert told == [
        f"{first[:12]}  rollback by command line: worse",
        f"{second[:12]}  release by lead@example.com: release 1",
        f"{first[:12]}  release by lead@example.com: release 0",
    ]
    assert run("rollback", "--to", second[:6], "--note", "better after all")[0] == 0


def test_a_folder_that_is_behind_is_told_to_export(engine: Engine, session: Session, folder: Path) -> None:
    released(engine, shipped_context().files, variant(1))
    in_use = releases.in_force(session)
    assert "ticketqc context export; or" in (releases.difference(session, in_use, folder) or "")
    (folder / "qc.md").write_text("# Mine\n\nOnly here.\n")
    told = releases.difference(session, in_use, folder) or ""
    assert 'until: ticketqc context release --note "why"' in told
    assert "export --force" in told
