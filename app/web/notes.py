"""What a person writes into a form beside a decision: read once, with what is wrong with it in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agents.prompt import visible
from app.errors import BadRequest

if TYPE_CHECKING:
    from starlette.datastructures import FormData

LONGEST = 2_000  # characters


class Note(NamedTuple):
    """`text` is what counts; `error` is empty where it can be used, and `given` is for the form that is shown again."""

    text: str
    error: str
    given: str


NOTHING = Note("", "", "")


def note(form: FormData, name: str = "note", *, missing: str) -> Note:
    """The field of that name. `missing` is what to say where nothing is written."""
    given = field(form, name)
    text = "\n".join(visible(line).rstrip() for line in given.splitlines()).strip()
    if not text:
        return Note("", missing, given)
    if len(text) > LONGEST:
        return Note(text, f"At most {LONGEST:,} characters, please: these are {len(text):,}.", given)
    return Note(text, "", given)


def field(form: FormData, name: str) -> str:
    """A field's text, empty where it is missing or a file. Raises BadRequest where Postgres could not keep it."""
    value = form.get(name)
    if not isinstance(value, str):
        return ""
    if "\0" in value:
        raise BadRequest("the form holds a character that is not text; nothing was changed")
    return value
