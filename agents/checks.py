"""Criteria that code answers: free, always the same, each with a reason that a technician can act on.

One gap is counted once. Where nothing at all was written at closing, `no_closing_note` is not met and
`resolution_placeholder` does not apply; where a resolution was written and says nothing, it is the other way round: the
placeholder counts as a note. An unfinished ticket is not judged: every check that needs an end does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from agents.phrases import Found, acknowledges, left_over_template, says_nothing, wants_answer
from agents.verdict import Evidence, Finding, Span

if TYPE_CHECKING:
    from agents.context import Rubric
    from agents.ticket import Entry, Line, Revision

CLOSING_WINDOW = timedelta(hours=48)
# An agent who had the last word may leave the ticket to close by itself; systems wait up to two weeks for an answer.
LONGEST_WAIT = timedelta(days=14)
# A note that is sent with the closing is often stamped a little later than the closing itself.
AFTER_CLOSING = timedelta(minutes=10)
LONGEST_QUOTE = 160  # characters of a line that a finding repeats
MOST_SHOWN = 20  # secrets cited by one finding
_DESK = frozenset({"agent", "other"})  # whose texts are not the requester's


@dataclass(frozen=True)
class Case:
    """A revision with what its source supplies, read once for all checks."""

    revision: Revision
    supplied: frozenset[str]

    @cached_property
    def thread(self) -> tuple[tuple[int, Entry], ...]:
        """Entries up to the closing with their index, in order of time where every time is known."""
        ticket = self.revision.ticket
        end = ticket.finished_at if ticket.finished else None
        entries = [pair for pair in enumerate(ticket.entries) if not _after(pair[1], end)]
        timed = [(entry.at, index, entry) for index, entry in entries if entry.at is not None]
        if len(timed) < len(entries):
            return tuple(entries)
        return tuple((index, entry) for _, index, entry in sorted(timed, key=lambda one: one[:2]))

    @cached_property
    def resolution_texts(self) -> tuple[str, ...]:
        """What stands as resolution: the field's note and entries of that visibility, blank ones left out."""
        ticket = self.revision.ticket
        notes = [ticket.resolution.note] if ticket.resolution else []
        notes += [entry.body for entry in ticket.entries if entry.visibility == "resolution"]
        return tuple(note for note in notes if note.strip())

    @cached_property
    def agent_entries(self) -> tuple[Entry, ...]:
        return tuple(entry for _, entry in self.thread if entry.author_role == "agent")

    def lines(self, *parts: str) -> list[Line]:
        return [line for line in self.revision.lines if line.part in parts]


def _after(entry: Entry, end: datetime | None) -> bool:
    """Written when the ticket was already closed; an agent's note may be stamped a little late."""
    if end is None or entry.at is None:
        return False
    return entry.at > (end if entry.author_role == "requester" else end + AFTER_CLOSING)


Check = Callable[[Case], Finding]


def run_checks(revision: Revision, *, rubric: Rubric, supplied: frozenset[str]) -> tuple[Finding, ...]:
    """One finding for each checked criterion, in the rubric's order."""
    case = Case(revision, supplied)
    return tuple(CHECKS[criterion.id](case) for criterion in rubric.checked)


# --- findings --------------------------------------------------------------------------------------------------------


def _met(check: str, reason: str) -> Finding:
    return Finding(check, "checked", "met", reason)


def _not_applicable(check: str, reason: str) -> Finding:
    return Finding(check, "checked", "not_applicable", reason)


def _absent(check: str, reason: str) -> Finding:
    return Finding(check, "checked", "not_met", reason, absent=True, evidence_status="absent")


def _shown(check: str, reason: str, evidence: Iterable[Evidence]) -> Finding:
    """Not met, and the ticket shows it; where it shows it in no citable line, the reason stands alone."""
    cited = tuple(evidence)
    return Finding(check, "checked", "not_met", reason, evidence=cited, evidence_status="verified" if cited else None)


def _quote(line: Line, start: int = 0, end: int | None = None) -> Evidence:
    end = min(len(line.text) if end is None else end, start + LONGEST_QUOTE)
    return Evidence(line.number, line.text[start:end], (Span(line.number, start, end),))


def _at(lines: Sequence[Line], found: Found) -> Evidence:
    return _quote(lines[found.line], found.start, found.end)


NOT_FINISHED = "the ticket is not finished"


# --- the checks ------------------------------------------------------------------------------------------------------


