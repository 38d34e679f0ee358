"""Which context version is in force; `app.releases` reads the versions themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import false, func, select

from app.tables import ContextVersion, Release

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class VersionRow:
    """A context version; `released_at` and `note` are of its newest release, None where it never went live."""

    version: str
    recorded_at: datetime
    released_at: datetime | None
    note: str | None
    in_force: bool


def in_force(session: Session) -> VersionRow | None:
    """The version of the newest release; None before the first start has released one."""
    newest = session.scalar(select(Release.context_version).order_by(Release.id.desc()).limit(1))
    return None if newest is None else version(session, newest)


def version(session: Session, name: str) -> VersionRow | None:
    """What is known of one version."""
    newest = select(func.max(Release.id)).scalar_subquery()
    row = session.execute(
        select(
            ContextVersion.version,
            ContextVersion.recorded_at,
            Release.released_at,
            Release.note,
            func.coalesce(Release.id == newest, false()),
        )
        .outerjoin(Release, Release.context_version == ContextVersion.version)
        .where(ContextVersion.version == name)
        .order_by(Release.id.desc().nulls_last())
        .limit(1)
    ).first()
    return None if row is None else VersionRow(*row)
