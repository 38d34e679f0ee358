"""The Postgres that comes with the package: one server a data directory, reached through a private socket only.

1. Under a file lock: does the server answer? Then attach. That its process exists proves nothing.
2. Otherwise make the cluster if there is none, start its server, wait until it answers, make our database.
3. Who started it stops it. Who finds one whose starter has died takes its place.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app import binaries, data_dir
from app.binaries import Account, Binaries
from app.cluster import NAME, Cluster
from app.errors import EmbeddedError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from app.settings import Settings

log = structlog.get_logger(__name__)

ROOT_PLACE = Path("/var/lib/ticketqc")


@dataclass
class Server:
    """A server that answers. `stop` ends it if it is ours, and may be called again."""

    url: str
    directory: Path
    _cluster: Cluster = field(repr=False)
    _owner: int | None = field(repr=False)  # the descriptor that holds the owner's lock
    _process: subprocess.Popen[bytes] | None = field(repr=False)

    @property
    def owned(self) -> bool:
        return self._owner is not None

    @property
    def ended(self) -> bool:
        """True where a server that this process started is no more."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        if self._owner is None:
            return
        with _locked(self.directory):
            self._cluster.stop()
            if self._process is not None:
                self._process.wait()
            os.close(self._owner)
            self._owner = None


def start(settings: Settings) -> Server:
    """A server that answers, started or found. Raises EmbeddedError or DataDirError, with what to do."""
    base, account = _place(settings)
    found = binaries.find(settings.pg_bin)
    with data_dir.writing(base):
        _prepare(base, account, home=settings.data_dir)
    with data_dir.writing(base), _locked(base), ExitStack() as undo:
        owner = _try_lock(base / "owner.lock")
        if owner is not None:
            undo.callback(os.close, owner)
        folder = binaries.readable(found, account=account, copies=base / "programs")
        cluster = Cluster(base, Binaries(folder, account))
        process, address = None, cluster.answering()
        if address is None:
            cluster.make()
            process, address = cluster.launch()
            undo.callback(cluster.stop)
            cluster.make_database(address)
        undo.pop_all()
    return Server(address.url(NAME), base, cluster, owner, process)


def running_url(settings: Settings) -> str | None:
    """The address of this data directory's server if one answers; nothing is started or made."""
    base, _ = _place(settings)
    if not os.access(base, os.X_OK):
        return None
    address = Cluster(base, Binaries(binaries.find(settings.pg_bin))).answering()
    return address.url(NAME) if address else None


def _place(settings: Settings) -> tuple[Path, Account | None]:
    """In the data directory; as root, where the server's account cannot get there, under /var/lib. Data stays put."""
    here = settings.data_dir / "postgres"
    if os.geteuid() != 0:
        return here, None
    elsewhere = ROOT_PLACE / hashlib.sha256(os.fsencode(settings.data_dir)).hexdigest()[:16]
    for base in (here, elsewhere):
        if (base / "data" / "PG_VERSION").exists():
            return base, binaries.account_for(base / "data")
    account = binaries.unprivileged()
    return (here if account.may_pass(here) else elsewhere), account


def _prepare(base: Path, account: Account | None, *, home: Path) -> None:
    """The base folder is there, and the account that runs the server can reach what is in it."""
    data_dir.ensure(home)
    data_dir.ensure(base)
    data = base / "data"
    if account is None:
        if data.exists() and (owner := data.stat().st_uid) != os.geteuid():
            name = binaries.account_name(owner)
            raise EmbeddedError(f"the database in {data} belongs to {name}; start ticketqc as {name} or as root")
    elif not account.may_pass(data):
        raise EmbeddedError(
            f"the account {account.name}, which runs the database, can no longer reach {data}; "
            "let it pass through every folder on the way (chmod o+x)"
        )
    elif base.parent != home:
        log.info("embedded.elsewhere", directory=str(base), why=f"the account {account.name} cannot reach {home}")


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """One start or stop at a time; the system lets go when a process ends, however it ends."""
    descriptor = _open_lock(base / "start.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open_lock(path: Path) -> int:
    """Belongs to the folder's owner, who may not be us (root). A planted link is not followed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode=0o600)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor
