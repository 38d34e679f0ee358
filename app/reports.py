"""The weekly report: made by the clock on Monday, or again for any week that is over when a lead asks.

1. T: the week's figures are read.
2. The strong model writes the opening if it can; every sentence whose numbers are not in the figures is dropped. A
   model that fails never keeps the report from coming: the program has an opening of its own.
3. T: the report is there, and on its way by mail. Whoever comes second finds it and does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import exists, func, select

from agents import opening
from agents.answer import Failed
from agents.gateway import CallFailed
from app import audit, headlines, periods, releases, report_text
from app.audit import MACHINE, Actor
from app.clock import now
from app.db import transaction
from app.errors import NotFound
from app.locks import Lock, take
from app.queries import figures
from app.queue import enqueue
from app.runs import RunStore
from app.tables import Report, Revision, User
from app.web import names

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.question import Question, Reply
    from app.deps import Deps
    from app.models import Ready
    from app.queries.figures import Figures
    from app.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True)
class Draft:
    """A week's figures, and the words for what is in them."""

    monday: date
    zone: ZoneInfo
    figures: Figures
    context: Context | None

    @property
    def names(self) -> names.Names:
        return names.of(self.context)

    @property
    def told(self) -> dict[str, str]:
        return headlines.told(self.figures, self.names, period=report_text.heading(self.monday))

    @property
    def plain_opening(self) -> str:
        told = self.told
        return opening.plain({name: told[name] for name in headlines.SHORT})


def make(deps: Deps, *, monday: int) -> None:
    """The clock's: the week has a report and it goes out by mail. A week before the first ticket has none."""
    week = date.fromordinal(monday)
    with transaction(deps.engine) as session:
        draft = read(session, deps.settings, week, at=now())
        if (there := newest(session, week)) is not None:  # a lead was quicker, or this job comes a second time
            return _mail(session, deps.settings, there)
        if not _begun(session, draft.figures.period.end):
            return None
    return _finish(deps, draft, after=0, actor=MACHINE)


def make_again(deps: Deps, *, monday: int, after: int, user_id: int) -> None:
    """The week has a report that is newer than `after`, in the name of the person who asked. No mail is sent."""
    week = date.fromordinal(monday)
    with transaction(deps.engine) as session:
        actor = Actor(session.get_one(User, user_id).email, user_id)
        draft = read(session, deps.settings, week, at=now())
    _finish(deps, draft, after=after, actor=actor)


def ask(session: Session, settings: Settings, key: str, *, actor: Actor, at: datetime) -> int:
    """A job will make the week's report anew; asked twice it is made once. Returns the id of what is there, or 0."""
    monday = over(settings, key, at=at)
    after = newest(session, monday) or 0
    assert actor.user_id is not None  # noqa: S101  a command makes its report itself
    arguments = {"monday": monday.toordinal(), "after": after, "user_id": actor.user_id}
    enqueue(session, "report_again", lock=f"report:{key}", once=f"report_again:{key}:{after}", **arguments)
    audit.record(session, actor, action="report.asked", subject=f"report:{key}")
    return after


def make_plainly(engine: Engine, settings: Settings, key: str, *, actor: Actor, at: datetime) -> Report:
    """The week's report, made here and now without a model."""
    monday = over(settings, key, at=at)
    with transaction(engine) as session:
        draft = read(session, settings, monday, at=at)
        return add(session, draft, text=draft.plain_opening, by="", actor=actor)


def over(settings: Settings, key: str, *, at: datetime) -> date:
    """The Monday of the week of that name. Raises NotFound where there is none, or where it is not over yet."""
    monday = periods.monday_of(key)
    if monday is None:
        raise NotFound(f"there is no such week; one is called {periods.key_of(at.date())}, for instance")
    if periods.week(monday, ZoneInfo(settings.timezone)).end > at:
        raise NotFound(f"week {key} is not over yet; the dashboard has the figures so far")
    return monday


def read(session: Session, settings: Settings, monday: date, *, at: datetime) -> Draft:
    zone = ZoneInfo(settings.timezone)
    week, before = periods.week(monday, zone), periods.weeks_before(monday, zone)
    found = figures.read(session, week, compared=before, now=at, zone=zone)
    return Draft(monday, zone, found, releases.newest(session))


def newest(session: Session, monday: date) -> int | None:
    """The id of what is shown about a week."""
    return session.scalar(select(func.max(Report.id)).where(Report.week == periods.key_of(monday)))


def _begun(session: Session, end: datetime) -> bool:
    """Whether any ticket had come by then."""
    return bool(session.scalar(select(exists().where(Revision.recorded_at < end))))


def _finish(deps: Deps, draft: Draft, *, after: int, actor: Actor) -> None:
    text, by = _opening(deps, draft)
    with transaction(deps.engine) as session:
        take(session, Lock.REPORTS)
        report_id = newest(session, draft.monday) or 0
        if report_id <= after:
            report_id = add(session, draft, text=text, by=by, actor=actor).id
            log.info("report.made", report_id=report_id, opening_by=by or "program")
        if actor is MACHINE:
            _mail(session, deps.settings, report_id)


def _mail(session: Session, settings: Settings, report_id: int) -> None:
    """Whom the week's report has not reached gets it."""
    if settings.recipients:
        enqueue(session, "mail", once=f"mail:{report_id}", report_id=report_id)


def add(session: Session, draft: Draft, *, text: str, by: str, actor: Actor) -> Report:
    markdown = report_text.write(draft.figures, draft.names, monday=draft.monday, zone=draft.zone, opening=text)
    report = Report(
        week=periods.key_of(draft.monday),
        figures=figures.document(draft.figures),
        opening_by=by,
        markdown=markdown,
        actor=actor.name,
        recorded_at=draft.figures.at,
    )
    session.add(report)
    session.flush()
    return report


def _opening(deps: Deps, draft: Draft) -> tuple[str, str]:
    """The paragraph, and the model that wrote it, or nothing."""
    ready = deps.models.ready("strong")
    if ready is None or draft.context is None:
        return draft.plain_opening, ""
    try:
        with ready.turns:
            written = _asked(deps, ready, draft.told, context=draft.context)
    except CallFailed as failure:
        if failure.stops_all:
            deps.models.failed(failure, asked=ready, role="strong")
        log.warning("report.opening_failed", code=failure.code)
        return draft.plain_opening, ""
    if isinstance(written, Failed):
        log.warning("report.opening_unusable", code=written.code)
        return draft.plain_opening, ""
    return written, ready.model


def _asked(deps: Deps, ready: Ready, told: dict[str, str], *, context: Context) -> str | Failed:
    store = RunStore(
        deps.engine,
        revision_id=None,
        context_version=context.version,
        today=lambda: now().date(),
        demonstration=ready.demonstration,
    )

    def ask_model(question: Question) -> Reply:
        return ready.asking.ask(question, store).reply

    return opening.write(told, ask=ask_model, model=ready.model)
