"""A real SMTP server on loopback, and the ways in which one fails its clients."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from pydantic import SecretStr

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from email.message import EmailMessage

    from app.settings import Settings

PASSWORD = "hunter2 of mail"
USER = "me@example.com"


@dataclass
class Postbox:
    """What it accepted. `refusals` are answers to a recipient, by address, one after the other."""

    port: int
    letters: list[EmailMessage] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    signed_in: list[str] = field(default_factory=list)
    hangs_up_after_data: bool = False

    @property
    def addresses(self) -> list[str]:
        return [str(letter["To"]) for letter in self.letters]

    def settings(self, settings: Settings, *, to: str = "lead@example.com", **changes: object) -> Settings:
        """Mail goes here."""
        url = SecretStr(f"smtp://127.0.0.1:{self.port}")
        mail = {"smtp_url": url, "mail_from": "qc@example.com", "mail_to": to}
        return settings.model_copy(update={**mail, **changes})

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del server, session, options
        if self.refusals.get(address):
            return self.refusals[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        del session
        assert isinstance(envelope.original_content, bytes)
        self.letters.append(message_from_bytes(envelope.original_content, policy=policy.default))
        if self.hangs_up_after_data:
            server.transport.abort()  # type: ignore[union-attr]  # there is one while it talks
        return "250 taken"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:  # noqa: ANN401
        del server, session, envelope, mechanism
        self.signed_in.append(data.login.decode())
        return AuthResult(success=data.password.decode() == PASSWORD, handled=False)


@contextmanager
def postbox(*, tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[Postbox]:  # noqa: ANN401  aiosmtpd's own
    """Answers while the block runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    box = Postbox(port)
    if options.get("auth_required"):
        options["authenticator"] = box.authenticate
    controller = Controller(box, hostname="127.0.0.1", port=port, tls_context=tls, **options)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
