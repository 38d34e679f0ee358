"""Context versions: which one is in force, and how one goes live. A version is immutable; a release points at it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Engine, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from agents.context import Context, ContextError, parse, read_folder
from agents.context_lint import usable
from app import audit, documents
from app.db import transaction
from app.errors import BadRequest, Conflict, NotFound
from app.locks import Lock, take
from app.tables import ContextVersion, Release, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from app.audit import Actor
    from app.settings import Settings

Kind = Literal["release", "rollback"]

LONGEST_NOTE = 2_000  # characters of why a version goes live
SHORTEST_PREFIX = 6  # characters of a version that people may leave it at
_PREFIX = re.compile(r"[0-9a-f]{1,64}")


def in_force(session: Session) -> Context:
    """The context of the newest release. Raises NotFound before the first."""
    return load_in_force(session, newest_version(session))


def load_in_force(session: Session | Connection, version: str | None) -> Context:
    """The context of the newest release, whose version was read already. Raises NotFound before the first."""
    if version is None:
        raise NotFound("no context has been released yet; `ticketqc up` releases the files in context/")
    return load(session, version)


def newest(session: Session) -> Context | None:
    """The context of the newest release; None before the first."""
    version = newest_version(session)
    return None if version is None else load(session, version)


def newest_version(session: Session) -> str | None:
    """The version of the newest release; None before the first."""
    return session.scalar(NEWEST)


_RELEASES = table_of(Release)
# Of the newest release the version. The literal 1: with a parameter Postgres would plan it anew each time.
NEWEST = select(_RELEASES.c.context_version).order_by(_RELEASES.c.id.desc()).limit(literal_column("1"))


def load(session: Session | Connection, version: str) -> Context:
    """A stored context version, parsed once per process. Raises NotFound."""
    if (known := _PARSED.get(version)) is not None:
        return known
    stored = session.scalar(select(ContextVersion.documents).where(ContextVersion.version == version))
    if stored is None:
        raise NotFound(f"there is no context version {version}")
    return _PARSED.setdefault(version, parse(documents.context_files(stored)))


_PARSED: dict[str, Context] = {}  # versions are immutable and few


def find(session: Session, prefix: str) -> str:
    """The one stored version that begins so. Raises BadRequest where it says too little, NotFound where none does."""
    given = prefix.strip().lower()
    if len(given) < SHORTEST_PREFIX:
        raise BadRequest(f"give at least {SHORTEST_PREFIX} characters of the version")
    found: list[str] = []
    if _PREFIX.fullmatch(given):
        matching = select(ContextVersion.version).where(ContextVersion.version.startswith(given))
        found = list(session.scalars(matching.order_by(ContextVersion.version)))
    if not found:
        raise NotFound(f"there is no context version {given[:64]!r}; ticketqc context history lists them")
    if len(found) > 1:
        raise BadRequest(f"{given} is the beginning of {len(found)} versions; give more of it: {', '.join(found)}")
    return found[0]


def store(session: Session, files: Mapping[str, str]) -> Context:
    """The files are a version that can be released. Raises ContextError where lint finds an error."""
    context = usable(files)
    row = {"version": context.version, "documents": documents.context_document(files)}
    session.execute(insert(ContextVersion).values(**row).on_conflict_do_nothing())
    return context


def release(session: Session, files: Mapping[str, str], *, note: str, actor: Actor = audit.MACHINE) -> Context:
    """These files are in force for every process once the caller's transaction commits. Raises ContextError."""
    context = store(session, files)
    release_version(session, context.version, note=note, actor=actor)
    return context


def release_version(  # noqa: PLR0913  a release has these parts
    session: Session,
    version: str,
    *,
    note: str,
    actor: Actor,
    kind: Kind = "release",
    proposal_id: int | None = None,
    expected: str | None = None,
) -> Context:
    """A stored version is in force for every process once the caller's transaction commits.

    Raises Conflict where it is in force already, or where another than the `expected` one is.
    """
    context = load(session, version)
    before = _before_next(session, expected=expected)
    if before == version:
        raise Conflict(f"version {version[:12]} is in force already; nothing was changed")
    session.add(Release(context_version=version, kind=kind, note=note, actor=actor.name, proposal_id=proposal_id))
    session.flush()
    audit.record(
        session,
        actor,
        action="context.rolled_back" if kind == "rollback" else "context.released",
        subject=f"context:{version}",
        before={"version": before} if before else None,
        after={"version": version, "proposal_id": proposal_id},
        note=note,
    )
    return context


def rollback(
    session: Session, *, to: str | None = None, note: str, actor: Actor, expected: str | None = None
) -> Context:
    """A version that was in force before is again, byte for byte; `to` None: the one before the version in force.

    Raises Conflict where there is none, or where another than the `expected` one is in force by now.
    """
    before = _before_next(session, expected=expected)
    version = to if to is not None else _version_before(session, before)
    if version is None:
        raise Conflict("there is no earlier version to go back to; nothing was changed")
    if to is not None and session.scalar(select(Release.id).where(Release.context_version == to).limit(1)) is None:
        raise Conflict(f"version {to[:12]} was never in force; release it instead. Nothing was changed")
    return release_version(session, version, note=note, actor=actor, kind="rollback", expected=before)


def _before_next(session: Session, *, expected: str | None) -> str | None:
    """What is in force until this transaction's release; nobody else releases before it ends."""
    take(session, Lock.RELEASES)
    version = newest_version(session)
    if expected is not None and version != expected:
        raise Conflict(
            f"another version is in force meanwhile ({(version or 'none')[:12]}, not {expected[:12]}); "
            "nothing was changed. Look at what is in force now, then decide again."
        )
    return version


def _version_before(session: Session, version: str | None) -> str | None:
    """The version that was in force before the given one, which is in force now."""
    earlier = select(Release.context_version).where(Release.context_version != version)
    return session.scalar(earlier.order_by(Release.id.desc()).limit(1))


def kept(session: Session, name: str, text: str) -> bool:
    """Whether a file stands like this in some stored version, so that nothing is lost where its copy goes."""
    stored = ContextVersion.documents["files"][name].astext
    return session.scalar(select(ContextVersion.version).where(stored == text).limit(1)) is not None


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
        return difference(session, in_use, folder)


def difference(session: Session, in_use: Context, folder: Path) -> str | None:
    """Whether a folder's files are not the ones in force, and what to do about it; None where they are the same."""
    keeping = f"verdicts keep using the version in force ({in_use.version[:12]})"
    try:
        files = read_folder(folder)
    except ContextError as error:
        return f"the context files in {folder} cannot be read ({error.problems[0]}); {keeping}"
    if files == dict(in_use.files):
        return None
    changed = ", ".join(name for name, text in files.items() if in_use.files.get(name) != text)
    told = f"{folder} differs from what is in force ({changed}); {keeping}"
    if all(kept(session, name, text) for name, text in files.items()):
        return (
            f"{told}. The folder holds an earlier version; write what is in force into it: ticketqc context export; "
            'or put the folder in force: ticketqc context release --note "why"'
        )
    return (
        f'{told} until: ticketqc context release --note "why". '
        "What differs: ticketqc context diff in-force disk; to give the folder's changes up: ticketqc context export "
        "--force"
    )
