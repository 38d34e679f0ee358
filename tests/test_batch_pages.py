"""Batches as people see them: on `/operations`, by `ticketqc batch`, and how `import --batch` begins one."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text
from typer.testing import CliRunner

from app.cli import root
from app.clock import now
from app.errors import Conflict, NotFound, TicketqcError
from app.intake.recording import NEXT_BATCH
from app.tables import AuditEvent, BatchTicket, Ticket
from tests.factories import make_batch, make_connection, make_model_state, make_run, make_ticket, office_ticket
from tests.markup import Element, read

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient


pytestmark = pytest.mark.usefixtures("command_line")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(root, arguments)
    if isinstance(result.exception, TicketqcError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def section(pages: TestClient) -> Element:
    answer = pages.get("/operations")
    assert answer.status_code == 200, answer.text
    return read(answer.text).one("section", **{"aria-labelledby": "batches-title"})


def waiting_jobs(session: Session) -> list[str]:
    session.rollback()
    return list(session.scalars(text("select task_name from procrastinate.procrastinate_jobs order by id")))


def test_operations_shows_each_batch_with_its_age_counts_and_cost(
    pages: TestClient, viewer_pages: TestClient, session: Session
) -> None:
    assert "ticketqc import FILE --batch" in section(pages).words
    ended = make_batch(
        session, state="ended", succeeded=60, errored=1, expired=1, created_at=now() - timedelta(hours=2)
    )
    make_run(session, batch_id=ended.id, cost_usd=Decimal("0.012"))
    lost = make_batch(session, state="lost", note="it was not sent: <b>HTTP 413</b>")
    unpriced = make_batch(session)
    make_run(session, batch_id=unpriced.id, cost_usd=None)
    session.add(BatchTicket(revision_id=make_ticket(session).revision_id, batch_id=unpriced.id))
    session.commit()
    rows = {row.all("td")[0].words: row.words for row in section(pages).one("tbody").all("tr")}
    assert list(rows) == [str(unpriced.id), str(lost.id), str(ended.id)], "the newest first"
    assert "ended 62 60 2 $0.012 2 h" in rows[str(ended.id)]
    assert "came to nothing It was not sent: <b>HTTP 413</b>." in rows[str(lost.id)]
    assert "under way 62 price unknown just now Cancel" in rows[str(unpriced.id)]
    assert "1 ticket is judged by batch and has no verdict yet" in section(pages).words
    assert len(section(pages).all("form")) == 1, "only what is under way can be cancelled"
    assert section(viewer_pages).all("form") == []


def test_a_lead_cancels_a_batch_and_a_viewer_does_not(
    pages: TestClient, viewer_pages: TestClient, session: Session
) -> None:
    batch = make_batch(session)
    session.commit()
    address = f"/operations/batches/{batch.id}/cancel"
    assert viewer_pages.post(address).status_code == 403
    assert waiting_jobs(session) == []
    assert pages.post(address, follow_redirects=False).status_code == 303
    assert waiting_jobs(session) == ["batch_collect"]
    assert "being cancelled" in section(pages).words
    assert pages.post(address, follow_redirects=False).status_code == 303
    (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "batch.cancelled"))
    assert event.user_id is not None
    session.refresh(batch)
    batch.state = "ended"
    session.commit()
    assert pages.post(address).status_code == 409
    assert pages.post("/operations/batches/999999/cancel").status_code == 404
    assert pages.post("/operations/batches/none/cancel").status_code == 404


def test_operations_says_when_and_why_batches_are_not_used(pages: TestClient, session: Session) -> None:
    make_model_state(session)
    batch = make_batch(session, state="ended", ended_at=now())
    for _ in range(50):
        make_run(
            session, batch_id=batch.id, cost_usd=Decimal("0.001"), cache_read_tokens=1000, cache_write_1h_tokens=3000
        )
    session.commit()
    said = section(pages).words
    assert "Batches are dearer than live calls: those of the last 7 days read 25% of their repeated text" in said
    assert "cost $0.0500, live calls would have cost $0.0148" in said


def test_the_command_lists_and_cancels(session: Session) -> None:
    assert "There is no batch yet" in run("batch", "list")
    batch = make_batch(session, requests=7)
    session.commit()
    assert "under way" in run("batch", "list")
    assert f"cancels batch {batch.id}" in run("batch", "cancel", str(batch.id))
    assert waiting_jobs(session) == ["batch_collect"]
    assert "being cancelled" in run("batch", "list")
    with pytest.raises(NotFound):
        run("batch", "cancel", "999999")
    session.refresh(batch)
    batch.state = "lost"
    session.commit()
    with pytest.raises(Conflict):
        run("batch", "cancel", str(batch.id))


def test_what_waits_already_can_be_given_to_batches(session: Session) -> None:
    other = make_connection(session, name="other")
    mine = make_ticket(session, review_state="waiting_model", review_note="waiting for the model")
    theirs = make_ticket(session, connection=other, review_state="waiting_model")
    done = make_ticket(session, review_state="done")
    session.commit()
    assert run("batch", "add", "--source", "other") == "1 tickets wait for the next batch.\n"
    assert run("batch", "add") == "1 tickets wait for the next batch.\n"
    assert run("batch", "add") == "0 tickets wait for the next batch.\n"
    held = set(session.scalars(select(BatchTicket.revision_id)))
    assert held == {mine.revision_id, theirs.revision_id}
    assert done.revision_id not in held
    session.refresh(mine)
    assert mine.review_note == NEXT_BATCH
    assert waiting_jobs(session) == ["batch_submit"]


def test_an_import_by_batch_gives_its_tickets_to_batches(session: Session, tmp_path: Path) -> None:
    lines = [office_ticket(external_id=f"INC-{number}").model_dump_json(by_alias=True) for number in range(3)]
    file = tmp_path / "history.jsonl"
    file.write_text("\n".join(json.dumps(json.loads(line)) for line in lines))
    assert "3 new" in run("import", str(file), "--batch")
    jobs = ["batch_submit", *["review"] * 3]  # which leave to the batch all that costs
    assert sorted(waiting_jobs(session)) == jobs
    assert len(session.scalars(select(BatchTicket)).all()) == 3
    assert {(one.review_state, one.review_note) for one in session.scalars(select(Ticket))} == {
        ("waiting_model", NEXT_BATCH)
    }
    run("import", str(file), "--batch")
    assert sorted(waiting_jobs(session)) == jobs
