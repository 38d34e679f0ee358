"""What `ticketqc doctor` says: facts in, one line each out. Nothing here looks at anything."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from agents.documents import Problem
    from agents.gateway import ModelFacts
    from app.budget import Standing
    from app.local_model import LocalState
    from app.queries.costs import CacheRow
    from app.queries.operations import QueueRow

Mark = Literal["ok", "warning", "problem"]

LITTLE_ROOM, TOO_LITTLE_ROOM = 2_000_000_000, 200_000_000  # bytes; the local model alone takes more than one GB
RETIRES_SOON = timedelta(days=60)
WORKER_SILENCE = timedelta(seconds=20)  # as long as the sweep gives a worker before it takes its jobs back
CLOCK_SILENCE = timedelta(seconds=150)  # it ticks every minute
LONG_WAIT = timedelta(minutes=15)
FEW_CALLS = 10  # a day; of fewer nothing can be said
ENOUGH_READS = 0.8  # of the calls
START = "start it with: ticketqc up"


class Line(NamedTuple):
    """One thing that was looked at, how it is, and what to do where it is not well."""

    mark: Mark
    subject: str
    text: str


def summary(lines: Sequence[Line]) -> str:
    """One line about all of them."""
    counts = {mark: sum(line.mark == mark for line in lines) for mark in ("problem", "warning")}
    if not any(counts.values()):
        return "everything is well"
    return ", ".join(f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items() if count)


def settings_given(names: Sequence[str]) -> Line:
    """Names only: a value may be a secret."""
    return Line("ok", "settings", f"given: {', '.join(names)}" if names else "none given, so all have their defaults")


def free_space(folder: Path, free: int) -> Line:
    text = f"{folder} can be written, {free / 1e9:.1f} GB are free"
    if free < TOO_LITTLE_ROOM:
        return Line(
            "problem", "data directory", f"{text}: too little to work with; make room, or set TICKETQC_DATA_DIR"
        )
    if free < LITTLE_ROOM:
        return Line("warning", "data directory", f"{text}: not enough for the local model; make room")
    return Line("ok", "data directory", text)


def context_files(folder: Path, problems: Sequence[Problem]) -> Line:
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        return Line("problem", "context files", f"{folder}/{errors[0]}{more}; see all with: ticketqc context lint")
    if problems:
        count = f"{len(problems)} warning{'s' * (len(problems) != 1)}"
        return Line("ok", "context files", f"{folder}: {count}; see with: ticketqc context lint")
    return Line("ok", "context files", f"{folder}: nothing to mend")


def api_model(subject: str, facts: ModelFacts, *, priced: bool, today: date, variable: str) -> Iterator[Line]:
    """A model that answered the look-up."""
    if facts.retires_at is not None and facts.retires_at.date() - today <= RETIRES_SOON:
        when = f"retires on {facts.retires_at:%Y-%m-%d}"
        yield Line("warning", subject, f"{facts.id} answers, but {when}; name another by {variable}")
    elif facts.lifecycle != "active":
        yield Line("warning", subject, f"{facts.id} answers, but is {facts.lifecycle}; name another by {variable}")
    else:
        yield Line("ok", subject, f"{facts.id} answers")
    if not priced:
        yield Line("warning", subject, f"the price book does not list {facts.id}, so what it costs is shown as unknown")


def local_model(subject: str, state: LocalState, *, weights: Path, there: bool) -> Line:
    """The demonstration model on this machine."""
    name = state.model or "the local model"
    share = f" {state.progress:.0%}" if state.progress is not None else ""
    if state.state == "ready":
        return Line("ok", subject, f"{name} answers at {state.url}; a demonstration, no claim of quality")
    if state.state in {"downloading", "loading"}:
        return Line("warning", subject, f"{name} is {state.state}{share}: {state.detail or 'wait a little'}")
    if state.detail:
        return Line("problem", subject, state.detail)
    where = f"its file is in {weights}" if there else f"its file, 1.1 GB, is downloaded to {weights} then"
    return Line("warning", subject, f"the local model is not running; {START} ({where})")


def workers(heartbeats: Sequence[datetime], *, now: datetime) -> Line:
    """`heartbeats`: the newest of each; one process may have several."""
    last = max(heartbeats, default=None)
    if last is not None and now - last <= WORKER_SILENCE:
        return Line("ok", "worker", f"alive, the last sign {span(now - last)} ago")
    since = f", the last sign was {span(now - last)} ago" if last else ""
    return Line("problem", "worker", f"none is alive{since}: nothing is judged; {START}, or with: ticketqc work")


def clock(last: datetime | None, *, now: datetime) -> Line:
    if last is not None and now - last <= CLOCK_SILENCE:
        return Line("ok", "clock", f"ticked {span(now - last)} ago")
    text = "never ticked" if last is None else f"ticked {span(now - last)} ago for the last time"
    return Line("problem", "clock", f"{text}: what waits is not resumed; {START}, or with: ticketqc clock")


def queue(row: QueueRow, *, now: datetime) -> Line:
    text = f"{row.waiting} waiting, {row.running} running, {row.failed} failed"
    oldest = now - row.oldest_waiting if row.oldest_waiting else timedelta()
    if row.waiting:
        text += f"; the oldest has waited {span(oldest)}"
    if row.waiting and oldest > LONG_WAIT:
        return Line("warning", "queue", f"{text}; see what it waits for under /operations")
    if row.failed:
        return Line("warning", "queue", f"{text}; why is in the worker's log, and on each ticket's page")
    return Line("ok", "queue", text)


def spending(row: Standing) -> Line:
    """Today's budget."""
    text = f"${row.spent_usd:.2f} spent today"
    if row.limit is None:
        return Line("ok", "budget", f"{text}, no limit; TICKETQC_DAILY_BUDGET_USD sets one")
    text = f"{text} of ${row.limit:f}"
    if row.stopped:
        return Line("warning", "budget", f"{text}: used up, work goes on {row.again}; raise TICKETQC_DAILY_BUDGET_USD")
    return Line("warning" if row.warning else "ok", "budget", text)


