"""`ticketqc review FILE`."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import closing, contextmanager, nullcontext
from decimal import Decimal, InvalidOperation
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.asking import left_at_once, loaded_local_model, progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from app.limiter import Limiter
    from app.models import Choice, Ready
    from app.review_file import Report
    from app.settings import Settings
    from app.spending import RunBudget


def _usd(text: str) -> Decimal:
    """A sum of money that buys something."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or amount <= 0:
        raise typer.BadParameter("give US$ as a number above 0, for instance 0.50")
    return amount


def review(
    file: Annotated[Path, typer.Argument(help="Tickets as JSONL, one JSON object a line.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Tickets judged at the same time.")] = 16,
    budget: Annotated[
        Decimal | None,
        typer.Option(parser=_usd, metavar="USD", help="Ask nothing more where this run could cost more than that."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again even where a reply is on record.")] = False,
) -> None:
    """Judge the tickets of a file, without a server or a database."""
    started = time.monotonic()
    from rich.console import Console

    from app import data_dir, log, review_file
    from app.clock import now
    from app.journal import Journal
    from app.limiter import Limiter
    from app.models import LOCAL_CONCURRENCY
    from app.settings import load_settings
    from app.spending import RunBudget
    from app.vault import Vault

    log.configure(level=logging.WARNING)  # on standard error: standard output is for the result alone
    settings = load_settings()
    errors = Console(stderr=True)
    batch = review_file.read_tickets(file)
    context = review_file.read_context(settings.context_dir)
    vault = Vault.load(settings)
    limiter = Limiter(maximum=concurrency)
    purse = RunBudget(budget, today=now().date()) if budget is not None else None
    ready = _open(settings, errors, limiter=limiter, purse=purse)
    strong = _open_strong(settings, errors, limiter=limiter, purse=purse) if ready is not None else None
    folder = data_dir.ensure(settings.data_dir)
    opened = closing(ready.asking) if ready is not None else nullcontext()
    opened_strong = closing(strong.asking) if strong is not None else nullcontext()
    with left_at_once(), opened, opened_strong, Journal(folder / "review-replies.jsonl", fresh=fresh) as journal:
        reviewer = review_file.Reviewer(context, ready, journal, vault.nonce, now().date(), strong, purse)
        startup = time.monotonic() - started
        at_once = LOCAL_CONCURRENCY if ready is not None and ready.demonstration else concurrency
        with progress(errors, total=len(batch.revisions)) as advance:
            report = reviewer.review(batch, concurrency=at_once, on_done=advance)
    with _standard_output():
        _print(report, errors, as_json=as_json, startup_seconds=startup)
    raise typer.Exit(1 if any(reviewed.judgement is None for reviewed in report.reviewed) else 0)


def _print(report: Report, errors: Console, *, as_json: bool, startup_seconds: float) -> None:
    from rich.console import Console

    from app import review_output

    if not as_json:
        review_output.print_report(report, Console(), startup_seconds=startup_seconds)
        return
    review_output.write_json(report, sys.stdout, startup_seconds=startup_seconds)
    review_output.print_summary(report, errors, startup_seconds=startup_seconds)


@contextmanager
def _standard_output() -> Iterator[None]:
    """What is paid for is not lost to a locale without our marks; a full disk is told, a reader that left is not."""
    from app.review_file import KEPT, ReviewError

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered still has no other place
        if not isinstance(error, BrokenPipeError):
            raise ReviewError(f"cannot write the result: {error.strerror}. {KEPT}") from None


def _open(settings: Settings, errors: Console, *, limiter: Limiter, purse: RunBudget | None) -> Ready | None:
    """The chosen model, ready to answer; None where none is chosen, and a line that says so."""
    from agents.gateway import CallFailed
    from app.errors import ModelError
    from app.models import choose, describe, explain, open_model

    choice = choose(settings)
    errors.print(f"model: {describe(settings)}", highlight=False)
    if not choice.judged_by_model:
        return None
    _refuse_unpriced(choice, purse)
    local = loaded_local_model(settings, errors) if choice.local else None
    try:
        return open_model(settings, choice, limiter=limiter, local=local, purse=purse)
    except CallFailed as failure:
        raise ModelError(explain(failure, choice)) from failure


def _open_strong(settings: Settings, errors: Console, *, limiter: Limiter, purse: RunBudget | None) -> Ready | None:
    """The strong model where the settings want it asked; a local one has no stronger brother."""
    from agents.gateway import CallFailed
    from app.errors import ModelError
    from app.models import choose, explain, open_model

    choice = choose(settings, "strong")
    if not settings.strong_on_abstention or not choice.judged_by_model or choice.local:
        return None
    errors.print(f"where that cannot say: {choice.model}", highlight=False)
    _refuse_unpriced(choice, purse)
    try:
        return open_model(settings, choice, limiter=limiter, local=None, purse=purse)
    except CallFailed as failure:
        raise ModelError(explain(failure, choice)) from failure


def _refuse_unpriced(choice: Choice, purse: RunBudget | None) -> None:
    from app.errors import ModelError

    if purse is not None and not choice.local and not purse.knows(choice.model):
        raise ModelError(f"the price of {choice.model} is not known, so no budget can hold it: leave --budget out")
