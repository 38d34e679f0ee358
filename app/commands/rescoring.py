"""`ticketqc rescore`: a past window judged again under a version of choice, beside the verdicts that stand."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.queries.rescores import Matrix, RescoreRow, TicketRow
    from app.rescores import Plan, Strong
    from app.settings import Settings

LOOK_EVERY = 0.5  # seconds
WORDS = {"pass": "pass", "fail": "fail", "escalate": "to a person"}
WOULD = {"pass": "would pass", "fail": "would fail", "escalate": "would go to a person"}


def rescore(
    *,
    since: Annotated[str, typer.Option(help="Tickets whose last state came in since: 30d, 12h, 2w, or 2026-11-01.")],
    context: Annotated[
        str, typer.Option(metavar="VERSION", help="The version to judge by, or its first 6 characters.")
    ],
    until: Annotated[str, typer.Option(help="And before.", show_default="now")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Begin without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show which verdicts would change under another version, why, and what finding out costs.

    The running service judges; no verdict, finding, label or ticket changes. Ctrl-C ends only the waiting.
    """
    from app.commands.database import opened
    from app.settings import load_settings

    settings = load_settings()
    with opened(settings) as engine:
        made = _planned(engine, settings, since=since, until=until, context=context)
        _told(made)
        _confirmed(made, yes=yes)
        rescore_id = _begun(engine, made)
        row = _waited(engine, rescore_id, settings)
        _shown(engine, row, made, as_json=as_json)
    if row.state == "failed":
        raise typer.Exit(1)


def _planned(engine: Engine, settings: Settings, *, since: str, until: str, context: str) -> Plan:
    from zoneinfo import ZoneInfo

    from app import clock, rescores
    from app.db import transaction

    with transaction(engine) as session:
        wanted = rescores.order(
            session, since=since, until=until, version=context, now=clock.now(), zone=ZoneInfo(settings.timezone)
        )
        return rescores.plan(session, wanted, settings=settings)


def _told(made: Plan) -> None:
    """What it would take, on standard error, so that the result alone can be piped on."""
    for line in _lines(made):
        typer.echo(line, err=True)


def _lines(made: Plan) -> Iterator[str]:
    from app.web.words import dollars

    order = made.order
    span = f"{order.since:%Y-%m-%d %H:%M} to {order.until:%Y-%m-%d %H:%M} UTC"
    yield f"{_tickets(made.tickets)}, {span}, under context version {order.version[:12]}"
    for number, why in ((made.unjudged, "has no verdict yet"), (made.removed, "has lost its texts")):
        if number:
            yield f"left out: {number}, each of which {why}"
    if not made.judge.by_model:
        yield "no model is configured: only what checks find is compared; nothing is paid"
        return
    known = f"; {made.known} answers are on record and not paid again" if made.known else ""
    yield f"{made.calls} calls by {made.judge.model}{known}"
    if made.calls:
        by = "by the average of the last calls of each agent with this model"
        yield f"cost: about {dollars(made.estimate_usd)}, {by}"
        if made.seconds:
            yield f"second runs may add up to {dollars(made.seconds_usd)}, for at most {_tickets(made.seconds)}"
        yield "a ticket with text that reads like instructions takes one call more"
    else:
        yield "cost: nothing" + (" but the strong model's calls" if made.strong else "")
    if made.strong:
        yield _strong_line(made.strong)


def _strong_line(strong: Strong) -> str:
    from app.web.words import dollars

    return (
        f"where the worker leaves open what decides, {strong.model} is asked too: for up to {_tickets(strong.most)}, "
        f"about {dollars(strong.most_usd)}; if as often as in the verdicts that stand, for {strong.likely}, "
        f"about {dollars(strong.likely_usd)}"
    )


def _tickets(number: int) -> str:
    return f"{number} ticket{'' if number == 1 else 's'}"


def _confirmed(made: Plan, *, yes: bool) -> None:
    from app.errors import BadRequest

    if yes:
        return
    if not sys.stdin.isatty():
        raise BadRequest("nothing was begun: say --yes, because there is nobody here to ask")
    typer.confirm(f"Judge {_tickets(made.tickets)} again?", abort=True, err=True)


def _begun(engine: Engine, made: Plan) -> int:
    from app import rescores
    from app.audit import COMMAND_LINE
    from app.db import transaction

    with transaction(engine) as session:
        return rescores.begin(session, made, actor=COMMAND_LINE).id


def _waited(engine: Engine, rescore_id: int, settings: Settings) -> RescoreRow:
    """As it stands when it is over, when it has to wait itself, or when somebody has seen enough."""
    from app.listening import address

    row, why = _look(engine, rescore_id)
    try:
        with _bar(rescore_id) as show:
            while row.going and not why:
                show(row)
                time.sleep(LOOK_EVERY)
                row, why = _look(engine, rescore_id)
    except KeyboardInterrupt:
        why = "it is under way"
    if row.going:
        typer.echo(f"ticketqc: {why}; it goes on by itself: {address(settings)}/rescores/{rescore_id}", err=True)
    return row


