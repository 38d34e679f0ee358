"""Who signs in, and what people decide."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, identity, moment, one_of


class User(Base):
    """Somebody who signs in. Mutable: name, role, password, and whether the account is closed."""

    __tablename__ = "users"
    id: Mapped[int] = identity()
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]  # argon2id
    closed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()
    __table_args__ = (
        one_of("role", "viewer", "lead", "admin"),
        CheckConstraint("email = lower(email)", name="email"),
    )


class SignIn(Base):
    """A browser that is signed in, by the hash of its cookie. Mutable: when it was last seen; gone when signed out."""

    __tablename__ = "sign_ins"
    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = moment()
    seen_at: Mapped[datetime] = moment()
    __table_args__ = (Index(None, "user_id"),)


class Invitation(Base):
    """A link that works once: it makes an account, or gives one a new password. Mutable: when it was used."""

    __tablename__ = "invitations"
    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    email: Mapped[str]  # empty: whoever opens it says
    name: Mapped[str] = mapped_column(server_default="")  # as the inviter wrote it, for the form
    role: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))  # whose password it changes
    actor: Mapped[str]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()
    __table_args__ = (one_of("role", "viewer", "lead", "admin"),)


class FailedSignIn(Base):
    """A wrong password, by a hash of the account or of the address it came from, for the rate limit."""

    __tablename__ = "failed_sign_ins"
    id: Mapped[int] = identity()
    key: Mapped[bytes]
    at: Mapped[datetime] = moment()
    __table_args__ = (Index(None, "key", "at"),)


class AuditEvent(Base):
    """A decision or a setting: who, when, what, and what was before. Never changed, never deleted."""

    __tablename__ = "audit_events"
    id: Mapped[int] = identity()
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))  # null: a command or the machine
    actor: Mapped[str]  # the user's e-mail, or what the command or the machine is called
    action: Mapped[str]  # dotted: ticket.decided, user.role_changed, context.released
    subject: Mapped[str]  # ticket:12, user:3, context:<version>
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    note: Mapped[str] = mapped_column(server_default="")
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (Index(None, "subject", "id"), Index(None, "recorded_at"))


class Label(Base):
    """A person's verdict on a revision. The newest about a revision stands; the earlier ones stay."""

    __tablename__ = "labels"
    id: Mapped[int] = identity()
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    verdict_id: Mapped[int | None] = mapped_column(ForeignKey("verdicts.id"))  # the machine's, that it is about
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))  # whose words the person judged by
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str]  # confirm or overrule a pass or fail; decide what the machine left open or the person did not see
    outcome: Mapped[str]
    score: Mapped[Decimal | None]  # computed by the machine's own code from the findings as the person left them
    blind: Mapped[bool]  # given before the person had seen the machine's verdict
    reason: Mapped[str] = mapped_column(server_default="")  # of an overruling, from a short list
    note: Mapped[str] = mapped_column(server_default="")
    split: Mapped[str]  # by the requester, for good: what a proposal may be made from is not what it is tried on
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (
        one_of("kind", "confirm", "overrule", "decide"),
        one_of("outcome", "pass", "fail", "cannot_tell"),
        one_of("split", "dev", "gate", "sealed"),
        Index(None, "revision_id", text("id DESC")),
        Index(None, "recorded_at"),
    )


class LabelFinding(Base):
    """A person's answer to one criterion, by the criterion's words at that time."""

    __tablename__ = "label_findings"
    label_id: Mapped[int] = mapped_column(ForeignKey("labels.id"), primary_key=True)
    criterion: Mapped[str] = mapped_column(primary_key=True)
    text_hash: Mapped[str]
    result: Mapped[str]
    __table_args__ = (one_of("result", "met", "partly", "not_met", "not_applicable"),)


class BlindCheck(Base):
    """A finished ticket that a lead was given without its verdict. Mutable: the label it led to."""

    __tablename__ = "blind_checks"
    id: Mapped[int] = identity()
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    verdict_id: Mapped[int] = mapped_column(ForeignKey("verdicts.id"))
    label_id: Mapped[int | None] = mapped_column(ForeignKey("labels.id"))
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (UniqueConstraint("user_id", "revision_id"),)


class Viewing(Base):
    """Who has seen the machine's word on a revision, and since when: a decision after that is not blind."""

    __tablename__ = "viewings"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"), primary_key=True)
    first_at: Mapped[datetime] = moment()
