"""What the terminal hears of a model elsewhere: that it cannot be used, once, and that it can again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.model_news import ModelNews
from app.settings import Settings
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send


class Pages:
    """Answers /readyz with what it is given."""

    body = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"] == "/readyz"
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


def state(word: str) -> bytes:
    return b'{"models": {"worker": {"model": "claude-x", "state": "%s"}}}' % word.encode()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.model_news.FIRST_LOOK", 0)
    monkeypatch.setattr("app.model_news.LOOK_EVERY", 0)


def test_what_cannot_be_used_is_told_once_and_so_is_its_return(tmp_path: Path) -> None:
    pages, lines = Pages(), list[str]()
    with serving(pages) as base:
        settings = Settings(_env_file=None, data_dir=tmp_path, port=int(base.rpartition(":")[2]))
        news = ModelNews(settings, say=lines.append)
        for body in (b"", b"no JSON", b"{}", state("checking"), state("ready"), state("failed")):
            assert lines == []
            pages.body = body
            news.look()
        why = f"why and what to do: {base}/operations, or ticketqc doctor"
        assert lines == [f"model:  claude-x cannot be used, so tickets wait; {why}"]
        for word in ("failed", "checking", "failed", "ready", "ready"):
            pages.body = state(word)
            news.look()
        assert lines[1:] == ["model:  claude-x is ready"]
    news.look()  # nobody answers any more
    assert len(lines) == 2


def test_it_is_not_asked_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(_self: ModelNews) -> dict[str, str]:
        asked.append("/readyz")
        return {}

    monkeypatch.setattr("app.model_news.LOOK_EVERY", 60)
    monkeypatch.setattr(ModelNews, "_ask", ask)
    news = ModelNews(Settings(_env_file=None, data_dir=tmp_path), say=print)
    for _ in range(3):
        news.look()
    assert len(asked) == 1
