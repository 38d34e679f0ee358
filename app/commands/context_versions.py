"""`ticketqc context export|import|release|rollback|diff|history`: versions in the database, and files on disk."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.context_folder import place_of, reason, refuse, refuse_errors, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import Session

    from agents.context import Context

versions_app = typer.Typer()

Folder = Annotated[
    Path | None, typer.Argument(show_default="the configured folder", help="The folder that holds the context files.")
]
Why = Annotated[str, typer.Option(help="Why, in a few words; people read it beside the version.")]
VERSION = "A version, or its first 6 characters or more."


@versions_app.command("release")
def release(
    folder: Folder = None,
    *,
    version: Annotated[str | None, typer.Option(help=f"{VERSION} Instead of a folder.")] = None,
    note: Why,
) -> None:
    """Put the files in force: from now on tickets are judged by them. Verdicts that exist stay as they are."""
    why = reason(note)
    if version is None:
        _release_folder(place_of(folder), why)
    elif folder is not None:
        raise typer.BadParameter("give a folder or --version, not both", param_hint="--version")
    else:
        _release_version(version, why)


def _release_folder(place: Path, why: str) -> None:
    from app import releases
    from app.audit import COMMAND_LINE
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    files = _linted(place, nothing="Nothing was released")
    with database.opened(load_settings()) as engine, transaction(engine) as session:
        before = releases.newest(session)
        _refuse_changed_ids(files, before, place, nothing="Nothing was released")
        if before and dict(before.files) == files:
            typer.echo(f"{shown(place)} is what is in force already (version {before.version}); nothing was changed.")
            return
        released = releases.release(session, files, note=why, actor=COMMAND_LINE)
    _tell(before, released)


def _release_version(version: str, why: str) -> None:
    from app import releases
    from app.audit import COMMAND_LINE
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        before = releases.newest(session)
        wanted = releases.find(session, version)
        released = releases.release_version(session, wanted, note=why, actor=COMMAND_LINE)
    _tell(before, released)


@versions_app.command("rollback")
def rollback(
    *,
    to: Annotated[
        str | None,
        typer.Option(show_default="the one before what is in force", help=f"{VERSION} It was in force once."),
    ] = None,
    note: Why,
) -> None:
    """Put a version in force again that was in force before, byte for byte. Nothing is lost: this is a release too."""
    from app import releases
    from app.audit import COMMAND_LINE
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    why = reason(note)
    with database.opened(load_settings()) as engine, transaction(engine) as session:
        before = releases.newest(session)
        wanted = None if to is None else releases.find(session, to)
        released = releases.rollback(session, to=wanted, note=why, actor=COMMAND_LINE)
    _tell(before, released)


@versions_app.command("import")
def import_(folder: Folder = None, *, note: Why) -> None:
    """Store the files as a version without putting them in force, and print the version."""
    from app import audit, releases
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    why = reason(note)
    place = place_of(folder)
    files = _linted(place, nothing="Nothing was imported")
    with database.opened(load_settings()) as engine, transaction(engine) as session:
        _refuse_changed_ids(files, releases.newest(session), place, nothing="Nothing was imported")
        version = releases.store(session, files).version
        audit.record(session, audit.COMMAND_LINE, action="context.imported", subject=f"context:{version}", note=why)
    typer.echo(version)


@versions_app.command("export")
def export(
    folder: Folder = None,
    *,
    version: Annotated[str | None, typer.Option(show_default="what is in force", help=VERSION)] = None,
    force: Annotated[bool, typer.Option(help="Overwrite files that are in no version: their text is lost.")] = False,
) -> None:
    """Write a version's files into a folder, byte for byte."""
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    place = place_of(folder)
    with _told(place), database.opened(load_settings()) as engine, transaction(engine) as session:
        wanted = _named(session, version or "in-force")
        changed = {name: text for name, text in wanted.files.items() if _on_disk(place / name) != text.encode()}
        if not force:
            _refuse_lost(session, place, changed)
    with _told(place):
        place.mkdir(parents=True, exist_ok=True)
        for name, text in changed.items():
            _write(place / name, text.encode())
            typer.echo(f"wrote {shown(place)}/{name}")
    typer.echo(f"{shown(place)} is version {wanted.version}" + ("" if changed else "; it was before: nothing written"))


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """A folder that cannot be read or written ends the command in words."""
    try:
        yield
    except OSError as error:
        typer.echo(f"{shown(place)}: cannot be used ({error.strerror}: {error.filename}).", err=True)
        raise typer.Exit(1) from None


