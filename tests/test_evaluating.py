"""`ticketqc eval`: models beside people on labelled tickets; nothing spent unasked, paid twice, or mixed in."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text
from typer.testing import CliRunner

from agents.context import parse
from agents.evaluation import Costs
from app import clock, eval_cases, evaluating, releases
from app.cli import root
from app.errors import BadRequest, Conflict, ModelError, NotFound, TicketqcError
from app.limiter import Limiter
from app.local_model import LocalState
from app.periods import last_days
from app.queries import agents as agent_queries
from app.queries import costs
from app.queries.figures import money, service
from app.queries.routing import routing
from app.queries.ticket import runs as shown_runs
from app.tables import Eval, Label, Reuse, Run, Ticket
from tests.double import Double, Fault, running
from tests.double.answers import answer, recognise
from tests.double.messages import ApiError
from tests.double.models import MODELS
from tests.double.prompt import output_schema, user_text
from tests.factories import make_context, make_ticket, office_ticket, shipped_context
from tests.proposing import make_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault
    from tests.double.models import Json

pytestmark = pytest.mark.usefixtures("command_line")

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
BOTH = f"{HAIKU},{SONNET}"
POOR = "Somebody looked at it."  # the whole record of a ticket that a person fails
FEW, ENOUGH = 3, 12


def _said(body: Json) -> str:
    """Haiku finds nothing wrong with any ticket; every other model sees where no work is on record."""
    schema = output_schema(body) or body["tools"][0]["input_schema"]
    said: dict[str, Any] = json.loads(answer(body, schema, kind="all_met"))
    if recognise(schema) == "qc" and body["model"] != HAIKU and POOR in user_text(body):
        nothing = {"result": "absent", "quote": "", "lines": [], "reason": "It does not say what was done."}
        said["findings"]["work_performed"] = nothing
    return json.dumps(said)


@pytest.fixture
def double() -> Iterator[Double]:
    with running() as server:
        server.answer_with(_said)
        yield server


@pytest.fixture(autouse=True)
def _service(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", double.key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", double.base_url)


def run(*arguments: str, models: str = BOTH, typed: str = "", code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(root, ["eval", "--models", models, *arguments], input=typed)
    if isinstance(result.exception, TicketqcError):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout, result.stderr


def compared(*arguments: str, models: str = BOTH) -> Any:  # noqa: ANN401  the document
    return json.loads(run("--yes", "--json", *arguments, models=models)[0])


def ticket(session: Session, *, poor: bool = False) -> Ticket:
    """Finished; `poor`: with next to nothing on record."""
    entries = [{"author": "Sam Okoro", "author_role": "agent", "visibility": "internal", "body": POOR, "minutes": 5}]
    text = office_ticket(**({"entries": entries} if poor else {}))
    text = text.model_copy(update={"description": f"{text.description} This is {text.external_id}."})
    make_context(session)
    return make_ticket(session, text=text)


def labelled(session: Session, user: User, number: int, **columns: Any) -> list[Label]:  # noqa: ANN401  the label's own
    """Every third of these tickets is poor, and a person fails it."""
    return [
        make_label(
            session,
            user,
            ticket=ticket(session, poor=at % 3 == 0),
            **{
                "outcome": "pass" if at % 3 else "fail",
                "findings": {"work_performed": "met" if at % 3 else "not_met"},
                **columns,
            },
        )
        for at in range(number)
    ]


def answered(session: Session) -> list[Run]:
    session.expire_all()
    return list(session.scalars(select(Run).where(Run.replied)))


def test_two_models_beside_people(session: Session, lead: User, double: Double) -> None:
    labelled(session, lead, ENOUGH)
    found = compared("--cost-of-wrong", "2")
    haiku, sonnet = found["models"]
    assert (found["tickets"], found["labels"], found["blind"], found["others"]) == (ENOUGH, ENOUGH, True, 0)
    assert haiku["verdict"]["table"] == {"hits": 0, "missed": 4, "false": 0, "clear": 8}
    assert sonnet["verdict"]["table"] == {"hits": 4, "missed": 0, "false": 0, "clear": 8}
    assert haiku["verdict"]["measures"]["sensitivity"]["value"] == 0.0
    assert sonnet["criteria"]["work_performed"]["table"] == {"hits": 4, "missed": 0, "false": 0, "clear": 8}
    assert list(haiku["criteria"]) == ["work_performed"]
    verdict, criterion = found["pairs"]
    assert (verdict["subject"], verdict["first_only"], verdict["second_only"], verdict["better"]) == ("", 0, 4, "")
    assert (verdict["more"], verdict["at_least"], criterion["subject"]) == (10, None, "work_performed")
    each = {name: sum(call.cost for call in double.account.calls if call.model == name) for name in (HAIKU, SONNET)}
    assert haiku["cost_usd"] == pytest.approx(float(each[HAIKU]) / ENOUGH)
    assert sonnet["cost_usd"] == pytest.approx(float(each[SONNET]) / ENOUGH)
    assert haiku["expected_usd"]["value"] == pytest.approx(haiku["cost_usd"] + 2 * 4 / 12)
    assert haiku["p50_ms"] <= haiku["p95_ms"]
    calls = Counter((one.model, one.agent, one.purpose) for one in answered(session))
    assert calls == {(model, agent, "eval"): ENOUGH for model in (HAIKU, SONNET) for agent in ("triage", "qc")}
    row = session.scalars(select(Eval)).one()
    assert (row.id, row.models, row.figures["pairs"]) == (found["id"], [HAIKU, SONNET], found["pairs"])


def test_the_same_again_is_paid_once_and_is_no_saving(session: Session, lead: User, double: Double) -> None:
    labelled(session, lead, ENOUGH)
    first = compared()
    paid = len(double.account.calls)
    again, told = run("--json")  # nothing is left to agree to
    second = json.loads(again)
    assert len(double.account.calls) == paid == 4 * ENOUGH
    assert {**first, "id": 0, "recorded_at": ""} == {**second, "id": 0, "recorded_at": ""}
    assert second["id"] > first["id"]
    assert "$0" in told
    assert session.scalar(select(func.count(Reuse.id))) == 0
    labelled(session, lead, 1)
    assert compared()["tickets"] == ENOUGH + 1
    assert len(double.account.calls) == paid + 4


def test_cut_short_it_goes_on_where_it_stopped(session: Session, lead: User, double: Double) -> None:
    labelled(session, lead, ENOUGH)
    double.fault(Fault("billing", at=tuple(range(30, 300))))
    with pytest.raises(ModelError, match=r"cannot be billed.*will not be paid again.*goes on from here"):
        run("--yes")
    assert session.scalars(select(Eval)).all() == []
    assert len(answered(session)) == 30
    double.fault()
    assert compared()["tickets"] == ENOUGH
    assert len(answered(session)) == 4 * ENOUGH
    assert sum(call.status == 200 for call in double.account.calls) == 4 * ENOUGH


def test_it_asks_before_it_spends(session: Session, lead: User, double: Double) -> None:
    labelled(session, lead, ENOUGH)
    _, said = run(typed="n\n", code=1)
    assert "12 of 12 labelled tickets" in said
    assert "This costs about $" in run(code=1)[1]  # and nobody there to say yes
    assert (double.account.calls, session.scalars(select(Eval)).all()) == ([], [])
    out, _ = run(typed="y\n")
    assert "Nobody can say which model is right more often, on 12 labels" in out
    assert "undecidable, needs 10 more labels" in out
    assert "each labelled blind" in out
    assert "Say what a wrong verdict costs (--cost-of-wrong)" in out
    about = Decimal(said.split("This costs about $")[1].split(" ")[0].rstrip("."))
    spent = sum((one.cost_usd or Decimal(0) for one in answered(session)), Decimal(0))
    assert spent / 2 < about < spent * 2


def test_what_a_look_costs_is_said_also_where_nobody_named_it(session: Session, lead: User) -> None:
    labelled(session, lead, ENOUGH)
    out, _ = run("--yes", "--cost-of-wrong", "2", models=HAIKU)
    assert "a person's look at what is handed over $0, because --cost-of-look was not given" in " ".join(out.split())
    assert f"{HAIKU} says the same as the person on 8 of 12 labels" in out
    out, _ = run("--yes", "--cost-of-wrong", "2", "--cost-of-look", "0.75", models=HAIKU)
    assert "$2.00 for a verdict that is wrong, and a person's look at what is handed over $0.75." in " ".join(
        out.split()
    )


def test_with_few_labels_it_says_so_and_still_what_it_costs(session: Session, lead: User) -> None:
    labelled(session, lead, FEW)
    out, _ = run("--yes", "--cost-of-wrong", "2")
    assert "Too little to say who is right: 3 labels, and it takes 10" in out
    assert "undecidable on 3 labels, needs at least 7 more" in " ".join(out.split())
    cost, p50 = (next(line for line in out.splitlines() if name in line) for name in ("cost of a ticket", "p50"))
    assert cost.count("$0.0") == 2
    assert p50.count(" s ") == 2


@pytest.fixture
def known_to_few(session: Session, lead: User, double: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """A server that lacks a model of the price book; there are labels."""
    monkeypatch.delitem(MODELS, "claude-haiku-4-5")
    labelled(session, lead, FEW)
    return double


@pytest.mark.parametrize(
    ("models", "error", "words"),
    [
        ("", BadRequest, "name one model or more"),
        (f"{HAIKU},{HAIKU}", BadRequest, "named twice"),
        (f"{HAIKU},none", BadRequest, "judges nothing"),
        (f"{HAIKU},claude-next", ModelError, "no price is known for claude-next.*claude-sonnet-5-5"),
        (f"{HAIKU},claude-haiku-4-5", ModelError, "the server knows no model claude-haiku-4-5. Nothing was spent"),
    ],
)
def test_a_model_that_cannot_be_evaluated_is_one_line_and_nothing_is_spent(
    known_to_few: Double, models: str, error: type[TicketqcError], words: str
) -> None:
    with pytest.raises(error, match=words):
        run("--yes", models=models)
    assert known_to_few.account.calls == []


def test_without_a_key_or_with_a_wrong_one_nothing_is_asked(
    session: Session, lead: User, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled(session, lead, FEW)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-wrong")
    with pytest.raises(ModelError, match="the API key was not accepted"):
        run("--yes")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    with pytest.raises(ModelError, match=f"{HAIKU} needs an API key: set ANTHROPIC_API_KEY"):
        run("--yes")
    assert double.account.calls == []


def test_a_budget_without_room_for_it_is_said_beforehand(
    session: Session, lead: User, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled(session, lead, FEW)
    monkeypatch.setenv("TICKETQC_DAILY_BUDGET_USD", "0.001")
    with pytest.raises(Conflict, match=r"today's budget has \$0.0010 left; nothing was spent"):
        run("--yes")
    assert double.account.calls == []


def test_a_fresh_install_has_nothing_to_compare_on(session: Session, double: Double) -> None:
    make_context(session)
    session.commit()
    with pytest.raises(NotFound, match="nobody has labelled a finished ticket yet"):
        run("--yes")
    assert double.account.calls == []


def chosen(session: Session, *, most: int | None = None) -> eval_cases.Chosen:
    return eval_cases.choose(session, context=shipped_context(), as_of=clock.now() + timedelta(seconds=1), most=most)


def test_blind_labels_count_alone_and_the_sealed_ones_never(session: Session, lead: User, other_lead: User) -> None:
    seen = labelled(session, lead, 2, blind=False)
    labelled(session, lead, 2, split="sealed")
    found = chosen(session)
    assert (len(found.cases), found.blind, found.others) == (2, False, 0)
    blind = labelled(session, lead, 3, split="dev")
    found = chosen(session)
    assert (found.blind, found.available, found.others) == (True, 3, 2)
    assert [case.revision_id for case in found.cases] == [label.revision_id for label in reversed(blind)]
    assert [case.revision_id for case in chosen(session, most=2).cases] == [
        label.revision_id for label in reversed(blind[1:])
    ]
    # somebody who saw the verdict decided the same state again: the standing word is not blind any more
    again = session.scalars(select(Ticket).where(Ticket.revision_id == blind[0].revision_id)).one()
    make_label(session, other_lead, ticket=again, blind=False, outcome="pass")
    assert len(chosen(session).cases) == 2
    assert seen[0].revision_id not in {case.revision_id for case in chosen(session).cases}


def test_labels_that_say_nothing_and_criteria_in_other_words_do_not_count(session: Session, lead: User) -> None:
    labelled(session, lead, 1, outcome="cannot_tell", findings={})
    (known,) = labelled(session, lead, 1, outcome="cannot_tell", findings={"work_performed": "met"})
    found = chosen(session)
    assert [case.revision_id for case in found.cases] == [known.revision_id]
    assert found.wanted[0] == ("cannot_tell", {"work_performed": "met"})
    files = dict(shipped_context().files)
    files["qc_rubric.md"] = files["qc_rubric.md"].replace("actually done", "really done").replace("done", "made")
    other = parse(files)
    assert other.rubric["work_performed"].text_hash != shipped_context().rubric["work_performed"].text_hash
    later = eval_cases.choose(session, context=other, as_of=clock.now() + timedelta(seconds=1), most=None)
    assert later.wanted[0].findings == {}


def test_another_version_can_be_evaluated_and_shares_no_reply(session: Session, lead: User, double: Double) -> None:
    labelled(session, lead, FEW)
    changed = {**shipped_context().files, "triage.md": shipped_context().files["triage.md"] + "\nAsk briefly.\n"}
    version = releases.store(session, changed).version
    session.commit()
    assert compared(models=HAIKU)["context_version"] == shipped_context().version
    assert compared("--context", version[:8], models=HAIKU)["context_version"] == version
    assert len(double.account.calls) == 4 * FEW
    assert Counter(one.context_version for one in answered(session)) == {
        version: 2 * FEW,
        shipped_context().version: 2 * FEW,
    }


def test_a_limit_takes_the_newest(session: Session, lead: User, double: Double) -> None:
    labelled(session, lead, FEW)
    found = compared("--limit", "2", models=HAIKU)
    assert (found["tickets"], found["available"], len(double.account.calls)) == (2, FEW, 4)


def test_a_question_that_the_server_rejects_stops_nobody_else(session: Session, lead: User, double: Double) -> None:
    labels = labelled(session, lead, FEW)
    bad = session.scalars(select(Ticket.external_id).where(Ticket.revision_id == labels[0].revision_id)).one()

    def refusing(body: Json) -> str:
        if bad in user_text(body):
            raise ApiError(400, "invalid_request_error", "this text is not accepted")
        return _said(body)

    double.answer_with(refusing)
    (model,) = compared(models=HAIKU)["models"]
    assert (model["judged"], model["rejected"]) == (FEW - 1, 1)


def test_it_takes_its_share_of_the_keys_limits_beside_the_workers(
    session: Session, lead: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled(session, lead, FEW)
    for _ in range(6):  # two lanes a process
        session.execute(text("insert into procrastinate.procrastinate_workers (last_heartbeat) values (now())"))
    session.commit()
    limiter = Limiter(maximum=1)
    monkeypatch.setattr(evaluating, "Limiter", lambda **_: limiter)
    compared(models=HAIKU)
    assert limiter.sharers == 4


def test_the_local_model_costs_nothing_and_is_called_a_demonstration(
    engine: Engine, session: Session, lead: User, vault: Vault, settings: Settings
) -> None:
    labelled(session, lead, FEW)
    with running(profile="llamacpp") as local:
        local.answer_with(_said)
        state = LocalState("ready", url=local.base_url, model="local:tiny")
        (ready,) = evaluating.open_models(settings, ["local"], local=state, purse=None)
        made = evaluating.Evaluation(engine, vault.nonce, shipped_context(), chosen(session), (ready,))
        (estimate,) = made.estimates()
        arms = made.arms(lambda: None)
    assert (estimate.questions, estimate.about + estimate.most) == (2 * FEW, Decimal(0))
    (model,) = evaluating.document(made, arms, costs=Costs(None, Decimal(0)))["models"]
    assert (model["model"], model["demonstration"], model["cost_usd"], model["judged"]) == (
        "local:tiny",
        True,
        0.0,
        FEW,
    )


def test_what_was_compared_is_in_no_other_figure_and_has_its_own_line(session: Session, lead: User) -> None:
    """Only what was spent this month holds it: that money is gone."""
    first = labelled(session, lead, FEW)[0]
    live = session.scalars(select(Ticket).where(Ticket.revision_id == first.revision_id)).one()
    session.commit()
    before = _told(session, live.id)
    run("--yes")
    session.rollback()
    session.expire_all()
    assert _told(session, live.id) == before
    week = last_days(clock.now() + timedelta(seconds=1))
    lines = {row.line: row.calls for row in money.cost(session, week).lines}
    assert lines == {"eval": 4 * FEW}
    assert money.cost(session, week).per_ticket_usd is None


def _told(session: Session, ticket_id: int) -> list[Any]:
    """What pages and reports say of agents, costs, the cache, health, steps, and one ticket's calls."""
    now = clock.now()
    week = last_days(now + timedelta(seconds=1))
    return [
        dict(agent_queries.usage(session, week=week.start, month=week.start)),
        costs.by_agent(session, week),
        costs.by_criterion(session, week),
        costs.cache(session, since=week.start),
        service.health(session, week).latency,
        service.health(session, week).outages,
        [(row.step, row.cost_usd) for row in routing(session, week=week.start, month=week.start)[0].steps],
        shown_runs(session, ticket_id),
    ]
