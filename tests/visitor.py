"""Somebody at a browser without JavaScript: reads pages, fills in forms as they stand, over real HTTP."""

from __future__ import annotations

import httpx2

from tests.markup import Element, read

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


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
        """The form with this action and these fields, filled in; the page that follows. `a__b` stands for `a.b`."""
        filled = {name.replace("__", "."): value for name, value in fields.items()}
        forms = [_fields(form) for form in self.page.all("form", method="post") if self._action(form) == action]
        fitting = [form for form in forms if filled.keys() <= form.keys()]
        assert fitting, f"{self.path} has no form for {action} with {', '.join(filled)}: {forms}"
        return self._arrived(self._client.post(action, data={**fitting[0], **filled}))

    def _action(self, form: Element) -> str:
        """A form that names no address posts to the page's own."""
        return form.attributes.get("action") or self.path

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
    """As they stand in the page: hidden ones, defaults, what is chosen."""
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
