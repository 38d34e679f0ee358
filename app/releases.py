"""Context versions: which one is in force, and how one goes live. A version is immutable; a release points at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from agents.context import Context, parse, read_folder
from app.db import transaction
from app.errors import NotFound
from app.tables import ContextVersion, Release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from app.settings import Settings


def in_force(session: Session) -> Context:
    """The context of the newest release. Raises NotFound before the first."""
    version = session.scalar(select(Release.context_version).order_by(Release.id.desc()).limit(1))
    if version is None:
        raise NotFound("no context has been released yet; `ticketqc up` releases the files in context/")
    return load(session, version)


def load(session: Session, version: str) -> Context:
    """A stored context version, parsed once per process. Raises NotFound."""
    if (known := _PARSED.get(version)) is not None:
        return known
    stored = session.get(ContextVersion, version)
    if stored is None:
        raise NotFound(f"there is no context version {version}")
    return _PARSED.setdefault(version, parse(stored.documents["files"]))


_PARSED: dict[str, Context] = {}  # versions are immutable and few


def release(session: Session, files: Mapping[str, str], *, note: str) -> Context:
    """These files are in force for every process once the caller's transaction commits. Raises ContextError."""
    context = parse(files)
    row = {"version": context.version, "documents": {"version": 1, "files": dict(files)}}
    session.execute(insert(ContextVersion).values(**row).on_conflict_do_nothing())
    session.add(Release(context_version=context.version, note=note))
    session.flush()
    return context


def ensure_released(engine: Engine, settings: Settings) -> str | None:
    """Releases the folder's files at the first start; later says where they differ from what is in force."""
    files = read_folder(settings.context_dir)
    with transaction(engine) as session:
        newest = session.scalar(select(Release.context_version).order_by(Release.id.desc()).limit(1))
        if newest is None:
            release(session, files, note=f"first start, from {settings.context_dir.name}/")
            return None
        in_use = load(session, newest)
    if dict(in_use.files) == files:
        return None
    return (
        f"the files in {settings.context_dir} differ from the context version in force ({newest[:12]}); "
        "verdicts keep using the version in force"
    )
