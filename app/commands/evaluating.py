"""`ticketqc eval`: which model is good enough, on the tickets that people labelled."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.asking import left_at_once, loaded_local_model, progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from rich.console import Console
    from sqlalchemy import Engine

    from agents.evaluation import Costs
    from app.evaluating import Evaluation
    from app.models import Ready
    from app.settings import Settings
    from app.tables import Eval


def evaluate(  # noqa: PLR0913  a command has its options
    *,
    models: Annotated[str, typer.Option(help="Models with commas between them, such as claude-haiku-5-5,local.")],
    context: Annotated[
        str | None,
        typer.Option(show_default="what is in force", help="A context version, or its first 6 characters or more."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, show_default="all", help="So many of the newest labels.")] = None,
    cost_of_wrong: Annotated[float | None, typer.Option(min=0, help="US$ that a wrong verdict costs you.")] = None,
    cost_of_look: Annotated[float, typer.Option(min=0, help="US$ that a person's look at a ticket costs.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of tables.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before money is spent.")] = False,
) -> None:
    """Compare models with people: how far each agrees, what it costs, how long it takes, and which is better.

    Cut short, the same command goes on where it was; a reply that is on record is not paid again.
    """
    from decimal import Decimal

    from rich.console import Console

    from agents.evaluation import Costs
    from app.commands import database
    from app.settings import load_settings

    settings = load_settings()
    errors = Console(stderr=True)
    wrong = None if cost_of_wrong is None else Decimal(str(cost_of_wrong))
    with left_at_once(), database.opened(settings) as engine, ExitStack() as ending:
        evaluation = _prepared(settings, engine, errors, ending, models=models, context=context, limit=limit)
        _agree(settings, engine, errors, evaluation, yes=yes)
        row = _made(engine, errors, evaluation, Costs(wrong, Decimal(str(cost_of_look))))
        _print(row, evaluation, as_json=as_json)


def _prepared(  # noqa: PLR0913  what is prepared has these parts
    settings: Settings,
    engine: Engine,
    errors: Console,
    ending: ExitStack,
    *,
    models: str,
    context: str | None,
    limit: int | None,
) -> Evaluation:
    """Tickets and models, looked up. Raises TicketqcError, with nothing spent."""
    from app import clock, eval_cases, evaluating, releases
    from app.db import transaction
    from app.errors import NotFound
    from app.vault import Vault

    names = [name.strip() for name in models.split(",") if name.strip()]
    evaluating.check_names(names, on=clock.now().date())
    with transaction(engine) as session:
        judged_by = releases.load(session, releases.find(session, context)) if context else releases.in_force(session)
        chosen = eval_cases.choose(session, context=judged_by, as_of=clock.now(), most=limit)
    if not chosen.cases:
        raise NotFound(
            "nobody has labelled a finished ticket yet, so there is nothing to compare models on; a lead's blind "
            "checks on the page /audit are the best labels"
        )
    ready = _opened(settings, engine, errors, ending, names)
    return evaluating.Evaluation(engine, Vault.load(settings).nonce, judged_by, chosen, ready)


def _opened(
    settings: Settings, engine: Engine, errors: Console, ending: ExitStack, names: Sequence[str]
) -> tuple[Ready, ...]:
    """Closed when the command ends, those too that were opened before one that could not be."""
    from app import queue
    from app.budget import Budget
    from app.db import transaction
    from app.evaluating import open_models
    from app.model_watch import SILENCE
    from app.models import LOCAL

    with transaction(engine) as session:
        sharers = 1 + queue.alive(session, silence=SILENCE)
    local = loaded_local_model(settings, errors) if LOCAL in names else None
    ready = []
    for one in open_models(settings, names, local=local, purse=Budget(engine, settings), sharers=sharers):
        ending.callback(one.asking.close)
        ready.append(one)
    return tuple(ready)


def _agree(settings: Settings, engine: Engine, errors: Console, evaluation: Evaluation, *, yes: bool) -> None:
    """The cost is on the screen, and somebody wants it. Raises Conflict where today's budget has no room for it."""
    from decimal import Decimal

    from app import eval_output
    from app.web.words import dollars

    estimates = evaluation.estimates()
    chosen = evaluation.chosen
    taken = f"{len(chosen.cases):,} of {chosen.available:,} labelled tickets, context version"
    eval_output.print_estimates(estimates, errors, basis=f"{taken} {evaluation.context.version[:12]}")
    about = sum((one.about for one in estimates), Decimal(0))
    _within_budget(settings, engine, about)
    if about and not yes:
        typer.confirm(f"This costs about {dollars(about)}. Go on?", abort=True, err=True)


def _within_budget(settings: Settings, engine: Engine, about: Decimal) -> None:
    from decimal import Decimal

    from app.budget import VARIABLE, Budget
    from app.db import transaction
    from app.errors import Conflict
    from app.web.words import dollars

    budget = Budget(engine, settings)
    if budget.limit is None or not about:
        return
    with transaction(engine) as session:
        room = budget.room(session)
    if about > room:
        raise Conflict(
            f"this costs about {dollars(about)}, and today's budget has {dollars(max(room, Decimal(0)))} left; nothing "
            f"was spent. Raise {VARIABLE}, or take fewer tickets with --limit"
        )


def _made(engine: Engine, errors: Console, evaluation: Evaluation, costs: Costs) -> Eval:
    """Judged by all models, and on record."""
    from app import evaluating
    from app.db import transaction

    total = len(evaluation.models) * len(evaluation.chosen.cases)
    with progress(errors, total=total) as advance:
        arms = evaluation.arms(advance)
    with transaction(engine) as session:
        return evaluating.record(session, evaluation, evaluating.document(evaluation, arms, costs=costs))


def _print(row: Eval, evaluation: Evaluation, *, as_json: bool) -> None:
    from rich.console import Console

    from app import eval_output

    if as_json:
        json.dump(eval_output.as_json(row), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    titles = {criterion.id: criterion.title for criterion in evaluation.context.rubric.criteria}
    eval_output.print_figures(row.figures, titles, Console())
    typer.echo(f"This is evaluation {row.id}; the page /evals/{row.id} shows it with its intervals drawn.")
