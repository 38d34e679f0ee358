"""Servers that do not keep to the Messages API: what they say is a clear failure, and a reply with gaps is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from agents.api_errors import LONGEST_MESSAGE
from agents.gateway import CallFailed, Endpoint, Gateway
from agents.question import Question, Turn, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "house-1",
    "content": [{"type": "text", "text": '{"a":1}'}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 7, "output_tokens": 3},
}
QUESTION = Question("qc", "review", 0, "r", "a", "house", {"type": "object"}, ("rules",), (Turn("user", "Hi"),), 50)


@dataclass
class Stub:
    """Answers every request of a method alike: status, body, content type."""

    post: tuple[int, bytes, str] = (200, json.dumps(MESSAGE).encode(), "application/json")
    get: tuple[int, bytes, str] = (404, b"{}", "application/json")
    asked: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""

    def gateway(self) -> Gateway:
        return Gateway(Endpoint("key", self.address))


@pytest.fixture
def stub() -> Iterator[Stub]:
    answers = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*answers.get)

        def do_POST(self) -> None:
            answers.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(*answers.post)

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    answers.address = f"http://127.0.0.1:{server.server_port}"
    yield answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Please sign in</html>", "text/html"),
        (b'{"id":', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"null", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b'{"type":"message","content":"words"}', "application/json"),
    ],
)
def test_what_is_no_message_is_a_failed_attempt_that_may_be_tried_again(stub: Stub, body: bytes, kind: str) -> None:
    stub.post = (200, body, kind)
    with pytest.raises(CallFailed) as caught:
        stub.gateway().ask(QUESTION)
    assert (caught.value.code, caught.value.permanent, caught.value.possibly_billed) == ("server_error", False, True)


@pytest.mark.parametrize(
    ("changes", "usage"),
    [
        ({"usage": None}, Usage()),
        ({"usage": {}}, Usage()),
        ({"usage": {"input_tokens": "7", "output_tokens": 3}}, Usage(output=3)),
        ({"usage": {"input_tokens": 7, "cache_creation_input_tokens": None}}, Usage(input=7)),
        ({"model": None, "id": None}, Usage(input=7, output=3)),
        ({"model": "a\0b\ud800"}, Usage(input=7, output=3)),
    ],
)
def test_a_reply_with_gaps_is_kept_for_what_it_says(stub: Stub, changes: dict[str, Any], usage: Usage) -> None:
    stub.get = (200, b'{"id":"house","type":"model"}', "application/json")
    gateway = stub.gateway()
    stub.post = (
        200,
        json.dumps({**MESSAGE, "content": [{"type": "text", "text": '{"word":"amaryllis"}'}]}).encode(),
        "application/json",
    )
    gateway.look_up("house")
    stub.post = (200, json.dumps({**MESSAGE, **changes}).encode(), "application/json")
    reply = gateway.ask(QUESTION)
    assert (reply.text, reply.outcome, reply.usage) == ('{"a":1}', "answered", usage)
    assert not {"\0", "\ud800"} & set(reply.model)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"no"),
        (405, b"no"),
        (501, b"no"),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"id":"house","object":"model"}'),
    ],
)
@pytest.mark.parametrize(("answer", "mode"), [('{"word":"amaryllis"}', "format"), ("An apple.", "tool")])
def test_a_server_that_says_nothing_of_its_models_is_tried_out(
    stub: Stub, status: int, body: bytes, answer: str, mode: str
) -> None:
    """Silence about capabilities is no promise to honour output formats."""
    stub.get = (status, body, "application/json")
    stub.post = (
        200,
        json.dumps({**MESSAGE, "content": [{"type": "text", "text": answer}]}).encode(),
        "application/json",
    )
    gateway = stub.gateway()
    assert gateway.look_up("house").id == "house"
    assert gateway.mode == mode
    assert stub.asked[0]["output_config"]["format"]["type"] == "json_schema"


def test_a_page_in_place_of_an_error_is_told_short_and_without_controls(stub: Stub) -> None:
    stub.get = (200, b"{}", "application/json")
    stub.post = (500, b"\x1b[2J" + b"x" * 50_000, "text/html")
    with pytest.raises(CallFailed) as caught:
        stub.gateway().look_up("house")
    assert len(str(caught.value)) < LONGEST_MESSAGE + 20
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secret ", "sk-\0secret"])
def test_a_key_that_cannot_be_sent_is_a_bad_key_and_is_not_repeated(stub: Stub, key: str) -> None:
    gateway = Gateway(Endpoint(key, stub.address))
    with pytest.raises(CallFailed) as caught:
        gateway.look_up("house")
    assert caught.value.code == "authentication"
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(Endpoint(key))
