"""The forms in which people decide: read once, here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.errors import DecisionRefused
from app.weighing import OUTCOMES, Decision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import FormData

    from app.weighing import Outcome

FINDING = "finding."  # then the criterion's id
AS_FOUND = "findings"  # the outcome that the findings come to


def typed(form: FormData) -> Mapping[str, str]:
    """The form's texts, to be shown again where something is wrong with one of them."""
    return {name: value.replace("\0", "") for name, value in _given(form).items()}


def _given(form: FormData) -> Mapping[str, str]:
    return {name: value.replace("\r\n", "\n") for name, value in form.items() if isinstance(value, str)}


def of_verdict(form: FormData) -> Decision:
    """The decision that the ticket's page sends. Raises DecisionRefused where the form is not one of that page's."""
    given = _given(form)
    return Decision(
        verdict_id=_number(given.get("verdict")),
        outcome=_outcome(given.get("outcome", "missing"), unsaid=AS_FOUND),
        findings=_findings(given),
        reason=given.get("reason", ""),
        note=given.get("note", ""),
        standing_label_id=_number(given.get("standing")) if given.get("standing") != "" else None,
    )


def of_blind_check(form: FormData, *, verdict_id: int) -> Decision:
    """The answer to a blind check; what it is about is known from the check."""
    given = _given(form)
    outcome = _outcome(given.get("outcome", ""), unsaid="")
    return Decision(verdict_id, outcome, _findings(given), note=given.get("note", ""), blind=True)


def _number(given: str | None) -> int:
    if given is None or not re.fullmatch(r"\d{1,18}", given, re.ASCII):
        raise DecisionRefused(_NOT_OURS)
    return int(given)


def _outcome(given: str, *, unsaid: str) -> Outcome | None:
    for outcome in OUTCOMES:
        if given == outcome:
            return outcome
    if given != unsaid:
        raise DecisionRefused(_NOT_OURS)
    return None


def _findings(given: Mapping[str, str]) -> dict[str, str]:
    """The criteria that were answered; an empty answer leaves one as it was judged."""
    return {name.removeprefix(FINDING): result for name, result in given.items() if name.startswith(FINDING) and result}


_NOT_OURS = "this form is not whole, and nothing was saved. Load the ticket's page again, then decide"
