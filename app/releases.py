"""Context versions: which one is in force, and how one goes live. A version is immutable; a release points at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from agents.context import Context, ContextError, parse, read_folder
from agents.context_lint import usable
from app import documents
from app.db import transaction
from app.errors import NotFound
from app.tables import ContextVersion, Release

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy.orm import Session

    from app.settings import Settings


def in_force(session: Session) -> Context:
    """The context of the newest release. Raises NotFound before the first."""
    context = newest(session)
    if context is None:
        raise NotFound("no context has been released yet; `ticketqc up` releases the files in context/")
    return context


def newest(session: Session) -> Context | None:
    """The context of the newest release; None before the first."""
    version = session.scalar(select(Release.context_version).order_by(Release.id.desc()).limit(1))
    return None if version is None else load(session, version)


def load(session: Session, version: str) -> Context:
    """A stored context version, parsed once per process. Raises NotFound."""
    if (known := _PARSED.get(version)) is not None:
        return known
    stored = session.get(ContextVersion, version)
    if stored is None:
        raise NotFound(f"there is no context version {version}")
    return _PARSED.setdefault(version, parse(documents.context_files(stored.documents)))


_PARSED: dict[str, Context] = {}  # versions are immutable and few


def release(session: Session, files: Mapping[str, str], *, note: str) -> Context:
    """These files are in force for every process once the caller's transaction commits. Raises ContextError."""
    context = usable(files)
    row = {"version": context.version, "documents": documents.context_document(files)}
    session.execute(insert(ContextVersion).values(**row).on_conflict_do_nothing())
    session.add(Release(context_version=context.version, note=note))
    session.flush()
    return context


def ensure_released(engine: Engine, settings: Settings) -> str | None:
    """Releases the folder's files at the first start; later says where they differ from what is in force.

    Raises ContextError at the first start only: later, files that are broken keep nobody from working.
    """
    folder = settings.context_dir
    with transaction(engine) as session:
        in_use = newest(session)
        if in_use is None:
            release(session, read_folder(folder), note=f"first start, from {folder.name}/")
            return None
    return difference(in_use, folder)


def difference(in_use: Context, folder: Path) -> str | None:
    """Whether a folder's files are not the ones in force, and what to do about it; None where they are the same."""
    kept = f"verdicts keep using the version in force ({in_use.version[:12]})"
    try:
        files = read_folder(folder)
    except ContextError as error:
        return f"the context files in {folder} cannot be read ({error.problems[0]}); {kept}"
    if files == dict(in_use.files):
        return None
    changed = ", ".join(name for name, text in files.items() if in_use.files.get(name) != text)
    return f'{folder} differs from what is in force ({changed}); {kept} until: ticketqc context release --note "why"'
