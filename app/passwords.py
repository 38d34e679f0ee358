"""Passwords: what is asked of a new one, and argon2id, with the settings of RFC 9106 for little memory."""

from __future__ import annotations

from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

SHORTEST = 12  # characters; length is what counts, so nothing is asked of their kinds
LONGEST = 256
AT_ONCE = 4  # each takes 64 MiB, and anybody may ask for one

_HASHER = PasswordHasher()
_ROOM = BoundedSemaphore(AT_ONCE)
# Of no password; made with the settings above. An unknown account takes as long to refuse as a known one.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$r1C9yVJfEROYBT50Q4v0dg$l9FfNA1RxLrGUJCKh+W2IFO6rwbfcDCg4qhP+ERV+GE"


def hashed(password: str) -> str:
    """What the database keeps."""
    with _ROOM:
        return _HASHER.hash(_bytes(password))


def fits(password: str, stored: str | None) -> bool:
    """True where this is the password. Without a stored one it never is, and that takes as long to say."""
    with _ROOM:
        try:
            _HASHER.verify(stored or NOBODY, _bytes(password[: LONGEST + 1]))
        except VerifyMismatchError:
            return False
    return stored is not None


def problem(password: str, *, again: str, email: str) -> str | None:
    """What is wrong with a new password, in words; None where it will do."""
    if password != again:
        return "The two are not the same. Type the password twice."
    if len(password) < SHORTEST:
        return f"At least {SHORTEST} characters; a few words that only you would put together are fine."
    if len(password) > LONGEST:
        return f"At most {LONGEST} characters."
    if password.strip().casefold() == email.casefold():
        return "Not the e-mail address itself: that is the first thing to be tried."
    return None


def _bytes(password: str) -> bytes:
    return password.encode(errors="replace")
