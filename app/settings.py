"""The one place that reads the environment. Values are checked here and passed down."""

from __future__ import annotations

import difflib
import os
import re
import zoneinfo
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import SettingsError

PREFIX = "TICKETQC_"
ENV_FILE = ".env"
REPOSITORY = Path(__file__).resolve().parent.parent


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(name) from None
    return name


def _http(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(address)
    return address.rstrip("/")


def _postgres(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError(scheme)
    return f"postgresql://{rest}"


def _smtp(address: SecretStr) -> SecretStr:
    """Whether it can be read; never what it holds, which may be a password."""
    parts = urlsplit(address.get_secret_value())
    known = parts.scheme in {"smtp", "smtps"} and parts.hostname and (parts.port is None or parts.port > 0)
    if not known or parts.path.strip("/") or parts.query or (parts.username is None) != (parts.password is None):
        raise ValueError(parts.scheme)
    return address


def _mail_address(address: str) -> str:
    if not _MAIL_ADDRESS.fullmatch(address):
        raise ValueError(address)
    return address


def _mail_addresses(listed: str) -> str:
    """One after the other, each once, however they were written."""
    given = [one.strip() for one in listed.split(",") if one.strip()]
    return ", ".join(dict.fromkeys(map(_mail_address, given)))


_MAIL_ADDRESS = re.compile(r"[^\s@,;<>\"()]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", re.ASCII)

Folder = Annotated[Path, AfterValidator(_absolute)]
HttpAddress = Annotated[str, AfterValidator(_http)]


class Settings(BaseSettings):
    """Each description is what `load_settings` says is accepted; values with `repr=False` are never printed."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",  # .env may hold other programs' names; ours are checked by _unknown
        frozen=True,
        populate_by_name=True,
        str_strip_whitespace=True,
    )

    database_url: Annotated[str, AfterValidator(_postgres)] | None = Field(
        default=None, repr=False, description="a PostgreSQL address such as postgresql://user:password@host/database"
    )
    data_dir: Folder = Field(default=Path(".ticketqc"), validate_default=True, description="a folder")
    secret_key: SecretStr | None = Field(
        default=None, min_length=32, repr=False, description="at least 32 characters (openssl rand -hex 32)"
    )
    base_url: HttpAddress | None = Field(default=None, description="an address such as https://qc.example.com")
    worker_model: str = Field(default="", description="a model id, local, or none")
    strong_model: str = Field(default="", description="a model id, local, or none")
    daily_budget_usd: Decimal | None = Field(
        default=None, ge=0, description="US dollars a day, such as 5 or 0.50; 0 pays for nothing"
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="an address to listen on, such as 127.0.0.1")
    port: int = Field(default=8000, ge=1, le=65535, description="a whole number from 1 to 65535")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="an IANA time zone such as Europe/Berlin"
    )
    pg_bin: Folder | None = Field(default=None, description="the folder that holds initdb and postgres")
    context_dir: Folder = Field(default=REPOSITORY / "context", description="a folder with the context files")
    local_model_path: Folder | None = Field(default=None, description="a GGUF file")
    retention_days: int = Field(default=30, ge=1, description="a whole number of days, 1 or more")
    smtp_url: Annotated[SecretStr, AfterValidator(_smtp)] | None = Field(
        default=None,
        repr=False,
        description="an address such as smtp://user:password@mail.example.com:587, or smtps:// (%40 stands for @)",
    )
    mail_from: Annotated[str, AfterValidator(_mail_address)] | None = Field(
        default=None, description="an e-mail address that reports come from"
    )
    mail_to: Annotated[str, AfterValidator(_mail_addresses)] = Field(
        default="", description="e-mail addresses with commas between them"
    )
    replay_tickets: int = Field(
        default=60, ge=3, le=1000, description="a whole number from 3 to 1000: how many tickets a proposal is tried on"
    )
    anthropic_api_key: SecretStr | None = Field(
        default=None, validation_alias="ANTHROPIC_API_KEY", repr=False, description="a key for the Messages API"
    )
    anthropic_base_url: HttpAddress | None = Field(
        default=None, validation_alias="ANTHROPIC_BASE_URL", description="an address such as https://llm.example.com"
    )

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who gets the weekly report by mail; nobody where mail is not set up."""
        return tuple(self.mail_to.split(", ")) if self.smtp_url and self.mail_to else ()


def load_settings() -> Settings:
    """The settings of the environment and `.env`. Raises SettingsError with one line per problem."""
    problems = _unknown()
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [_problem(str(item["loc"][0]), item.get("input")) for item in error.errors()]
    else:
        problems += _halfway(settings)
        if not problems:
            return settings
    raise SettingsError("\n".join(problems))


def _halfway(settings: Settings) -> list[str]:
    """Mail needs all three of its settings."""
    given = {name for name in ("smtp_url", "mail_from", "mail_to") if getattr(settings, name)}
    missing = sorted({"smtp_url", "mail_from", "mail_to"} - given) if given else []
    return [
        f"{variable(name)}: is missing, and mail needs it; give {Settings.model_fields[name].description}, "
        f"or take away {' and '.join(variable(one) for one in sorted(given))}"
        for name in missing
    ]


def variable(field: str) -> str:
    """The environment variable that sets a field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def _unknown() -> list[str]:
    known = [name for name in map(variable, Settings.model_fields) if name.startswith(PREFIX)]
    given = {name.upper() for name in (*os.environ, *_env_file())}  # noqa: TID251  this file reads the environment
    unknown = sorted(name for name in given - set(known) if name.startswith(PREFIX))
    problems = []
    for name in unknown:
        close = difflib.get_close_matches(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], n=1)
        problems.append(f"{name}: there is no such setting" + (f"; did you mean {PREFIX}{close[0]}?" if close else ""))
    return [*problems, f"known settings: {', '.join(sorted(known))}"] if problems else []


def _env_file() -> dict[str, str | None]:
    try:
        return dotenv_values(ENV_FILE, encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{Path(ENV_FILE).resolve()}: not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{Path(ENV_FILE).resolve()}: cannot be read ({error.strerror})") from None


def _problem(location: str, given: Any) -> str:  # noqa: ANN401  whatever the environment held
    fields = Settings.model_fields
    field = next(name for name in fields if location in {name, variable(name)})
    shown = f"{given!r} " if fields[field].repr else ""
    return f"{variable(field)}: {shown}is not accepted; give {fields[field].description}"