def no_agent_entry(case: Case) -> Finding:
    check = "no_agent_entry"
    if not case.revision.ticket.finished:
        return _not_applicable(check, NOT_FINISHED)
    if case.agent_entries:
        return _met(check, f"Entries by an agent: {len(case.agent_entries)}.")
    if any(not says_nothing(text) for text in case.resolution_texts):
        return _met(check, "The resolution says what was done.")
    late = any(entry.author_role == "agent" for entry in case.revision.ticket.entries)
    after = "; what was written came after it was closed" if late else ""
    return _absent(check, f"No agent wrote anything between opening and closing{after}.")


def resolution_placeholder(case: Case) -> Finding:
    check = "resolution_placeholder"
    if not case.revision.ticket.finished:
        return _not_applicable(check, NOT_FINISHED)
    if "resolution" not in case.supplied:
        return _not_applicable(check, "The source never supplies a resolution.")
    if any(not says_nothing(text) for text in case.resolution_texts):
        return _met(check, "The resolution holds words of its own.")
    if case.resolution_texts:
        lines = [line for line in _resolution_lines(case) if not line.text.startswith("code: ")]
        return _shown(check, "The resolution only says that it is over, not how.", map(_quote, lines[:1]))
    return _no_resolution(case, check)


def _no_resolution(case: Case, check: str) -> Finding:
    resolution = case.revision.ticket.resolution
    if not _closing_note(case):
        return _not_applicable(check, "Nothing was written at closing; that is counted under the closing note.")
    if resolution and resolution.code:
        return _met(check, "The resolution is a code, and an agent's note says how it ended.")
    return _absent(check, "The resolution is empty.")


def _resolution_lines(case: Case) -> list[Line]:
    entries = enumerate(case.revision.ticket.entries)
    parts = [f"entry:{index}" for index, entry in entries if entry.visibility == "resolution"]
    return case.lines("resolution", *parts)


def requester_unanswered(case: Case) -> Finding:
    check = "requester_unanswered"
    if not case.revision.ticket.finished:
        return _not_applicable(check, NOT_FINISHED)
    written = [(index, entry) for index, entry in case.thread if entry.author_role == "requester"]
    if not written:
        return _not_applicable(check, "The requester wrote nothing after opening.")
    index, last = written[-1]
    after = [entry for _, entry in case.thread[case.thread.index((index, last)) + 1 :]]
    if any(_answers(entry) for entry in after) or any(not says_nothing(text) for text in case.resolution_texts):
        return _met(check, "An agent wrote after the requester's last message.")
    lines = case.lines(f"entry:{index}")
    wanted = wants_answer([line.text for line in lines])
    if wanted is None:
        return _met(check, "The requester's last message asks for nothing.")
    return _shown(
        check, "The ticket was closed while this message of the requester was unanswered.", [_at(lines, wanted)]
    )


def _answers(entry: Entry) -> bool:
    """An empty phrase is no answer, nor is bare work time; an entry with neither had an attachment or lost its text."""
    if entry.author_role not in _DESK:
        return False
    return not says_nothing(entry.body) if entry.body.strip() else entry.minutes is None


def no_closing_note(case: Case) -> Finding:
    check = "no_closing_note"
    if not case.revision.ticket.finished:
        return _not_applicable(check, NOT_FINISHED)
    if case.resolution_texts:
        return _met(check, "A resolution was written.")
    if _closing_note(case):
        return _met(check, "An agent wrote at the end.")
    return _absent(check, "Nothing was written at closing that says how the ticket ended.")


def _closing_note(case: Case) -> bool:
    """An agent's words shortly before closing, or the last word not too long before it; the order where times lack."""
    end = case.revision.ticket.finished_at
    for position, (_, entry) in enumerate(case.thread):
        if entry.author_role != "agent" or not entry.body.strip():
            continue
        last_word = _last_word(case, position)
        if end is None or entry.at is None:
            if last_word:
                return True
        elif end - entry.at <= (LONGEST_WAIT if last_word else CLOSING_WINDOW):
            return True
    return False


def _last_word(case: Case, position: int) -> bool:
    """After this entry the requester at most said thanks."""
    later = [index for index, entry in case.thread[position + 1 :] if entry.author_role == "requester"]
    return all(acknowledges([line.text for line in case.lines(f"entry:{index}")]) for index in later)


