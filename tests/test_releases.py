"""Context versions go live once, for everybody at once, and never broken; the disk is only where they come from."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from agents.context import ContextError, parse, read_folder
from app import db, releases
from app.commands.context import context_app
from app.db import transaction
from app.errors import NotFound
from app.releases import ensure_released, in_force, load, release
from app.tables import AuditEvent, ContextVersion, Release
from tests.cast import REPOSITORY, shipped_context

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped files, configured, that a test may change; it stands in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKETQC_CONTEXT_DIR", str(tmp_path / "ours"))
    shutil.copytree(REPOSITORY / "context", tmp_path / "ours")
    return tmp_path / "ours"


@pytest.fixture
def configured(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"context_dir": folder})


@pytest.fixture
def command(folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`run` reaches this database; the folder."""
    monkeypatch.setenv("TICKETQC_DATABASE_URL", database_url)
    return folder


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(context_app, ["release", *arguments])
    return result.exit_code, result.stdout, result.stderr


def change(folder: Path, name: str = "known_patterns.md", *, old: str = "\n", new: str = "\n\n") -> str:
    """One file changed in one place; the version that the folder is now."""
    text = (folder / name).read_text("utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), "utf-8")
    return parse(read_folder(folder)).version


def released(session: Session) -> list[tuple[str, str]]:
    """Versions that went live with their notes, oldest first."""
    session.expire_all()
    return [(row.context_version, row.note) for row in session.scalars(select(Release).order_by(Release.id))]


def test_before_the_first_release_nothing_is_in_force(session: Session) -> None:
    assert releases.newest(session) is None
    with pytest.raises(NotFound, match="ticketqc up"):
        in_force(session)


def test_the_first_start_releases_the_folder(engine: Engine, session: Session, configured: Settings) -> None:
    assert ensure_released(engine, configured) is None
    assert in_force(session).version == shipped_context().version
    assert released(session) == [(shipped_context().version, "first start, from ours/")]


def test_the_second_start_has_nothing_to_say(engine: Engine, session: Session, configured: Settings) -> None:
    ensure_released(engine, configured)
    assert ensure_released(engine, configured) is None
    assert len(released(session)) == 1


def test_a_changed_disk_is_told_with_the_command_and_changes_nothing(
    engine: Engine, session: Session, configured: Settings, folder: Path
) -> None:
    ensure_released(engine, configured)
    change(folder)
    said = ensure_released(engine, configured)
    assert said is not None
    assert "\n" not in said
    assert f"{folder} differs from what is in force (known_patterns.md)" in said
    assert shipped_context().version[:12] in said
    assert "ticketqc context release" in said
    assert in_force(session).version == shipped_context().version


@pytest.mark.parametrize("how", ["missing file", "no folder"])
def test_a_disk_that_cannot_be_read_later_stops_nobody(
    engine: Engine, configured: Settings, folder: Path, how: str
) -> None:
    ensure_released(engine, configured)
    if how == "no folder":
        shutil.rmtree(folder)
    else:
        (folder / "qc.md").unlink()
    said = ensure_released(engine, configured)
    assert said is not None
    assert "cannot be read" in said
    assert "verdicts keep using the version in force" in said


def test_broken_files_are_refused_at_the_first_start_by_file_and_line(
    engine: Engine, session: Session, configured: Settings, folder: Path
) -> None:
    rubric = folder / "qc_rubric.md"
    rubric.write_text(rubric.read_text().replace("pass_mark: 80", "pass_mark: 200"))
    with pytest.raises(ContextError, match=r"qc_rubric\.md:2: error: pass_mark must be a number"):
        ensure_released(engine, configured)
    assert released(session) == []


def test_files_that_parse_but_do_not_lint_are_not_released(session: Session) -> None:
    files = dict(shipped_context().files)
    files["qc_rubric.md"] = files["qc_rubric.md"].replace("- **Not applicable**", "- **Whenever**", 1)
    with pytest.raises(ContextError, match=r"qc_rubric\.md:\d+: error"):
        release(session, files, note="broken")
    assert released(session) == []


def test_every_process_judges_by_a_release_as_soon_as_it_is_committed(engine: Engine, database_url: str) -> None:
    """A second engine stands for another process: it shares nothing but the database."""
    other = db.make_engine(database_url)
    files = dict(shipped_context().files)
    with transaction(engine) as session:
        first = release(session, files, note="first").version
    files["qc.md"] += "\n"
    with transaction(other) as theirs:
        assert in_force(theirs).version == first
    with transaction(engine) as session:
        second = release(session, files, note="second").version
        with transaction(other) as theirs:
            assert in_force(theirs).version == first, "not committed yet"
    with transaction(other) as theirs:
        assert in_force(theirs).version == second
    other.dispose()


def test_a_version_released_again_is_stored_once(session: Session) -> None:
    files = dict(shipped_context().files)
    for note in ("first", "second", "back to the first"):
        release(session, {**files, **({"qc.md": files["qc.md"] + "\n"} if note == "second" else {})}, note=note)
    assert len(list(session.scalars(select(ContextVersion)))) == 2
    assert in_force(session).version == shipped_context().version


def test_a_version_of_the_past_can_be_loaded_and_an_unknown_one_cannot(session: Session) -> None:
    version = release(session, shipped_context().files, note="first").version
    release(session, {**shipped_context().files, "qc.md": "# Other\n\nJudge.\n"}, note="second")
    assert dict(load(session, version).files) == dict(shipped_context().files)
    with pytest.raises(NotFound, match="there is no context version 0000"):
        load(session, "0000")


def test_files_come_back_byte_for_byte(session: Session) -> None:
    """Line ends too: the version is a hash of bytes."""
    files = {name: text.replace("\n", "\r\n") for name, text in shipped_context().files.items()}
    version = release(session, files, note="from Windows").version
    releases._PARSED.pop(version, None)  # noqa: SLF001  as another process would find it
    session.expire_all()
    assert dict(load(session, version).files) == files


def test_the_command_names_old_and_new_version_and_what_changed(command: Path, session: Session) -> None:
    code, out, _ = run("--note", "first of all")
    first = shipped_context().version
    assert (code, out.splitlines()) == (0, [f"in force now: {first}", "before:       nothing"])
    second = change(command)
    code, out, _ = run("--note", "a blank line")
    assert (code, out.splitlines()) == (
        0,
        [f"in force now: {second}", f"before:       {first}", "  known_patterns.md: +1 -0 lines"],
    )
    assert released(session) == [(first, "first of all"), (second, "a blank line")]
    told = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert {(event.actor, event.action) for event in told} == {("command line", "context.released")}
    assert [(event.subject, event.before, event.note) for event in told] == [
        (f"context:{first}", None, "first of all"),
        (f"context:{second}", {"version": first}, "a blank line"),
    ]


def test_the_command_releases_another_folder(command: Path, session: Session, tmp_path: Path) -> None:
    shutil.copytree(command, tmp_path / "theirs")
    version = change(tmp_path / "theirs")
    assert run("theirs", "--note", "theirs are better")[0] == 0
    assert in_force(session).version == version


def test_what_is_in_force_already_is_not_released_again(command: Path, session: Session) -> None:
    run("--note", "first")
    code, out, _ = run("--note", "again")
    assert (code, out) == (
        0,
        f"{command.name} is what is in force already (version {shipped_context().version}); nothing was changed.\n",
    )
    assert len(released(session)) == 1


def test_the_command_refuses_broken_files_by_file_and_line(command: Path, session: Session) -> None:
    run("--note", "first")
    rubric = command / "qc_rubric.md"
    rubric.write_text(rubric.read_text().replace("pass_mark: 80", "pass_mark: 200"))
    code, out, err = run("--note", "broken")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        'ours/qc_rubric.md:2: error: pass_mark must be a number from 1 to 100, not "200"',
        "Errors: 1. Nothing was released; what is in force stays.",
    ]
    assert in_force(session).version == shipped_context().version


def test_an_id_that_changed_since_what_is_in_force_is_refused(command: Path, session: Session) -> None:
    run("--note", "first")
    change(command, old="{#vendor}", new="{#resolved_by_vendor}")
    code, _, err = run("--note", "better names")
    assert code == 1
    assert 'the id of "Resolved by a vendor" was vendor' in err
    assert len(released(session)) == 1


@pytest.mark.parametrize("note", ["", "   ", "\u200b"])
def test_a_release_without_a_reason_is_refused(command: Path, session: Session, note: str) -> None:
    assert command.is_dir()
    code, _, err = run("--note", note)
    assert code == 2
    assert "say why in a few words" in err
    assert released(session) == []


def test_a_release_needs_a_note(command: Path) -> None:
    assert command.is_dir()
    code, _, err = run()
    assert code == 2
    assert "--note" in err


def test_a_folder_that_is_not_there_is_a_clear_error(command: Path) -> None:
    assert command.is_dir()
    code, out, err = run("nowhere", "--note", "x")
    assert (code, out) == (1, "")
    assert err == "nowhere:1: error: there is no such folder; give the one that holds the context files\n"
