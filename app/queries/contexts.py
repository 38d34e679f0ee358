"""Which context versions there are and what went live when; `app.releases` reads the versions themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import false, func, select

from app.tables import ContextVersion, Draft, Release

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

MOST_RELEASES = 50


@dataclass(frozen=True)
class VersionRow:
    """A context version; `released_at` and `note` are of its newest release, None where it never went live.

    `proposal_id` is the proposal that it was made for, by release or else by draft.
    """

    version: str
    recorded_at: datetime
    released_at: datetime | None
    note: str | None
    actor: str | None
    in_force: bool
    proposal_id: int | None


@dataclass(frozen=True)
class ReleaseRow:
    """A version going live; `before` is the one that was in force until then, None at the first."""

    id: int
    version: str
    before: str | None
    kind: str
    note: str
    actor: str
    proposal_id: int | None
    released_at: datetime


def in_force(session: Session) -> VersionRow | None:
    """The version of the newest release; None before the first start has released one."""
    newest = session.scalar(select(Release.context_version).order_by(Release.id.desc()).limit(1))
    return None if newest is None else version(session, newest)


def version(session: Session, name: str) -> VersionRow | None:
    """What is known of one version."""
    newest = select(func.max(Release.id)).scalar_subquery()
    drafted = (
        select(func.max(Draft.proposal_id)).where(Draft.candidate_version == ContextVersion.version).scalar_subquery()
    )
    row = session.execute(
        select(
            ContextVersion.version,
            ContextVersion.recorded_at,
            Release.released_at,
            Release.note,
            Release.actor,
            func.coalesce(Release.id == newest, false()),
            func.coalesce(Release.proposal_id, drafted),
        )
        .outerjoin(Release, Release.context_version == ContextVersion.version)
        .where(ContextVersion.version == name)
        .order_by(Release.id.desc().nulls_last())
        .limit(1)
    ).first()
    return None if row is None else VersionRow(*row)


def history(session: Session, *, most: int = MOST_RELEASES) -> tuple[ReleaseRow, ...]:
    """What went live, the newest first."""
    before = func.lag(Release.context_version).over(order_by=Release.id)
    columns = (
        Release.id,
        Release.context_version,
        before,
        Release.kind,
        Release.note,
        Release.actor,
        Release.proposal_id,
        Release.released_at,
    )
    rows = session.execute(select(*columns).order_by(Release.id.desc()).limit(most))
    return tuple(ReleaseRow(*row) for row in rows)
