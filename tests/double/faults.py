"""What goes wrong, when: a plan of rules, each of which picks calls and says what becomes of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from tests.double.answers import ANSWER_KINDS, AnswerKind
from tests.double.messages import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal[
    "rate_limit", "overloaded", "server_error", "invalid_key", "billing", "permission",  # an error instead of a reply
    "spend_limit", "on_hold",  # too, told apart by the error's code alone
    "too_long", "too_large",  # too, about this question alone: its tokens, its bytes
    "hang", "cut_before", "cut_middle",  # no reply, or half of one
    "refuse", "truncate", "empty", "slow",  # a reply that is no answer, or a late one
    "all_met", "three_not_met", "false_quote", "invalid_json", "wrong_schema",  # another answer
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)

ERRORS: Mapping[str, tuple[int, str, str]] = {
    "rate_limit": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "server_error": (500, "api_error", "Internal server error"),
    "invalid_key": (401, "authentication_error", "invalid bearer token"),
    "billing": (402, "billing_error", "Your credit balance is too low to access the API."),
    "permission": (403, "permission_error", "Your API key does not have permission to use this model."),
    "spend_limit": (429, "rate_limit_error", "You have reached your monthly usage limit."),
    "too_long": (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size"),
    "on_hold": (400, "invalid_request_error", "This organization has been disabled."),
}
ERROR_CODES: Mapping[str, str] = {"spend_limit": "enforced_spend_limit_reached", "on_hold": "organization_on_hold"}


@dataclass(frozen=True)
class Fault:
    """One rule. It fires on calls that fit all of `at` (numbers, from 0, in order of arrival), `match` (in what the
    user turns say), `agent` (qc, triage, other, batch), `every` (each nth call) and `share` (of the calls,
    drawn with `seed`), and at most `times` times."""

    kind: Kind
    at: tuple[int, ...] | None = None
    match: str = ""
    agent: str = ""
    every: int = 1
    share: float = 1.0
    seed: int = 0
    times: int | None = None
    retry_after: float | None = None  # rate_limit, overloaded
    seconds: float = 0.0  # slow: added to the latency
    category: str = "general_harms"  # refuse

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Fault:
        """Raises ValueError naming what is wrong, because a fault that silently never fires proves nothing."""
        unknown = raw.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise ValueError(f"unknown in a fault: {', '.join(sorted(unknown))}")
        if raw.get("kind") not in KINDS:
            raise ValueError(f"a fault's kind is one of {', '.join(KINDS)}, not {raw.get('kind')!r}")
        known: dict[str, Any] = dict(raw)
        if known.get("at") is not None:
            known["at"] = tuple(known["at"])
        return cls(**known)

    def fits(self, index: int, text: str, agent: str) -> bool:
        return (
            (self.at is None or index in self.at)
            and self.match in text
            and self.agent in {"", agent}
            and (index + 1) % self.every == 0
            and drawn(self.seed, index) < self.share
        )

    @property
    def answer(self) -> AnswerKind | None:
        """The kind of answer that this fault asks for, if it is one."""
        return next((kind for kind in ANSWER_KINDS if kind == self.kind), None)

    @property
    def error(self) -> ApiError | None:
        """The error answer that this fault stands for, if it is one."""
        if self.kind not in ERRORS:
            return None
        headers = {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}
        return ApiError(*ERRORS[self.kind], headers, code=ERROR_CODES.get(self.kind, ""))


class FaultPlan:
    """The first rule that fits a call decides it."""

    def __init__(self, rules: Sequence[Fault] = ()) -> None:
        self._rules = [(rule, [rule.times]) for rule in rules]

    def pick(self, index: int, text: str, agent: str) -> Fault | None:
        for rule, left in self._rules:
            if left[0] != 0 and rule.fits(index, text, agent):
                if left[0] is not None:
                    left[0] -= 1
                return rule
        return None


def drawn(seed: int, index: int | str) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the call's number or name."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:4]) / 2**32
