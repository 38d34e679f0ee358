"""Which room does which task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import (
    batch_results,
    batch_rounds,
    calling,
    mail,
    patterns,
    replaying,
    reports,
    rescoring,
    retention,
    reviewing,
    shadow,
)
from app.intake import reading
from app.jobs import Handler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.deps import Deps


def _resume(deps: Deps) -> None:
    """Everything that waits for a model is taken up again."""
    reviewing.resume(deps)
    replaying.resume(deps)
    calling.resume(deps)
    rescoring.resume(deps)


HANDLERS: Mapping[str, Handler] = {
    "intake": Handler(reading.read_delivery, reading.give_up),
    "triage": Handler(reviewing.triage, reviewing.give_up),
    "review": Handler(reviewing.review, reviewing.give_up),
    "resume": Handler(_resume),
    "retention": Handler(retention.run),
    "patterns": Handler(patterns.run),
    "report": Handler(reports.make),
    "report_again": Handler(reports.make_again),
    "mail": Handler(mail.send_report),
    "propose": Handler(calling.draft, calling.give_up),
    "replay": Handler(replaying.replay, replaying.give_up),
    "rescore": Handler(rescoring.run, rescoring.give_up),
    "shadow": Handler(shadow.shadow),
    "batch_submit": Handler(batch_rounds.submit),
    "batch_collect": Handler(batch_results.collect),
}
