"""Every table. Constraints and indexes carry the rules; rows are appended, never edited, except where said."""

from __future__ import annotations

from app.tables.base import Base, bound, table_of
from app.tables.batches import Batch, BatchRequest, BatchTicket
from app.tables.improving import Draft, Eval, Mail, Pattern, PatternEvent, Proposal, Replay, Report
from app.tables.judging import ContextVersion, Escalation, Finding, Observation, Release, Reuse, Run, Triage, Verdict
from app.tables.machinery import Breaker, ModelState, Tick
from app.tables.money import BudgetStop, Reservation, Spending
from app.tables.people import (
    AuditEvent,
    BlindCheck,
    FailedSignIn,
    Invitation,
    Label,
    LabelFinding,
    SignIn,
    User,
    Viewing,
)
from app.tables.rescores import Rescore, RescoreResult
from app.tables.tickets import SEARCHED, Connection, Delivery, Import, Revision, Ticket

__all__ = [
    "SEARCHED", "AuditEvent", "Base", "Batch", "BatchRequest", "BatchTicket", "BlindCheck", "Breaker", "BudgetStop",
    "Connection", "ContextVersion", "Delivery", "Draft", "Escalation", "Eval", "FailedSignIn", "Finding", "Import",
    "Invitation", "Label", "LabelFinding", "Mail", "ModelState", "Observation", "Pattern", "PatternEvent",
    "Proposal", "Release", "Replay", "Report", "Rescore", "RescoreResult", "Reservation", "Reuse", "Revision",
    "Run", "SignIn", "Spending", "Tick", "Ticket", "Triage", "User", "Verdict", "Viewing", "bound", "table_of",
]  # fmt: skip
