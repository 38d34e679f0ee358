"""From a revision to a judgement: what each answer of the model leads to."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import pytest

from agents import qc
from agents.answer import FAILURES
from agents.context import parse
from agents.gateway import CallFailed
from agents.judge import SAMPLED_SHARE, Judgement, Panel, Strong, judge
from agents.ticket import OPTIONAL_FIELDS
from tests.cast import MODEL, TRIAGED, Model, judged, nonce_for, reply, revision, said, shipped_context

if TYPE_CHECKING:
    from agents.question import Outcome, Purpose, Question
    from agents.ticket import Revision
    from agents.verdict import Finding

EVERYTHING = frozenset(OPTIONAL_FIELDS)


def run(
    model: Model | None,
    *,
    ticket: Revision | None = None,
    allow_second: bool = False,
    token_limit: int = 30_000,
    strong: Model | None = None,
) -> Judgement:
    panel = None
    if model is not None:
        tier = None if strong is None else Strong("claude-sonnet", strong)
        panel = Panel(MODEL, model, nonce_for, token_limit, lambda: allow_second, strong=tier)
    return judge(ticket or revision(), shipped_context(), supplied=EVERYTHING - {"events"}, panel=panel)


def finding(judgement: Judgement, criterion: str) -> Finding:
    return next(found for found in judgement.findings if found.criterion == criterion)


def test_a_good_ticket_passes_with_one_call_to_each_agent() -> None:
    model = Model()
    judgement = run(model)
    assert judgement.verdict.outcome == "pass"
    assert [question.agent for question in model.asked] == ["triage", "qc"]
    assert [found.criterion for found in judgement.findings] == [c.id for c in shipped_context().rubric.criteria]
    assert judgement.observations == ()


def test_a_verified_quote_carries_its_span() -> None:
    judgement = run(
        Model(qc=judged(root_cause=said("not_met", line=9, quote="watched the tunnel for", reason="No cause.")))
    )
    found = finding(judgement, "root_cause")
    assert (found.result, found.evidence_status, found.reason) == ("not_met", "verified", "No cause.")
    (evidence,) = found.evidence
    line = revision().lines[evidence.line - 1]
    (span,) = evidence.spans
    assert line.text[span.start : span.end] == "watched the tunnel for"


def test_a_quote_that_is_not_there_leaves_the_criterion_unscored_and_is_observed() -> None:
    judgement = run(Model(qc=judged(root_cause=said("not_met", line=9, quote="rebooted the core switch twice"))))
    found = finding(judgement, "root_cause")
    assert (found.result, found.evidence_status, found.evidence) == ("unscored", "void", ())
    assert [(o.agent, o.code, o.subject) for o in judgement.observations] == [("qc", "quote_not_found", "root_cause")]


def test_a_not_met_without_a_quote_proves_nothing() -> None:
    assert finding(run(Model(qc=judged(root_cause=said("not_met", line=9)))), "root_cause").evidence_status == "void"


def test_absent_is_not_met_with_an_explicit_absence() -> None:
    found = finding(run(Model(qc=judged(follow_up=said("absent", reason="Nothing was agreed.")))), "follow_up")
    assert (found.result, found.absent, found.evidence_status) == ("not_met", True, "absent")


def test_a_critical_criterion_met_without_a_quote_is_unscored_and_escalates() -> None:
    judgement = run(Model(qc=judged(work_performed=said("met", line=9))))
    assert finding(judgement, "work_performed").evidence_status == "void"
    assert judgement.verdict.outcome == "escalate"


def test_lines_that_do_not_exist_are_dropped() -> None:
    found = finding(run(Model(qc=judged(clear_problem=said("met", line=999)))), "clear_problem")
    assert (found.result, found.evidence) == ("met", ())


def test_a_check_settles_the_criterion_that_names_it() -> None:
    asked = {"author_role": "requester", "body": "Is anyone there?", "at": "2026-11-16T09:00:00Z"}
    ticket = revision(entries=[asked], resolution=None)
    judgement = run(Model(qc=judged(work_performed=said("absent"))), ticket=ticket)
    found = finding(judgement, "work_performed")
    assert (found.kind, found.result) == ("checked", "not_met")
    assert judgement.verdict.outcome == "fail"


def test_without_a_model_checks_stand_and_the_rest_is_unscored() -> None:
    judgement = run(None)
    results = {found.criterion: found.result for found in judgement.findings}
    assert all(results[c.id] == "unscored" for c in shipped_context().rubric.judged)
    assert all(results[c.id] != "unscored" for c in shipped_context().rubric.checked)
    assert judgement.verdict.outcome == "escalate"


def test_a_ticket_too_long_is_not_sent() -> None:
    model = Model()
    judgement = run(model, ticket=revision(description="word " * 60_000))
    assert model.asked == []
    assert judgement.verdict.outcome == "escalate"
    assert "too long" in judgement.verdict.reasons[0]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("refused", "refusal"),
        ("truncated", "truncated"),
        ("context_exceeded", "context_exceeded"),
        ("unusable", "invalid_answer"),
    ],
)
def test_what_is_no_answer_is_observed_and_escalates(outcome: Outcome, code: str) -> None:
    judgement = run(Model(qc=reply("", outcome=outcome)))
    assert judgement.verdict.outcome == "escalate"
    assert [(o.agent, o.code) for o in judgement.observations] == [("qc", code)]


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        '{"findings": {}, "triage": []}',
        '{"findings": {}, "triage": [], "verdict": "pass"}',
        judged(clear_problem={"result": "excellent", "lines": [], "quote": "", "reason": ""}),
        judged(clear_problem={"result": "met", "lines": ["1"], "quote": "", "reason": ""}),
        judged(made_up=said()),
    ],
)
def test_an_invalid_answer_is_asked_for_once_more(bad: str) -> None:
    model = Model(qc=[bad, judged()])
    judgement = run(model)
    assert judgement.verdict.outcome == "pass"
    first, repair = model.asked[1:]
    assert (first.purpose, repair.purpose) == ("review", "repair")
    assert [turn.role for turn in repair.turns] == ["user", "assistant", "user"]
    assert first.key != repair.key


def test_twice_invalid_is_a_failure_of_the_agent_not_a_verdict() -> None:
    judgement = run(Model(qc="no json"))
    assert judgement.verdict.outcome == "escalate"
    assert [(o.agent, o.code) for o in judgement.observations] == [("qc", "invalid_answer")]


def test_an_escalation_rule_with_evidence_escalates_and_without_it_does_not() -> None:
    rule = shipped_context().rules[0].id
    shown = {**TRIAGED, "rules": [{"rule": rule, "line": 8, "quote": "cannot work from home"}]}
    judgement = run(Model(triage=json.dumps(shown)))
    assert judgement.verdict.outcome == "escalate"
    assert [hit.rule for hit in judgement.rules] == [rule]
    invented = {**TRIAGED, "rules": [{"rule": rule, "line": 8, "quote": "our data was stolen yesterday"}]}
    judgement = run(Model(triage=json.dumps(invented)))
    assert judgement.verdict.outcome == "pass"
    assert [(o.agent, o.code, o.subject) for o in judgement.observations] == [("triage", "quote_not_found", rule)]


@pytest.mark.parametrize(
    ("line", "quote", "observed"),
    [(8, "cannot work from home", [("qc", "triage", "missed_escalation")]), (9, "expired client certificate", [])],
    ids=["in the intake", "in the thread, which triage never sees"],
)
def test_qc_can_name_an_escalation_that_triage_missed(
    line: int, quote: str, observed: list[tuple[str, str, str]]
) -> None:
    rule = shipped_context().rules[0].id
    answer = json.loads(judged())
    answer["triage"] = [{"code": "missed_escalation", "subject": rule, "line": line, "quote": quote}]
    judgement = run(Model(qc=json.dumps(answer)))
    assert judgement.verdict.outcome == "escalate"
    assert judgement.missed_by_triage == {rule}
    assert [(o.observer, o.agent, o.code) for o in judgement.observations] == observed


@pytest.mark.parametrize(("outcome", "code"), FAILURES.items())
def test_where_triage_gives_no_answer_qc_still_judges_and_a_person_decides(outcome: Outcome, code: str) -> None:
    judgement = run(Model(triage=reply("", outcome=outcome)))
    assert judgement.triage is None
    assert {found.result for found in judgement.findings if found.kind == "judged"} == {"met"}
    assert judgement.verdict.outcome == "escalate"
    (reason,) = judgement.verdict.reasons
    assert reason.startswith("triage gave no usable answer: ")
    assert [(o.observer, o.agent, o.code) for o in judgement.observations] == [("validator", "triage", code)]
    assert not judgement.hostile


def test_where_triage_gives_no_answer_and_qc_repeats_private_words_the_worse_is_told() -> None:
    leaking = Model(triage=reply("", outcome="refused"), qc=json.dumps({"leak": nonce_for("")}))
    judgement = run(leaking)
    assert judgement.verdict.outcome == "escalate"
    assert judgement.verdict.reasons[0].startswith("hostile text: ")
    assert judgement.hostile


def test_intake_fields_are_present_missing_or_unscored() -> None:
    answer = {**TRIAGED, "impact": {"line": 8, "quote": "the whole office is down"}}
    triage = run(Model(triage=json.dumps(answer))).triage
    assert triage is not None
    states = {name: field.state for name, field in triage.fields.items()}
    assert states == {"problem": "present", "affected": "present", "impact": "unscored", "contact": "missing"}


def test_disagreement_of_two_runs_unscores_and_is_observed() -> None:
    low = judged(work_performed=said("partly", line=9, quote="watched the tunnel for 30 minutes"))
    judgement = run(Model(qc=[low, judged()]), allow_second=True)
    assert judgement.second_run
    assert finding(judgement, "work_performed").result == "unscored"
    assert judgement.verdict.outcome == "escalate"
    assert [(o.code, o.subject) for o in judgement.observations] == [("unstable", "work_performed")]


def test_a_second_run_is_made_only_where_it_is_allowed() -> None:
    low = judged(work_performed=said("partly", line=9, quote="watched the tunnel for 30 minutes"))
    model = Model(qc=low)
    assert not run(model, allow_second=False).second_run
    assert len(model.asked) == 2


def test_no_reply_at_all_is_the_callers_business() -> None:
    with pytest.raises(CallFailed):
        run(Model(qc=CallFailed("overloaded", "HTTP 529")))


PARTLY = judged(work_performed=said("partly", line=9, quote="watched the tunnel for 30 minutes"))
RULE = shipped_context().rules[0].id
SHOWN = {"line": 8, "quote": "cannot work from home"}


def remarked(*remarks: dict[str, Any]) -> str:
    return json.dumps({**json.loads(judged()), "triage": remarks})


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (Model(triage=json.dumps({**TRIAGED, "rules": [{"rule": RULE, **SHOWN}]}), qc=PARTLY), {}),
        (Model(qc=judged(work_performed=said("partly", line=9), root_cause=said("absent"))), {}),
        (Model(qc=PARTLY), {"description": "My password: Tr0ub4dor&3xyz does not work on the VPN"}),
    ],
    ids=["an escalation rule", "a critical criterion unscored", "the fail of a critical check"],
)
def test_no_second_run_where_it_could_change_nothing(model: Model, changes: dict[str, Any]) -> None:
    judgement = run(model, ticket=revision(**changes), allow_second=True)
    assert not judgement.second_run
    assert judgement.verdict.outcome in {"escalate", "fail"}


def test_an_escalation_rule_that_only_the_second_run_shows_applies() -> None:
    again = json.loads(PARTLY) | {"triage": [{"code": "missed_escalation", "subject": RULE, **SHOWN}]}
    judgement = run(Model(qc=[PARTLY, json.dumps(again)]), allow_second=True)
    assert judgement.second_run
    assert judgement.verdict.outcome == "escalate"
    assert judgement.missed_by_triage == {RULE}


@pytest.mark.parametrize(("outcome", "code"), FAILURES.items())
def test_where_a_second_run_that_is_needed_fails_a_person_decides(outcome: Outcome, code: str) -> None:
    strong = Model()
    judgement = run(Model(qc=[PARTLY, reply("", outcome=outcome)]), allow_second=True, strong=strong)
    assert judgement.second_run
    assert finding(judgement, "work_performed").result == "partly"
    assert judgement.verdict.outcome == "escalate"
    assert judgement.verdict.reasons[0].startswith("the second run gave no usable answer: ")
    assert not judgement.hostile
    assert strong.asked == []  # nothing is unscored
    assert [(o.agent, o.code) for o in judgement.observations] == [("qc", code)]


def sampled() -> Revision:
    """A ticket that belongs to the share that is always asked about twice."""
    numbered = (revision(subject=f"VPN drops, number {number}") for number in count())
    return next(each for each in numbered if int(each.hash[:8], 16) % SAMPLED_SHARE == 0)


def test_where_only_the_sample_asked_twice_the_first_stands() -> None:
    judgement = run(Model(qc=[judged(), reply("", outcome="refused")]), ticket=sampled(), allow_second=True)
    assert judgement.second_run
    assert judgement.verdict.outcome == "pass"


@pytest.mark.parametrize("ticket", [revision(), sampled()], ids=["in doubt", "sampled"])
def test_a_second_run_that_repeats_private_words_sends_the_ticket_to_a_person(ticket: Revision) -> None:
    first = judged() if ticket != revision() else PARTLY
    judgement = run(Model(qc=[first, json.dumps({"leak": nonce_for("")})]), ticket=ticket, allow_second=True)
    assert judgement.second_run
    assert judgement.verdict.outcome == "escalate"
    assert judgement.verdict.reasons[0].startswith("hostile text: ")
    assert judgement.hostile


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_rule_named_twice_one_quote_that_is_there_is_enough(order: int) -> None:
    hits = [{"rule": RULE, **SHOWN}, {"rule": RULE, "line": 8, "quote": "our data was stolen yesterday"}][::order]
    judgement = run(Model(triage=json.dumps({**TRIAGED, "rules": hits})))
    assert [hit.rule for hit in judgement.rules] == [RULE]
    assert judgement.verdict.outcome == "escalate"
    assert judgement.observations == ()


def test_what_triage_did_say_it_did_not_miss() -> None:
    """QC may not blame triage for a rule that it named, or for a field that it called missing."""
    triage = json.dumps({**TRIAGED, "rules": [{"rule": RULE, **SHOWN}]})
    remarks = [{"code": "missed_escalation", "subject": RULE}, {"code": "missed_information", "subject": "contact"}]
    judgement = run(Model(triage=triage, qc=remarked(*({**remark, **SHOWN} for remark in remarks))))
    assert judgement.observations == ()
    assert judgement.missed_by_triage == frozenset()
    assert [hit.rule for hit in judgement.rules] == [RULE]


@pytest.mark.parametrize(
    ("code", "subject"),
    [
        ("missed_escalation", "impact"),
        ("missed_escalation", "category"),
        ("wrong_category", RULE),
        ("wrong_priority", "contact"),
    ],
)
def test_a_remark_whose_subject_does_not_fit_is_the_failure_of_qc(code: str, subject: str) -> None:
    judgement = run(Model(qc=remarked({"code": code, "subject": subject, **SHOWN})))
    assert judgement.verdict.outcome == "pass"
    assert judgement.rules == ()
    assert [(o.observer, o.agent, o.code, o.subject) for o in judgement.observations] == [
        ("validator", "qc", "invalid_answer", f"triage.{subject}")
    ]


def test_a_triage_that_gave_no_answer_missed_nothing_but_a_rule_applies() -> None:
    remarks = [{"code": "missed_escalation", "subject": RULE}, {"code": "missed_information", "subject": "impact"}]
    qc = remarked(*({**remark, **SHOWN} for remark in remarks))
    judgement = run(Model(triage=reply("", outcome="refused"), qc=qc))
    assert judgement.verdict.outcome == "escalate"
    assert [(o.agent, o.code) for o in judgement.observations] == [("triage", "refusal")]


def test_a_replay_is_judged_once_under_its_own_name_and_number() -> None:
    near = judged(work_performed=said("partly", line=9, quote="Replaced the expired client certificate"))
    assert len({question.purpose for question in _questions(Model(qc=near), "review", 0)}) == 2  # live: a second run
    first, again = (_questions(Model(qc=near), "replay", number) for number in (1, 2))
    assert [(q.agent, q.purpose, q.repetition) for q in first] == [("triage", "replay", 1), ("qc", "replay", 1)]
    keys = {question.key for question in (*first, *again, *_questions(Model(qc=near), "review", 1))}
    assert len(keys) == 7


def test_an_evaluation_is_each_models_own_first_word() -> None:
    near = judged(work_performed=said("partly", line=9, quote="Replaced the expired client certificate"))
    asked = _questions(Model(qc=["nonsense", near]), "eval", 0)
    assert [(q.agent, q.purpose) for q in asked] == [("triage", "eval"), ("qc", "eval"), ("qc", "eval_repair")]


def test_a_replay_repairs_and_keeps_the_triage_it_was_given() -> None:
    model = Model(qc=["nonsense", judged()])
    known = run(Model()).triage
    panel = Panel(MODEL, model, nonce_for, purpose="replay", repetition=3)
    judgement = judge(revision(), shipped_context(), supplied=EVERYTHING, panel=panel, triage=known)
    assert judgement.triage is known
    assert [(q.agent, q.purpose, q.repetition) for q in model.asked] == [
        ("qc", "replay", 3),
        ("qc", "replay_repair", 3),
    ]


def test_two_arms_of_a_replay_share_no_reply_even_where_an_agent_reads_the_same() -> None:
    purposes: tuple[Purpose, ...] = ("review", "replay", "eval")
    other = {**shipped_context().files, "triage.md": shipped_context().files["triage.md"] + "\nAsk briefly.\n"}
    asked = [
        qc.question(revision(), context, model=MODEL, nonce_for=nonce_for, triage=None, purpose=purpose)
        for context in (shipped_context(), parse(other))
        for purpose in purposes
    ]
    live, replayed, compared, live_after, replayed_after, compared_after = asked
    assert live.key == live_after.key
    assert replayed.key != replayed_after.key
    assert compared.key != compared_after.key


def _questions(model: Model, purpose: Literal["review", "replay", "eval"], repetition: int) -> list[Question]:
    panel = Panel(MODEL, model, nonce_for, purpose=purpose, repetition=repetition)
    judge(revision(), shipped_context(), supplied=EVERYTHING - {"events"}, panel=panel)
    return model.asked
