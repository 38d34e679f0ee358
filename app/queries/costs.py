"""What calls cost: by agent, verdict, criterion and context version; what reuse saved; how well the cache is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, and_, case, func, literal, literal_column, not_, select

from app.local_model import PREFIX as LOCAL
from app.queries.figures.tickets import within
from app.runs import for_its_own_sake, not_evaluating
from app.shares import Share
from app.tables import Finding, Reuse, Run, Verdict

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import ColumnElement, Select, SQLColumnExpression
    from sqlalchemy.orm import Session

    from app.periods import Period

CACHE_LIVES = timedelta(minutes=5)  # from its last use
HOUR_LIVES = timedelta(hours=1)  # where it was written for an hour, as for batches and for calls that come seldom
_LONG_AGO: ColumnElement[datetime] = literal_column("'-infinity'::timestamptz")
_BILLED = not_(Run.model.startswith(LOCAL, autoescape=True))


@dataclass(frozen=True)
class AgentRow:
    """`saved_usd` is what the replies that were found, and not paid again, had cost."""

    agent: str
    calls: int
    unpriced: int
    cost_usd: Decimal
    read_tokens: int
    prompt_tokens: int  # those that were read from the cache among them
    output_tokens: int
    reused: int
    saved_usd: Decimal

    @property
    def read_share(self) -> float | None:
        return self.read_tokens / self.prompt_tokens if self.prompt_tokens else None


@dataclass(frozen=True)
class VerdictsRow:
    """Verdicts of a kind (an outcome, a context version), and what those with a known price cost together."""

    name: str
    verdicts: int
    unpriced: int
    cost_usd: Decimal

    @property
    def each_usd(self) -> Decimal | None:
        known = self.verdicts - self.unpriced
        return self.cost_usd / known if known else None


@dataclass(frozen=True)
class CriterionRow:
    """A judged criterion, and its equal share of what quality control cost: one call answers all criteria."""

    criterion: str
    findings: int
    cost_usd: Decimal


@dataclass(frozen=True)
class CacheRow:
    """How an agent's calls met the vendor's cache. `late`: so long after the one before that it was gone."""

    agent: str
    calls: int
    reads: int
    late: int
    versions: int  # of its instructions
    models: int
    prefix_tokens: int  # the most that was ever read or written; 0: nothing was
    read_tokens: int
    prompt_tokens: int


def by_agent(session: Session, period: Period) -> tuple[AgentRow, ...]:
    """The dearest first, without evaluations."""
    runs = (
        select(
            Run.agent,
            func.count().filter(Run.replied).label("calls"),
            func.count().filter(Run.replied, Run.cost_usd.is_(None)).label("unpriced"),
            func.coalesce(func.sum(Run.cost_usd), 0).label("cost"),
            _sum(Run.cache_read_tokens).label("read"),
            _sum(_PROMPT).label("prompt"),
            _sum(Run.output_tokens).label("output"),
        )
        .where(within(Run.recorded_at, period), not_evaluating(), _BILLED)
        .group_by(Run.agent)
        .subquery()
    )
    reuse = (
        select(Reuse.agent, func.count().label("reused"), func.sum(Reuse.saved_usd).label("saved"))
        .where(within(Reuse.recorded_at, period))
        .group_by(Reuse.agent)
        .having(func.sum(Reuse.saved_usd) > 0)  # an agent may have saved everything, and so made no call
        .subquery()
    )
    numbers = [func.coalesce(column, 0) for column in (*list(runs.c)[1:], reuse.c.reused, reuse.c.saved)]
    found: Select[Any] = select(func.coalesce(runs.c.agent, reuse.c.agent), *numbers)
    both = found.outerjoin_from(runs, reuse, reuse.c.agent == runs.c.agent, full=True)
    return tuple(AgentRow(*row) for row in session.execute(both.order_by(runs.c.cost.desc().nulls_last())))


def reuse_agreed(session: Session, period: Period) -> Share:
    """Of the replies that were asked again in the shadow, those that said the same."""
    compared = select(func.count().filter(Reuse.agrees.is_(True)), func.count()).where(Reuse.agrees.is_not(None))
    return Share(*session.execute(compared.where(within(Reuse.recorded_at, period))).one())


def by_outcome(session: Session, period: Period) -> tuple[VerdictsRow, ...]:
    return _verdicts(session, Verdict.outcome, period)


def by_version(session: Session, period: Period) -> tuple[VerdictsRow, ...]:
    return _verdicts(session, Verdict.context_version, period)


def by_criterion(session: Session, period: Period) -> tuple[CriterionRow, ...]:
    """Of each context version, what quality control cost in the period is divided by the findings it led to."""
    spent = (
        select(Run.context_version.label("version"), func.sum(Run.cost_usd).label("cost"))
        .where(within(Run.recorded_at, period), Run.agent == "qc", for_its_own_sake(), _BILLED)
        .group_by(Run.context_version)
        .subquery()
    )
    judged = (
        select(Verdict.context_version.label("version"), Finding.criterion, func.count().label("findings"))
        .join(Finding, Finding.verdict_id == Verdict.id)
        .where(within(Verdict.recorded_at, period), *_WITH_MODEL, Finding.kind == "judged")
        .group_by(Verdict.context_version, Finding.criterion)
        .subquery()
    )
    whole = func.sum(judged.c.findings).over(partition_by=judged.c.version)
    share = select(judged.c.criterion, judged.c.findings, (spent.c.cost * judged.c.findings / whole).label("cost"))
    shares = share.join(spent, spent.c.version == judged.c.version).subquery()
    cost = func.sum(shares.c.cost)
    found = select(shares.c.criterion, func.sum(shares.c.findings).cast(BigInteger), cost).group_by(shares.c.criterion)
    return tuple(CriterionRow(*row) for row in session.execute(found.order_by(cost.desc(), shares.c.criterion)))


def cache(session: Session, *, since: datetime) -> tuple[CacheRow, ...]:
    """By agent, over paid replies; a prefix is one model's and one version's of the agent's instructions."""
    prefix, order = (Run.agent, Run.model, Run.agent_hash), (Run.recorded_at, Run.id)
    before = func.lag(Run.recorded_at).over(partition_by=prefix, order_by=order)
    written = {
        kind: func.max(Run.recorded_at)
        .filter(getattr(Run, f"cache_write_{kind}_tokens") > 0)
        .over(partition_by=prefix, order_by=order, rows=(None, -1))
        for kind in ("5m", "1h")
    }
    for_an_hour = written["1h"] > func.coalesce(written["5m"], _LONG_AGO)
    lives = case((for_an_hour, literal(HOUR_LIVES)), else_=literal(CACHE_LIVES))
    calls = select(
        Run.agent,
        Run.agent_hash,
        Run.model,
        Run.cache_read_tokens.label("read"),
        (Run.cache_write_5m_tokens + Run.cache_write_1h_tokens).label("written"),
        _PROMPT.label("prompt"),
        (Run.recorded_at - before > lives).label("late"),
    )
    work = (Run.replied, not_evaluating(), _BILLED, Run.agent != "probe")
    one = calls.where(Run.recorded_at > since, *work).subquery()
    found = select(
        one.c.agent,
        func.count(),
        func.count().filter(one.c.read > 0),
        func.count().filter(and_(one.c.late, one.c.read == 0)),
        func.count(one.c.agent_hash.distinct()),
        func.count(one.c.model.distinct()),
        func.max(one.c.read + one.c.written),
        _sum(one.c.read),
        _sum(one.c.prompt),
    )
    return tuple(CacheRow(*row) for row in session.execute(found.group_by(one.c.agent).order_by(one.c.agent)))


_PROMPT = Run.input_tokens + Run.cache_write_5m_tokens + Run.cache_write_1h_tokens + Run.cache_read_tokens
_WITH_MODEL = (Verdict.panel != "none", not_(Verdict.demonstration))


def _sum(column: SQLColumnExpression[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0).cast(BigInteger)


def _verdicts(session: Session, name: SQLColumnExpression[str], period: Period) -> tuple[VerdictsRow, ...]:
    cost: ColumnElement[Decimal] = func.coalesce(func.sum(Verdict.cost_usd), 0)
    found = (
        select(name, func.count(), func.count().filter(Verdict.cost_usd.is_(None)), cost)
        .where(within(Verdict.recorded_at, period), *_WITH_MODEL)
        .group_by(name)
        .order_by(cost.desc())
    )
    return tuple(VerdictsRow(*row) for row in session.execute(found))
