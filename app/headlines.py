"""What figures say, in a sentence: the same words in the report, over the dashboard's charts, and for the opening."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.web.words import dollars, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.queries.figures import Figures
    from app.queries.figures.decisions import Agreement, Escalations
    from app.queries.figures.improving import Failures, ReleaseRow
    from app.queries.figures.money import Cost, Forecast
    from app.queries.figures.service import CodeRow
    from app.queries.figures.verdicts import CriterionRow, Outcomes
    from app.web.names import Names


def plural(number: int, one: str, many: str = "") -> str:
    """1 ticket, 62 tickets."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def verdicts(found: Outcomes) -> str:
    if not found.total:
        return "No tickets were judged"
    return (
        f"{plural(found.total, 'verdict')}: {found.passed:,} pass, {found.failed:,} fail, "
        f"{found.escalated:,} went to a person"
    )


def fail_rate(now: Outcomes, before: Outcomes) -> str:
    """Of those that passed or failed: what went to a person is neither."""
    if not now.fail.n:
        return "No ticket passed or failed"
    if not now.fail.enough:
        return f"Too few tickets to say how many fail: {now.fail.hits} of {now.fail.n}"
    moved = _moved(now.fail.since(before.fail), before.fail.percent)
    return f"Of tickets that pass or fail, {now.fail.percent} fail{moved}"


def criteria(rows: Sequence[CriterionRow], names: Names) -> str:
    """The one that has got worse, else the one that has got better, else the one that is missed most."""
    for change in ("up", "down"):
        for row in rows:
            if row.share.since(row.before) == change:
                return _criterion(row, names)
    enough = [row for row in rows if row.share.enough and row.share.hits]
    if enough:
        return _criterion(enough[0], names)
    if any(row.share.enough for row in rows):
        return "No criterion was missed"
    return "Too few tickets to say which criterion is missed most"


def _criterion(row: CriterionRow, names: Names) -> str:
    moved = _moved(row.share.since(row.before), row.before.percent)
    return f"{names.subject(row.criterion)} is not met in {row.share.percent} of tickets{moved}"


def _moved(change: str, before: str) -> str:
    known = {"up": f", up from {before}", "down": f", down from {before}", "same": f", no clear change from {before}"}
    return known.get(change, "")


def cost(found: Cost) -> str:
    if not found.lines:
        return "No model was asked, nothing was paid"
    if not found.total_usd and all(row.line == "local" for row in found.lines):
        return "Judged by the model on this machine, nothing was paid"
    each = f", {dollars(found.per_ticket_usd)} a ticket" if found.per_ticket_usd is not None else ""
    return f"{dollars(found.total_usd)} paid{each}"


PACE = (
    "if each day to come costs what the last ones did, seven at most, without batches, re-scoring and models compared"
)


def forecast(found: Forecast) -> str:
    return f"{dollars(found.spent_usd)} so far, {dollars(found.expected_usd)} by the end of it, {PACE}"


def escalations(found: Escalations) -> str:
    if not found.total:
        return "No verdict had to go to a person"
    waits = "waits" if found.open == 1 else "wait"
    return f"{plural(found.total, 'verdict')} went to a person, {found.open:,} of them still {waits}"


def waiting(found: Escalations) -> str:
    if found.median is None or found.p90 is None:
        return "nobody decided one"
    return f"half within {duration(found.median)}, nine of ten within {duration(found.p90)} (n = {found.waits:,})"


def agreement(found: Agreement) -> str:
    return found.share.words if found.share.n else "no decision beside a pass or fail"


def failures(found: Failures) -> str:
    """2 in 310 runs, 0.6 per 100."""
    rate = "" if found.per_hundred is None else f", {found.per_hundred:.1f} per 100"
    return f"{found.count:,} in {plural(found.runs, 'run')}{rate}"


def agents(rows: Sequence[CodeRow], names: Names) -> str:
    """What failed most; rows come with the most frequent first."""
    if not rows:
        return "No failure of an agent was seen"
    worst = rows[0]
    return f"{names.agent(worst.agent)} {names.words(worst)}: {plural(worst.count, 'time')}"


def helped(row: ReleaseRow) -> str:
    """Whether the failure that a release was about shows less; no more than the intervals of the rates say."""
    if row.before is None or row.after is None:
        return "nobody proposed it, so no failure is followed"
    change = row.after.share.since(row.before.share)
    said = {
        "down": "it shows less since",
        "up": "it shows more since",
        "same": "no clear change",
        "unknown": "too few runs to say",
    }
    return f"{failures(row.before)} before, {failures(row.after)} after: {said[change]}"


def told(found: Figures, names: Names, *, period: str) -> dict[str, str]:
    """The figures by name, the most important first: what an opening may speak of, and every number it may use."""
    volume = found.volume
    return {
        "period": period,
        "tickets judged": f"{volume.judged:,} of {volume.finished:,} that were finished",
        "verdicts": verdicts(found.outcomes),
        "fail rate": fail_rate(found.outcomes, found.outcomes_before),
        "criterion to look at": criteria(found.criteria, names),
        "escalations": escalations(found.escalations),
        "cost": cost(found.cost),
        f"cost forecast for {found.forecast.month}": forecast(found.forecast),
        "not judged": ", ".join(f"{number:,} {reason}" for reason, number in volume.skipped.items()) or "none",
        "time to a decision": waiting(found.escalations),
        "people agree with the machine, its verdict seen first": agreement(found.seen),
        "people agree with the machine, blind": agreement(found.blind),
        "patterns opened": plural(found.patterns.count("opened"), "pattern"),
        "patterns open now": plural(found.patterns.open, "pattern"),
        "proposals made": plural(found.proposals.total, "proposal"),
        "proposals that wait for a person": plural(found.proposals.open, "proposal"),
        **{f"release {number}": helped(row) for number, row in enumerate(_in_period(found), start=1)},
        "jobs that failed": plural(sum(found.health.failed_jobs.values()), "job"),
    }


def _in_period(found: Figures) -> list[ReleaseRow]:
    return [row for row in found.releases if row.released_at >= found.period.start]


SHORT = ("tickets judged", "fail rate", "criterion to look at", "escalations", "cost")  # of an opening without a model
