from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from app.errors import DataDirError, VaultError
from app.settings import Settings
from app.vault import KEY_FILE, Vault

if TYPE_CHECKING:
    from pathlib import Path

KEY = "k" * 43
RACE = """
import sys
from pathlib import Path
from app.settings import Settings
from app.vault import Vault
settings = Settings(_env_file=None, data_dir=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
print(Vault.load(settings).nonce("x"))
"""


def test_what_is_sealed_opens_again_and_does_not_show() -> None:
    vault = Vault(KEY)
    token = vault.seal(b"a ticket")
    assert b"ticket" not in token
    assert vault.open(token) == b"a ticket"
    assert Vault(KEY).open(token) == b"a ticket"


def test_another_key_opens_nothing_and_says_what_to_put_back() -> None:
    token = Vault("other" * 10).seal(b"a ticket")
    with pytest.raises(VaultError, match="Put back the TICKETQC_SECRET_KEY"):
        Vault(KEY).open(token)


@pytest.mark.parametrize("damage", [b"", b"x", b"\xff\x00", b"gAAAAA=="])
def test_a_damaged_seal_is_an_error_not_a_crash(damage: bytes) -> None:
    with pytest.raises(VaultError):
        Vault(KEY).open(damage)


def test_a_nonce_is_fixed_by_install_and_question() -> None:
    nonce = Vault(KEY).nonce("qc:1")
    assert nonce == Vault(KEY).nonce("qc:1")
    assert len(nonce) == 16
    assert int(nonce, 16)
    assert nonce != Vault(KEY).nonce("qc:2")
    assert nonce != Vault("other" * 10).nonce("qc:1")


def test_the_first_start_makes_a_private_key_and_keeps_it(settings: Settings) -> None:
    token = Vault.load(settings).seal(b"x")
    path = settings.data_dir / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in settings.data_dir.iterdir()] == [KEY_FILE]
    assert Vault.load(settings).open(token) == b"x"


def test_a_key_of_the_settings_writes_no_file(settings: Settings) -> None:
    given = settings.model_copy(update={"secret_key": SecretStr(KEY)})
    assert Vault.load(given).nonce("x") == Vault(KEY).nonce("x")
    assert not settings.data_dir.exists()


def test_a_short_key_is_refused_and_left_alone(settings: Settings) -> None:
    settings.data_dir.mkdir()
    path = settings.data_dir / KEY_FILE
    path.write_text("short\n")
    with pytest.raises(VaultError, match="damaged"):
        Vault.load(settings)
    assert path.read_text() == "short\n"
    with pytest.raises(VaultError, match="at least 32"):
        Vault("short")


def test_a_key_file_that_is_not_text(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / KEY_FILE).write_bytes(b"\xff" * 40)
    with pytest.raises(VaultError, match="it is not text"):
        Vault.load(settings)


def test_a_key_file_of_somebody_else(unprivileged: Path) -> None:
    path = unprivileged / KEY_FILE
    path.write_text(KEY)
    path.chmod(0)
    with pytest.raises(VaultError, match="Permission denied"):
        Vault.load(Settings(_env_file=None, data_dir=unprivileged))


def test_a_read_only_data_directory(unprivileged: Path) -> None:
    unprivileged.chmod(0o500)
    for folder in (unprivileged, unprivileged / "below"):
        with pytest.raises(DataDirError, match=r"Permission denied.*nothing was changed.*TICKETQC_DATA_DIR"):
            Vault.load(Settings(_env_file=None, data_dir=folder))


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("")
    with pytest.raises(DataDirError, match="is a file"):
        Vault.load(Settings(_env_file=None, data_dir=path))


def test_two_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE, str(tmp_path / "data")]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  ourselves
        for _ in range(3)
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.close()
    nonces = {_last_word(starter) for starter in starters}
    assert nonces == {Vault.load(Settings(_env_file=None, data_dir=tmp_path / "data")).nonce("x")}


def _last_word(starter: subprocess.Popen[str]) -> str:
    with starter:
        assert starter.stdout is not None
        return starter.stdout.read().strip()
