"""What a job reads before it judges: what is judged already, and which of triage's answers still counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from agents.judge import ENGINE_VERSION
from app import tables
from app.cases import known_triage, placed, read_case
from tests.cast import MODEL, shipped_context
from tests.factories import make_context, make_ticket, make_triage, make_verdict

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.models import Ready

READY = cast("Ready", SimpleNamespace(model=MODEL))
TRIAGE = shipped_context().agent_hash("triage")


@pytest.fixture
def revision(session: Session) -> tables.Revision:
    make_context(session)
    return session.get_one(tables.Revision, make_ticket(session).revision_id)


@pytest.mark.parametrize(
    ("version", "panel", "again"),  # again: with this model, without one
    [
        (ENGINE_VERSION, MODEL, (False, False)),
        (ENGINE_VERSION, f"{MODEL} + claude-sonnet-5-5", (False, False)),
        (ENGINE_VERSION, "claude-haiku-4-5", (True, False)),
        (ENGINE_VERSION, "none", (True, False)),
        (ENGINE_VERSION - 1, MODEL, (True, True)),
    ],
)
def test_what_an_older_engine_or_another_panel_judged_is_judged_again(
    session: Session, revision: tables.Revision, version: int, panel: str, again: tuple[bool, bool]
) -> None:
    make_verdict(session, revision, engine_version=version, panel=panel)
    assert tuple(read_case(session, revision.id, ready) is not None for ready in (READY, None)) == again


def test_triage_of_other_files_or_by_another_model_does_not_count(session: Session, revision: tables.Revision) -> None:
    def known(model: str | None) -> str | None:
        found = known_triage(placed(session, revision.id), shipped_context(), model=model)
        return None if found is None else found.category

    def answered(category: str, **columns: object) -> None:
        answer = {**make_triage(session, revision, agent_hash=category).answer, "category": category}
        make_triage(session, revision, answer=answer, **columns)

    answered("other files", agent_hash="b" * 64, model=MODEL)
    assert (known(MODEL), known(None)) == (None, None)
    answered("older", agent_hash=TRIAGE, model="claude-haiku-4-5")
    assert (known(MODEL), known(None)) == (None, "older")
    answered("newest", agent_hash=TRIAGE, model="another")
    answered("mine", agent_hash=TRIAGE, model=MODEL)
    answered("after that", agent_hash=TRIAGE, model="a third")
    assert (known(MODEL), known("another"), known(None)) == ("mine", "newest", "after that")