def reopened(case: Case) -> Finding:
    check = "reopened"
    if "events" not in case.supplied:
        return _not_applicable(check, "The source never supplies changes of status.")
    again = [event for event in case.revision.ticket.crossings if event.was_finished]
    if not again:
        return _met(check, "The ticket was not opened again.")
    first = again[0].at
    when = f" on {first:%Y-%m-%d at %H:%M} UTC" if first else ""
    times = f", {len(again)} times in all" if len(again) > 1 else ""
    since = [index for index, entry in case.thread if first and entry.at and entry.at >= first]
    lines = case.lines(f"entry:{since[0]}") if since else []
    return _shown(
        check, f"The ticket was opened again{when} after it had been finished{times}.", map(_quote, lines[:1])
    )


def billable_without_notes(case: Case) -> Finding:
    check = "billable_without_notes"
    if "billable" not in case.supplied:
        return _not_applicable(check, "The source never says what is billable.")
    entries = [(index, entry) for index, entry in case.thread if entry.billable and entry.minutes != 0]
    if not entries:
        return _not_applicable(check, "No billable time on this ticket.")
    silent = [(index, entry) for index, entry in entries if says_nothing(entry.body)]
    if not silent:
        return _met(check, "Every billable time entry says what was done.")
    index, entry = silent[0]
    time = f"{entry.minutes:g} billable minutes" if entry.minutes else "Billable time"
    reason = f"{time} in entry {index + 1} without a word about the work" + (
        f", and {len(silent) - 1} more such entries." if len(silent) > 1 else "."
    )
    lines = case.lines(f"entry:{index}")
    return _shown(check, reason, map(_quote, lines[:1])) if lines else _absent(check, reason)


def work_time_missing(case: Case) -> Finding:
    check = "work_time_missing"
    if "minutes" not in case.supplied:
        return _not_applicable(check, "The source never supplies work time.")
    if not case.agent_entries:
        return _not_applicable(check, "No agent worked on this ticket.")
    minutes = sum(entry.minutes or 0 for entry in case.revision.ticket.entries)
    if minutes > 0:
        return _met(check, f"{minutes:g} minutes of work are recorded.")
    return _absent(check, "An agent worked on this ticket and no work time is recorded.")


def classification_empty(case: Case) -> Finding:
    check = "classification_empty"
    wanted = [name for name in ("category", "priority") if name in case.supplied]
    if not wanted:
        return _not_applicable(check, "The source supplies neither category nor priority.")
    empty = [name for name in wanted if _unset(getattr(case.revision.ticket, name))]
    if not empty:
        return _met(check, f"Filled: {' and '.join(wanted)}.")
    lines = [line for line in case.lines("field") if line.text.startswith(tuple(f"{name}: " for name in empty))]
    return _shown(check, f"Not filled: {' and '.join(empty)}.", map(_quote, lines))


def _unset(value: str) -> bool:
    return value.strip(" -.?()").casefold() in {
        "",
        "none",
        "n/a",
        "na",
        "not set",
        "unset",
        "undefined",
        "null",
        "empty",
    }


_KINDS = {"api_key": "API key", "card_number": "card number", "card_code": "card security code", "pin": "PIN"}


def secrets_in_ticket(case: Case) -> Finding:
    check = "secrets_in_ticket"
    masked = case.revision.masked
    if not masked:
        return _met(check, "No password, key or card number was found.")
    kinds = dict.fromkeys(_KINDS.get(secret.kind, secret.kind.replace("_", " ")) for secret in masked)
    lines = {line.number: line for line in case.revision.lines}
    evidence = [_quote(lines[secret.line], secret.start, secret.end) for secret in masked[:MOST_SHOWN]]
    more = f" ({len(masked)} places, the first {MOST_SHOWN} shown)" if len(masked) > MOST_SHOWN else ""
    reason = f"In the ticket's text: {', '.join(kinds)}{more}. Masked here; remove it at the source and change it."
    return _shown(check, reason, evidence)


def template_text(case: Case) -> Finding:
    check = "template_text"
    parts = [f"entry:{index}" for index, entry in case.thread if entry.author_role in _DESK and entry.body.strip()]
    if case.revision.ticket.resolution:
        parts.append("resolution")
    texts = [lines for part in parts if (lines := case.lines(part))]
    if not texts:
        return _not_applicable(check, "The ticket has no text by an agent.")
    for lines in texts:
        if found := left_over_template([line.text for line in lines]):
            return _shown(check, "A template was left unfilled here.", [_at(lines, found)])
    return _met(check, "No template text is left.")


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        no_agent_entry,
        resolution_placeholder,
        requester_unanswered,
        no_closing_note,
        reopened,
        billable_without_notes,
        work_time_missing,
        classification_empty,
        secrets_in_ticket,
        template_text,
    )
}
