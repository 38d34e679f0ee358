"""The weekly report as Markdown that reads well as it is. Every number is a figure's; nothing is about one person."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from app import headlines
from app.headlines import plural
from app.markdown import literal, table
from app.periods import WEEK
from app.shares import percent
from app.web.words import clock_time, dollars, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date
    from zoneinfo import ZoneInfo

    from app.queries.figures import Figures
    from app.queries.figures.decisions import Agreement
    from app.queries.figures.improving import PatternRow, ReleaseRow
    from app.queries.figures.money import CostRow
    from app.queries.figures.verdicts import CriterionRow, VersionRow
    from app.shares import Share
    from app.web.names import Names

LINES = {
    "tickets": "judging tickets",
    "second": "judging some a second time",
    "masked": "judging some without hostile text",
    "strong": "the strong model, where the worker could not say",
    "replay": "trying proposals",
    "rescore": "re-scoring past tickets",
    "eval": "comparing models",
    "shadow": "asking some again whose reply was reused",
    "chief": "the chief of staff",
    "probe": "finding out whether a key works again",
    "local": "the model on this machine (free)",
}
EVENTS = {
    "opened": "opened",
    "reopened": "opened again",
    "closed": "closed",
    "decided": "decided on",
    "muted": "muted",
    "unmuted": "unmuted",
    "proposed": "led to a proposal",
    "no_answer": "brought no usable proposal",
}
KINDS = {
    "more_context": "more context",
    "rewrite": "rewrite",
    "escalation_rule": "escalation rule",
    "unclear": "the standard is unclear",
    "noise": "noise",
}


def heading(monday: date) -> str:
    """Week 47 of 2026, 16 to 22 November."""
    year, number, _ = monday.isocalendar()
    sunday = monday + timedelta(days=6)
    first = f"{monday.day} {monday:%B}" if monday.month != sunday.month else f"{monday.day}"
    return f"Week {number} of {year}, {first} to {sunday.day} {sunday:%B}"


def write(found: Figures, names: Names, *, monday: date, zone: ZoneInfo, opening: str) -> str:
    """The whole report."""
    parts = [
        [f"# {heading(monday)}", "", literal(opening)],
        _section("Tickets", _tickets(found)),
        _section("Verdicts", _verdicts(found)),
        _criteria(found, names),
        _section("What people decided", _decisions(found)),
        _section("Failures of the agents, and what was done", _improving(found, names)),
        _section("Releases", _releases(found, names, zone)),
        _section("Cost", _cost(found)),
        _cost_lines(found),
        _section("The service", _service(found, names)),
        _section("How to read this", _how(found, zone)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _section(title: str, points: Iterable[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {point}" for point in points)]


def _tickets(found: Figures) -> Iterable[str]:
    volume = found.volume
    yield f"{plural(volume.came, 'ticket')} came, {volume.finished:,} were finished, {volume.judged:,} of them judged."
    for reason, number in volume.skipped.items():
        yield f"Not judged: {number:,} {reason}."
    if volume.unread:
        yield f"{plural(volume.unread, 'delivery', 'deliveries')} could not be read; the operations page says why."
    if volume.imported:
        yield f"{plural(volume.imported, 'ticket')} of imported history came; they are not counted here."


def _verdicts(found: Figures) -> Iterable[str]:
    outcomes = found.outcomes
    yield f"{headlines.verdicts(outcomes)}."
    yield f"Fail: {outcomes.fail.against(found.outcomes_before.fail)}, of those that passed or failed."
    if outcomes.demonstration:
        yield f"{plural(outcomes.demonstration, 'verdict')} by the demonstration model: no claim of quality."
    if outcomes.unjudged:
        yield f"{plural(outcomes.unjudged, 'verdict')} by checks alone, with no model configured."
    if len(found.versions) > 1:
        yield from map(_version, found.versions)


def _version(row: VersionRow) -> str:
    of = row.outcomes
    counts = f"{of.passed:,} pass, {of.failed:,} fail, {of.escalated:,} to a person"
    return f"Under context version {row.version[:12]}: {counts}."


def _criteria(found: Figures, names: Names) -> list[str]:
    if not found.criteria:
        return []
    rows = [_criterion(row, names) for row in found.criteria]
    header = ["Criterion", "not met", "of", "share", "before"]
    return [f"{headlines.criteria(found.criteria, names)}.", "", *table(header, rows)]


def _criterion(row: CriterionRow, names: Names) -> list[str]:
    moved = {"up": " (up)", "down": " (down)"}.get(row.share.since(row.before), "")
    before = "new words" if row.reworded and not row.before.n else _percent(row.before)
    counts = [f"{row.share.hits:,}", f"{row.share.n:,}"]
    return [literal(names.subject(row.criterion)), *counts, _percent(row.share) + moved, before]


def _percent(share: Share) -> str:
    return share.percent if share.enough else "too few"


def _decisions(found: Figures) -> Iterable[str]:
    yield f"{headlines.escalations(found.escalations)}."
    yield f"Time from an escalation to a decision: {headlines.waiting(found.escalations)}."
    if found.escalations.ruled:
        yield f"{plural(found.escalations.ruled, 'open ticket')} went to a person before being finished."
    yield f"People agree with the machine, its verdict seen first: {headlines.agreement(found.seen)}{_odd(found.seen)}."
    yield f"People agree with the machine, blind: {headlines.agreement(found.blind)}{_odd(found.blind)}."


def _odd(found: Agreement) -> str:
    """What the share is not made of."""
    parts = {
        "too strict": found.too_strict,
        "too lenient": found.too_lenient,
        "cannot tell": found.cannot_tell,
        "handed over by the machine": found.handed_over,
    }
    said = ", ".join(f"{number:,} {word}" for word, number in parts.items() if number)
    return f"; {said}" if said else ""


def _improving(found: Figures, names: Names) -> Iterable[str]:
    for row in found.health.failures:
        yield f"{names.agent(row.agent)} {names.words(row)}: {plural(row.count, 'time')}."
    if not found.health.failures:
        yield "No failure of an agent was seen."
    for changed in found.patterns.changed:
        yield from _pattern(changed, names)
    yield f"{plural(found.patterns.open, 'pattern')} open now."
    yield _proposals(found)


def _proposals(found: Figures) -> str:
    of = found.proposals
    kinds = ", ".join(f"{number:,} {KINDS.get(kind, kind)}" for kind, number in of.made.items())
    made = f"{plural(of.total, 'proposal')} made{f' ({kinds})' if kinds else ''}"
    return f"{made}, {of.approved:,} approved, {of.rejected:,} rejected, {of.open:,} open now."


def _pattern(row: PatternRow, names: Names) -> Iterable[str]:
    said = [EVENTS[kind] for kind in row.events if kind in EVENTS]
    if said:
        yield f"Pattern {', '.join(said)}: {literal(names.failure(row.failure))}."


def _releases(found: Figures, names: Names, zone: ZoneInfo) -> Iterable[str]:
    if not found.releases:
        yield "None in this week and the four before."
    for row in found.releases:
        yield _release(row, names, zone)


def _release(row: ReleaseRow, names: Names, zone: ZoneInfo) -> str:
    did = "went back to" if row.kind == "rollback" else "put in force"
    note = f" ({literal(row.note)})" if row.note else ""
    said = f"{clock_time(row.released_at, zone)}: {did} {row.version[:12]}{note}."
    if row.failure is None:
        return f"{said} Nobody proposed it, so no failure is followed."
    partly = " (not seven days yet)" if row.watched < WEEK else ""
    about = f"It was about: {literal(names.failure(row.failure))}."
    return f"{said} {about} In seven days each: {headlines.helped(row)}{partly}."


def _cost(found: Figures) -> Iterable[str]:
    yield f"{headlines.cost(found.cost)}."
    yield f"{found.forecast.month}: {headlines.forecast(found.forecast)}."
    if found.cost.cache_hit is not None:
        yield f"{percent(found.cost.cache_hit)} of the tokens that went in came from the cache."
    if unanswered := found.cost.sum("unanswered"):
        yield f"{plural(unanswered, 'attempt')} brought no answer; the vendor may have billed for that."
    if unpriced := found.cost.sum("unpriced"):
        yield f"{plural(unpriced, 'call')} at a price that is not known, not in these sums."


def _cost_lines(found: Figures) -> list[str]:
    if not found.cost.lines:
        return []
    header = ["For", "calls", "cost", "tokens in", "from cache", "tokens out"]
    return table(header, [_cost_line(row) for row in found.cost.lines])


def _cost_line(row: CostRow) -> list[str]:
    read = row.input_tokens + row.cache_write_tokens + row.cache_read_tokens
    money = dollars(row.cost_usd) if row.cost_usd or not row.unpriced else "unknown"
    tokens = [f"{number:,}" for number in (read, row.cache_read_tokens, row.output_tokens)]
    return [LINES[row.line], f"{row.calls:,}", money, *tokens]


def _service(found: Figures, names: Names) -> Iterable[str]:
    health = found.health
    failed = ", ".join(f"{number:,} {task}" for task, number in health.failed_jobs.items())
    yield f"Jobs given up: {failed or 'none'}."
    yield f"{plural(health.deliveries, 'delivery', 'deliveries')} received, {health.parked:,} of them not readable."
    attempts = ", ".join(f"{row.count:,} {row.code.replace('_', ' ')}" for row in health.outages)
    yield f"Attempts that a model did not answer: {attempts or 'none'}."
    for row in health.latency:
        took = f"half of its answers within {seconds(row.p50)}, 19 of 20 within {seconds(row.p95)}"
        yield f"{names.agent(row.agent)}: {took}."


def _how(found: Figures, zone: ZoneInfo) -> Iterable[str]:
    yield f"A week is from Monday 00:00 to Monday 00:00, {zone.key}; it is compared with the four weeks before."
    yield "Up and down are said only where the 95 % intervals of both shares do not touch; below 10, nothing is said."
    yield "What became of a ticket, a pattern or a proposal is told as of when this was made."
    yield f"Made {clock_time(found.at, zone)}."
