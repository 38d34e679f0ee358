"""Which model plays each role, where it is, and whether it can answer now.

A key chooses Anthropic's API (or the server of ANTHROPIC_BASE_URL); without one the local demonstration model is taken;
`none` means that nothing is judged by a model.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from agents.gateway import CallFailed, Endpoint, Gateway, ModelFacts
from agents.judge import LOCAL_TOKEN_LIMIT, TOKEN_LIMIT
from app.asking import Asking, Pace, Purse
from app.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app import local_model
    from app.settings import Settings


Role = Literal["worker", "strong"]

ROLES: tuple[Role, ...] = get_args(Role)
DEFAULTS: Mapping[Role, str] = {"worker": "claude-haiku-5-5", "strong": "claude-sonnet-5-5"}
NONE, LOCAL = "none", "local"
CONCURRENCY = 16  # calls in flight per process
TICKETS_AT_ONCE = 64  # more than calls in flight, so that no slot stands idle between a ticket's two calls
LOCAL_CONCURRENCY = 1  # more would only evict each other's prefix
LOCAL_TIMEOUT_SECONDS = 900.0  # two busy cores slow a local model tenfold


@dataclass(frozen=True)
class Choice:
    """What the settings name for one role: `none`, `local`, or a model's id."""

    role: Role
    model: str

    @property
    def judged_by_model(self) -> bool:
        return self.model != NONE

    @property
    def local(self) -> bool:
        return self.model == LOCAL


def choose(settings: Settings, role: Role = "worker") -> Choice:
    """A named model; else the default where there is a key or a server; else the local one, or the worker's choice."""
    named = settings.worker_model if role == "worker" else settings.strong_model
    if named:
        return Choice(role, named)
    if settings.anthropic_api_key or (role == "worker" and settings.anthropic_base_url):
        return Choice(role, DEFAULTS[role])
    return Choice(role, LOCAL if role == "worker" else choose(settings).model)


def describe(settings: Settings) -> str:
    """One line for the terminal: which model judges."""
    choice = choose(settings)
    if not choice.judged_by_model:
        return "none: checks run, judged criteria are not scored (set ANTHROPIC_API_KEY, or start without MODEL=none)"
    if choice.local:
        return "the local demonstration model, no claim of quality (set ANTHROPIC_API_KEY for Claude)"
    return f"{choice.model} at {settings.anthropic_base_url or 'the Anthropic API'}"


def endpoint(settings: Settings, choice: Choice, *, local_url: str | None = None) -> Endpoint:
    """Where a chosen model is served. Raises CallFailed `no_key` where one is needed and there is none."""
    if choice.local:
        return Endpoint("local", local_url, mode="tool", timeout_seconds=LOCAL_TIMEOUT_SECONDS)
    if settings.anthropic_api_key:
        return Endpoint(settings.anthropic_api_key.get_secret_value(), settings.anthropic_base_url)
    if settings.anthropic_base_url:
        return Endpoint("none", settings.anthropic_base_url)
    raise CallFailed("no_key", "ANTHROPIC_API_KEY is not set")


@dataclass(frozen=True)
class Ready:
    """A model that answers now."""

    model: str
    asking: Asking
    demonstration: bool
    token_limit: int
    # Tickets in work at the same time; with a slow model the first verdict must not wait for the last ticket's triage.
    turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(TICKETS_AT_ONCE))


def open_model(
    settings: Settings,
    choice: Choice,
    *,
    limiter: Limiter,
    local: local_model.LocalState | None,
    purse: Purse | None = None,
) -> Ready:
    """Looks a chosen model up and opens it; `limiter` is the key's. Raises CallFailed where it cannot be used."""
    if choice.local:
        if local is None or local.url is None or local.model is None:
            raise CallFailed("connection", "the local model is not running")
        gateway = Gateway(endpoint(settings, choice, local_url=local.url))
        asking = Asking(gateway, pace=Pace(Limiter(maximum=LOCAL_CONCURRENCY)))
        turns = threading.Semaphore(LOCAL_CONCURRENCY)
        return Ready(local.model, asking, demonstration=True, token_limit=LOCAL_TOKEN_LIMIT, turns=turns)
    gateway = Gateway(endpoint(settings, choice))
    try:
        facts = gateway.look_up(choice.model)
    except CallFailed:
        gateway.close()
        raise
    asking = Asking(gateway, pace=Pace(limiter), purse=purse)
    return Ready(choice.model, asking, demonstration=False, token_limit=_token_limit(facts))


def _token_limit(facts: ModelFacts) -> int:
    """Half of a small model's window at the most, so that context files and answer fit beside the ticket."""
    return min(TOKEN_LIMIT, facts.max_input_tokens // 2) if facts.max_input_tokens else TOKEN_LIMIT


def explain(failure: CallFailed, choice: Choice) -> str:
    """What a failure means for the person who runs this, and what to do."""
    variable = f"TICKETQC_{choice.role.upper()}_MODEL"
    advice = {
        "no_key": f"{choice.model} needs an API key. Set ANTHROPIC_API_KEY, or choose local or none by {variable}.",
        "authentication": "the API key was not accepted. Set a valid ANTHROPIC_API_KEY and start again.",
        "billing": "the account cannot be billed. Mend billing with the vendor.",
        "permission": f"the API key may not use {choice.model}. Set another key, or another model by {variable}.",
        "unknown_model": f"the model {choice.model} is not known. Set {variable} to one that exists.",
    }
    return f"{advice.get(failure.code, 'the model cannot be reached.')} ({failure})"
