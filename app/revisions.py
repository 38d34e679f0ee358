"""A revision as its row keeps it, and back: the one place that knows the document's version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.ticket import Revision

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1


def to_document(revision: Revision) -> dict[str, Any]:
    """What `revisions.document` holds."""
    return {"version": VERSION, **revision.model_dump(mode="json", by_alias=True)}


def from_document(document: Mapping[str, Any]) -> Revision:
    """The revision that was stored; its hash is the same as it was."""
    return Revision.model_validate({"ticket": document["ticket"], "masked": document["masked"]})