def _look(engine: Engine, rescore_id: int) -> tuple[RescoreRow, str]:
    """How far it is, and why nobody goes on with it now."""
    from app.db import transaction
    from app.queries import rescores

    with transaction(engine) as session:
        row = rescores.rescore(session, rescore_id)
        return row, row.note or _nobody(session)


def _nobody(session: Session) -> str:
    """What to do where no worker is alive."""
    from app import clock
    from app.model_watch import SILENCE
    from app.queries.operations import heartbeats

    alive = any(clock.now() - beat < SILENCE for beat in heartbeats(session))
    return "" if alive else "no service is running; start one with `ticketqc up`"


@contextmanager
def _bar(rescore_id: int) -> Iterator[Callable[[RescoreRow], None]]:
    """Progress on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"re-scoring {rescore_id}", total=None)
        yield lambda row: bar.update(task, total=row.tickets, completed=row.judged + row.given_up)


def _shown(engine: Engine, row: RescoreRow, made: Plan, *, as_json: bool) -> None:
    from app.db import transaction
    from app.queries import rescores

    with transaction(engine) as session:
        most = None if as_json else rescores.MOST_SHOWN
        matrix, tickets = rescores.matrix(session, row.id), rescores.tickets(session, row.id, most=most)
    if as_json:
        typer.echo(json.dumps(_document(row, made, matrix, tickets), indent=2))
    elif row.judged:
        _table(row, matrix, tickets)
    elif row.note:
        typer.echo(row.note)


def _table(row: RescoreRow, matrix: Matrix, tickets: tuple[TicketRow, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    from app.queries.rescores import MOST_SHOWN, OUTCOMES
    from app.web.words import dollars

    console = Console(highlight=False, soft_wrap=True)
    counts = Table("stands", *(WOULD[new] for new in OUTCOMES))
    for old in OUTCOMES:
        counts.add_row(WORDS[old], *(str(matrix.cell(old, new).tickets) for new in OUTCOMES))
    console.print(counts)
    if row.checks_only:
        console.print("By checks alone: criteria that need judgement are not scored.")
    for ticket in tickets:
        console.print(_changed(ticket), markup=False)
    if len(tickets) == MOST_SHOWN:
        console.print(f"These are the first {MOST_SHOWN} of {matrix.changed}; the page shows the others.")
    console.print(
        f"{matrix.changed} of {row.judged} verdicts would change; "
        f"{row.paid} answers paid, {dollars(row.cost_usd)}. Nothing was changed."
    )


def _changed(ticket: TicketRow) -> str:
    """INC-2041: pass -> fail (Root cause: met -> not met)."""
    told = ticket.comparison
    moves = (
        [] if told is None else [f"{move.title or move.criterion}: {_move(move.old, move.new)}" for move in told.moves]
    )
    why = "; ".join(moves) or "; ".join(told.reasons if told else ()) or "no finding moved"
    return f"{ticket.external_id}: {WORDS[ticket.old]} -> {WORDS[ticket.new or '']} ({why})"


def _move(old: str | None, new: str | None) -> str:
    return " -> ".join("not asked" if result is None else result.replace("_", " ") for result in (old, new))


def _document(row: RescoreRow, made: Plan, matrix: Matrix, tickets: tuple[TicketRow, ...]) -> dict[str, Any]:
    from app.queries.rescores import OUTCOMES

    cost = {
        "calls": row.calls,
        "estimate_usd": _number(row.estimate_usd),
        "strong": None if made.strong is None else _strong(made.strong),
        "paid_usd": _number(row.cost_usd),
    }
    return {
        "id": row.id,
        "context_version": row.context_version,
        "since": row.since.isoformat(),
        "until": row.until.isoformat(),
        "state": row.state,
        "note": row.note,
        "model": row.model,
        "tickets": row.tickets,
        "judged": row.judged,
        "could_not_be_judged": row.given_up,
        "cost": cost,
        "matrix": {old: {new: matrix.cell(old, new).tickets for new in OUTCOMES} for old in OUTCOMES},
        "changed": [_ticket(ticket) for ticket in tickets],
    }


def _strong(strong: Strong) -> dict[str, Any]:
    """What the strong model may have been asked, as it was told before."""
    return {
        "model": strong.model,
        "tickets_at_most": strong.most,
        "at_most_usd": _number(strong.most_usd),
        "tickets_likely": strong.likely,
        "likely_usd": _number(strong.likely_usd),
    }


def _ticket(ticket: TicketRow) -> dict[str, Any]:
    told = ticket.comparison
    return {
        "ticket": ticket.external_id,
        "old": ticket.old,
        "new": ticket.new,
        "moves": [] if told is None else [move._asdict() for move in told.moves],
        "reasons": [] if told is None else list(told.reasons),
    }


def _number(amount: object) -> float | None:
    return None if amount is None else float(str(amount))
