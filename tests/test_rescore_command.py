"""`ticketqc rescore`: the cost before anything begins, one clear line for what cannot be, and the result in words."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text
from typer.testing import CliRunner

from app import comparing, releases
from app.cli import root
from app.comparing import Comparison, Move
from app.errors import BadRequest, NotFound, TicketqcError
from app.tables import Rescore, RescoreResult, Revision
from tests.factories import make_model_state, make_run, make_ticket, make_verdict
from tests.rescored import version_with

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from typer.testing import Result


pytestmark = pytest.mark.usefixtures("command_line")


@pytest.fixture
def version(session: Session) -> str:
    make_model_state(session)
    for _ in range(2):
        make_verdict(session, session.get_one(Revision, make_ticket(session).revision_id))
    session.commit()
    return version_with(session)


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(root, ["rescore", *arguments])
    if isinstance(result.exception, TicketqcError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def judged(session: Session) -> None:
    """As a running service would have left every re-scoring by now."""
    moved = Comparison(("a critical criterion",), (Move("root_cause", "Root cause", "met", "not_met", "", False),))  # noqa: FBT003
    first = select(func.min(RescoreResult.revision_id)).scalar_subquery()
    for result in session.scalars(select(RescoreResult)):
        told = moved if result.revision_id == session.scalar(select(first)) else Comparison((), ())
        result.outcome, result.comparison = ("fail" if told.moves else "pass"), comparing.document(told)
    session.execute(text("update rescores set state = 'done', model = 'claude-haiku-5-5'"))
    session.commit()


def test_what_it_takes_is_told_and_without_a_word_nothing_begins(session: Session, version: str) -> None:
    with pytest.raises(BadRequest, match="nothing was begun: say --yes"):
        run("--since", "30d", "--context", version[:8])
    assert session.scalars(select(Rescore)).all() == []


def test_with_no_service_it_waits_for_one_and_says_where_to_look(session: Session, version: str) -> None:
    said = run("--since", "30d", "--context", version[:8], "--yes").stderr
    row = session.scalars(select(Rescore)).one()
    assert f"2 tickets, {row.since:%Y-%m-%d %H:%M} to" in said
    assert "4 calls by claude-haiku-5-5" in said
    assert "cost: about $0.00" in said
    assert "no service is running; start one with `ticketqc up`; it goes on by itself: http://" in said
    assert f"/rescores/{row.id}" in said
    assert (row.actor, row.state, row.tickets) == ("command line", "waiting", 2)


def test_the_strong_model_s_part_is_told_before_and_in_the_document(
    session: Session, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model_state(session, role="strong", model="claude-sonnet-5-5")
    make_run(session, model="claude-sonnet-5-5", purpose="strong", cost_usd=Decimal("0.0052"))
    session.commit()
    asked = ("--since", "30d", "--context", version, "--yes", "--json")
    without = run(*asked)
    assert "is asked too" not in without.stderr
    assert json.loads(without.stdout)["cost"]["strong"] is None
    monkeypatch.setenv("TICKETQC_STRONG_ON_ABSTENTION", "true")
    said = run(*asked)
    assert (
        "where the worker leaves open what decides, claude-sonnet-5-5 is asked too: for up to 2 tickets, about $0.010; "
        "if as often as in the verdicts that stand, for 0, about $0\n"
    ) in said.stderr
    assert json.loads(said.stdout)["cost"]["strong"] == {
        "model": "claude-sonnet-5-5",
        "tickets_at_most": 2,
        "at_most_usd": 0.0104,
        "tickets_likely": 0,
        "likely_usd": 0.0,
    }


def test_the_strong_model_may_be_asked_where_all_answers_of_the_worker_are_on_record(
    session: Session, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKETQC_STRONG_ON_ABSTENTION", "true")
    make_model_state(session, role="strong", model="claude-sonnet-5-5")
    context = releases.load(session, version)
    for revision in session.scalars(select(Revision)).all():
        for agent in ("triage", "qc"):
            make_run(session, revision=revision, agent=agent, agent_hash=context.agent_hash(agent))
    session.commit()
    said = run("--since", "30d", "--context", version, "--yes").stderr
    assert "cost: nothing but the strong model's calls" in said
    assert "claude-sonnet-5-5 is asked too: for up to 2 tickets" in said


def test_the_result_is_a_table_or_json(session: Session, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: judged(session))
    monkeypatch.setattr("app.commands.rescoring._nobody", lambda _session: "")
    told = run("--since", "30d", "--context", version, "--yes").stdout
    assert "pass -> fail (Root cause: met -> not met)" in told
    assert "1 of 2 verdicts would change; 0 answers paid, $0. Nothing was changed." in told
    document = json.loads(run("--since", "30d", "--context", version, "--yes", "--json").stdout)
    assert (document["state"], document["judged"], document["cost"]["calls"]) == ("done", 2, 4)
    assert document["matrix"]["pass"] == {"pass": 1, "fail": 1, "escalate": 0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "soon", "--context", "{}"), "since: 'soon' is no time"),
        (("--since", "30d", "--context", "000000"), "there is no context version '000000'"),
        (("--since", "2d", "--until", "3d", "--context", "{}"), "the window is empty"),
        (("--since", "2020-01-01", "--until", "2020-02-01", "--context", "{}"), "no finished ticket with a verdict"),
    ],
)
def test_what_cannot_be_is_one_clear_line(version: str, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises((BadRequest, NotFound), match=said) as refused:
        run(*(one.format(version) for one in arguments), "--yes")
    assert "\n" not in str(refused.value)


def test_what_is_missing_is_told_with_the_option(version: str) -> None:
    assert "--context" in run("--since", "30d", code=2).stderr
    assert "--since" in run("--context", version, code=2).stderr