def _on_disk(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _refuse_lost(session: Session, place: Path, changed: Mapping[str, str]) -> None:
    """The end of the command where a file would be overwritten that stands in no version."""
    lost = [name for name in changed if _only_here(session, name, _on_disk(place / name))]
    if lost:
        typer.echo(
            f"{shown(place)} has changes that are in no version: {', '.join(lost)}. Nothing was written. "
            "Keep them with: ticketqc context import; or overwrite them with: --force",
            err=True,
        )
        raise typer.Exit(1)


def _only_here(session: Session, name: str, raw: bytes | None) -> bool:
    """Whether there are words on disk that no version holds; what is not text no version can hold."""
    from app import releases

    try:
        text = (raw or b"").decode()
    except UnicodeDecodeError:
        return True
    return bool(text) and ("\0" in text or not releases.kept(session, name, text))


def _write(path: Path, raw: bytes) -> None:
    """Whole or not at all, whatever happens meanwhile."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(raw)
    draft.replace(path)


@versions_app.command("diff")
def diff(
    a: Annotated[str, typer.Argument(help=f"{VERSION} Or: in-force, disk.")],
    b: Annotated[str, typer.Argument(help="The same.")] = "disk",
) -> None:
    """Show what changed from A to B, line by line."""
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        old, new = _named(session, a), _named(session, b)
    typer.echo(f"{a}: {old.version}\n{b}: {new.version}")
    if old.version == new.version:
        typer.echo("The same, byte for byte.")
    for name, text in new.files.items():
        for line in _changed_lines(name, old.files.get(name, ""), text):
            typer.secho(line.rstrip("\r\n"), fg=_COLOURS.get(line[:1]))


_COLOURS = {"+": typer.colors.GREEN, "-": typer.colors.RED, "@": typer.colors.CYAN}


def _changed_lines(name: str, old: str, new: str) -> Iterator[str]:
    before, after = old.split("\n"), new.split("\n")
    yield from difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="")


@versions_app.command("history")
def history(
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="How many releases, the newest first.")] = 20,
) -> None:
    """List what went live: when, which version, by whom, why."""
    from app.commands import database
    from app.db import transaction
    from app.queries import contexts
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        rows = contexts.history(session, most=most)
    for row in rows:
        by = f"{row.kind} by {row.actor or 'unknown'}" + (f", proposal {row.proposal_id}" if row.proposal_id else "")
        typer.echo(f"{row.released_at:%Y-%m-%d %H:%M:%SZ}  {row.version[:12]}  {by}: {row.note}")
    if not rows:
        typer.echo("Nothing has been released yet.")


def _named(session: Session, name: str) -> Context:
    """The version that a name stands for: `disk`, `in-force`, or the beginning of one."""
    from agents.context import ContextError, parse, read_folder
    from app import releases

    if name == "in-force":
        return releases.in_force(session)
    if name != "disk":
        return releases.load(session, releases.find(session, name))
    place = place_of(None)
    try:
        return parse(read_folder(place))
    except ContextError as error:
        refuse(error, place)


def _linted(place: Path, *, nothing: str) -> dict[str, str]:
    """The folder's files; the end of the command where they cannot be read or have errors."""
    from agents.context import ContextError, read_folder
    from agents.context_lint import lint

    try:
        files = read_folder(place)
    except ContextError as error:
        refuse(error, place)
    refuse_errors(lint(files), place, nothing=nothing)
    return files


def _refuse_changed_ids(files: Mapping[str, str], before: Context | None, place: Path, *, nothing: str) -> None:
    from agents.context_lint import lint

    refuse_errors(lint(files, before.files if before else None), place, nothing=nothing)


def _tell(before: Context | None, released: Context) -> None:
    for line in _what_changed(before, released):
        typer.echo(line)


def _what_changed(before: Context | None, released: Context) -> Iterator[str]:
    yield f"in force now: {released.version}"
    if before is None:
        yield "before:       nothing"
        return
    yield f"before:       {before.version}"
    for name, text in released.files.items():
        if text != (old := before.files.get(name, "")):
            yield f"  {name}: {_lines_changed(old, text)}"


def _lines_changed(before: str, after: str) -> str:
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    moves = [move for move in matcher.get_opcodes() if move[0] != "equal"]
    removed = sum(end - start for _, start, end, _, _ in moves)
    added = sum(end - start for _, _, _, start, end in moves)
    return f"+{added} -{removed} lines" if moves else "only line ends changed"