def parked(deliveries: int, tickets: int, *, most: int) -> Iterator[Line]:
    """What waits for a person. Counts go up to one more than `most`."""
    if deliveries:
        text = (
            f"{_counted(deliveries, most)} parked, because they could not be read; see /operations, mend the field map,"
        )
        yield Line("warning", "deliveries", f"{text} then: ticketqc connection replay NAME")
    else:
        yield Line("ok", "deliveries", "none is parked")
    if tickets:
        yield Line("warning", "tickets", f"{_counted(tickets, most)} parked; each ticket's page says why")


def cache(row: CacheRow) -> Line:
    """How often an agent's calls of the last day found their prefix in the vendor's cache, and why not more often."""
    share = row.read_tokens / row.prompt_tokens if row.prompt_tokens else 0.0
    text = f"{row.reads / row.calls:.0%} of {row.calls} calls of the last day read it, for {share:.0%} of their input"
    subject = f"cache of {row.agent}"
    if row.calls < FEW_CALLS or row.reads >= ENOUGH_READS * row.calls:
        return Line("ok", subject, text)
    return Line("warning", subject, f"{text}: {'; '.join(_why_not_read(row))}")


def _why_not_read(row: CacheRow) -> Iterator[str]:
    if not row.prefix_tokens:
        yield (
            "nothing was ever cached, so what it reads before each ticket is under the model's minimum "
            "(512 tokens on Haiku 5.5, 4,096 on Haiku 4.5), or this server has no cache"
        )
        return
    if row.late:
        yield (
            f"{row.late} came more than 5 minutes after the call before (an hour, where it was kept for one), "
            "when it was gone; many at once mend it"
        )
    if row.versions > 1:
        yield f"{row.versions} versions of its instructions were in use, and each is written anew"
    if row.models > 1:
        yield f"{row.models} models were asked, and each has a cache of its own"
    if not row.late and row.versions == row.models == 1:
        yield "calls that begin before the first one's answer each write it; more workers than tickets do that"


def _counted(count: int, most: int) -> str:
    return f"more than {most}" if count > most else str(count)


def span(time: timedelta) -> str:
    """A length of time in the unit that fits, rounded down."""
    seconds = max(0, int(time.total_seconds()))
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
