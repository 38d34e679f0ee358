"""One root. `status` is the HTTP answer, the message is for people: what happened, what is safe, what to do."""

from __future__ import annotations


class TicketqcError(Exception):
    status = 500
    exit_code = 1  # of a command


class SettingsError(TicketqcError):
    """One line per problem."""

    exit_code = 2


class BadRequest(TicketqcError):  # noqa: N818  the name says it
    status = 400


class NotSignedIn(TicketqcError):  # noqa: N818  the name says it
    status = 401


class Forbidden(TicketqcError):  # noqa: N818  the name says it
    status = 403


class NotFound(TicketqcError):  # noqa: N818  the name says it
    status = 404


class Conflict(TicketqcError):  # noqa: N818  the name says it
    """Somebody else was first, or it is not as the asker thought; nothing was changed."""

    status = 409


class DecisionRefused(TicketqcError):  # noqa: N818  the name says it
    """A decision that says too little, too much, or something that is not in the list; nothing was written."""

    status = 422


class CannotStart(TicketqcError):  # noqa: N818  the name says it
    """Nothing was changed, and nothing is left running."""

    exit_code = 2


class NotPrepared(TicketqcError):  # noqa: N818  the name says it
    """The database or what has to be in it could not be made ready."""


class DataDirError(TicketqcError):
    """The data directory cannot be used as it is."""


class VaultError(TicketqcError):
    """The secret key is missing, damaged, or not the one that sealed this."""


class DatabaseUnavailable(TicketqcError):  # noqa: N818
    """Nothing was written; the same step may be tried again."""

    status = 503


class EmbeddedError(DatabaseUnavailable):
    """The Postgres that comes with the package could not be started or stopped."""


class DatabaseNewer(TicketqcError):  # noqa: N818
    status = 503


class DatabaseNotMigrated(TicketqcError):  # noqa: N818
    status = 503


class FieldMapError(TicketqcError):
    """One line per problem."""

    status = 422


class ConnectionRefused(TicketqcError):  # noqa: N818
    """A connection that cannot be made, changed or used as asked."""

    status = 422


class PersonRefused(TicketqcError):  # noqa: N818  the name says it
    """An account that cannot be made or changed as asked."""

    status = 422


class FileUnreadable(TicketqcError):  # noqa: N818
    """Nothing of the file was imported."""

    status = 422


class ImportStopped(TicketqcError):  # noqa: N818
    """Somebody pressed Ctrl-C; every batch so far is there."""

    exit_code = 130  # what a shell makes of Ctrl-C


class ImportBusy(TicketqcError):  # noqa: N818
    status = 409


class ModelError(TicketqcError):
    """The chosen model cannot be used; the message says what to set."""

    status = 503
