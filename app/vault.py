"""Seals what must not lie in the database in plain sight. One secret key per installation; lost key, lost seals."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app import data_dir
from app.errors import VaultError

if TYPE_CHECKING:
    from pathlib import Path

    from app.settings import Settings

KEY_FILE = "secret.key"
SHORTEST_KEY = 32  # characters; our own have 43, 256 bits


class Vault:
    def __init__(self, key: str) -> None:
        if len(key) < SHORTEST_KEY:
            raise VaultError(f"the secret key has {len(key)} characters; it needs at least {SHORTEST_KEY}")
        self._fernet = Fernet(base64.urlsafe_b64encode(_derive(key, purpose=b"ticketqc sealing 1")))
        self._nonces = _derive(key, purpose=b"ticketqc nonces 1")

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """With the key of the settings, else of the data directory, where the first to come makes one."""
        if settings.secret_key is not None:
            return cls(settings.secret_key.get_secret_value())
        return cls(_key_of(data_dir.ensure(settings.data_dir) / KEY_FILE))

    def seal(self, data: bytes) -> bytes:
        return self._fernet.encrypt(data)

    def open(self, token: bytes) -> bytes:
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise VaultError(
                "this was sealed with another secret key, or is damaged; nothing was lost. "
                f"Put back the TICKETQC_SECRET_KEY, or the {KEY_FILE} of the data directory, that was in use then."
            ) from None

    def nonce(self, reply_key: str) -> str:
        """The fence's name for one question: the same on every retry, not to be guessed by who writes tickets."""
        return hmac.new(self._nonces, reply_key.encode(), hashlib.sha256).hexdigest()[:16]


def _derive(key: str, *, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key.encode())


def _key_of(path: Path) -> str:
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise VaultError(
            f"cannot read the secret key {path} ({reason}); it must be readable for this account"
        ) from None
    if len(key) < SHORTEST_KEY:
        raise VaultError(
            f"the secret key {path} is damaged ({len(key)} characters of at least {SHORTEST_KEY}); put back its copy. "
            "If none is left, delete the file: a new key is made, and what the old one sealed stays unreadable."
        )
    return key


def _make_key(path: Path) -> None:
    """The file appears whole or not at all, and never replaces one: of two starters the first one's key stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(secrets.token_urlsafe(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        _sync(path.parent)
    except OSError as error:
        raise data_dir.unusable(path, error) from None
    finally:
        draft.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _sync(folder: Path) -> None:
    """The new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
