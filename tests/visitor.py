"""Somebody at a browser without JavaScript: reads pages, fills in forms as they stand, over real HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from tests.markup import Element, read

if TYPE_CHECKING:
    from collections.abc import Mapping

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True)
class Form:
    action: str
    fields: Mapping[str, str]  # as they stand in the page: hidden ones, defaults, what is chosen


class Visitor:
    def __init__(self, base_url: str) -> None:
        self._client = httpx2.Client(base_url=base_url, headers=BROWSER, follow_redirects=True, timeout=60)
        self.path = ""
        self.page = Element("", {})

    def close(self) -> None:
        self._client.close()

    def open(self, path: str) -> Element:
        """The page at the end of all redirects."""
        return self._arrived(self._client.get(path))

    def submit(self, action: str, **fields: str) -> Element:
        """The form with this action of the page that is open, its fields changed so; the page that follows."""
        form = self.form(action)
        names = {name.replace("__", "."): value for name, value in fields.items()}
        unknown = names.keys() - form.fields.keys()
        assert not unknown, f"the form {action} has no {', '.join(sorted(unknown))}: {', '.join(form.fields)}"
        return self._arrived(self._client.post(form.action, data={**form.fields, **names}))

    def form(self, action: str) -> Form:
        found = [one for one in self.page.all("form") if one.attributes.get("action", "") == action]
        assert found, f"{self.path} has no form for {action}: {self.actions()}"
        return Form(action, _fields(found[0]))

    def actions(self) -> list[str]:
        return [one.attributes.get("action", "") for one in self.page.all("form")]

    def links(self, start: str) -> list[str]:
        """Where the page's links that begin so lead to, each once."""
        found = (one.attributes.get("href", "") for one in self.page.all("a"))
        return list(dict.fromkeys(link for link in found if link.startswith(start)))

    @property
    def words(self) -> str:
        return self.page.words

    def _arrived(self, answer: httpx2.Response) -> Element:
        assert answer.status_code < 400, (
            f"{answer.request.method} {answer.url.path}: {answer.status_code} {answer.text}"
        )
        self.path = answer.url.path
        self.page = read(answer.text)
        return self.page


def _fields(form: Element) -> dict[str, str]:
    fields: dict[str, str] = {}
    for one in form.all("input"):
        kind = one.attributes.get("type", "text")
        ticked = "checked" in one.attributes or kind not in {"radio", "checkbox"}
        if "name" in one.attributes and kind != "submit" and (ticked or one.attributes["name"] not in fields):
            fields[one.attributes["name"]] = one.attributes.get("value", "") if ticked else ""
    fields |= {one.attributes["name"]: one.text.removeprefix("\n") for one in form.all("textarea")}
    for select in form.all("select"):
        options = select.all("option")
        chosen = [one for one in options if "selected" in one.attributes] or options[:1]
        fields[select.attributes["name"]] = chosen[0].attributes.get("value", "") if chosen else ""
    return fields
