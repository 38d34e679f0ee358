"""Logs: one event a line on standard error, its name static and dotted, ids as fields, never a secret or a body."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

# Chatty below this, or telling of requests and jobs that we log ourselves.
QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "procrastinate", "apscheduler", "alembic", "anthropic",
         "httpx2", "httpcore2", "huggingface_hub", "asyncio")  # fmt: skip

SECRET = re.compile(
    r"(?:^|_)(?:authorization|secret|password|passwd|cookie|credentials?|token|api_?key|secret_?key|private_?key)(?:$|_)"
)
BODIES = frozenset({"body", "payload", "raw", "content", "document", "reply", "prompt"})
# Postgres repeats the row that broke a rule: the ticket's own words.
ROW = re.compile(r"^(?:DETAIL|CONTEXT): .*\n?", re.MULTILINE)
USERINFO = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]*@")


def configure(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """From here on, structlog and the standard library write to standard error: coloured on a terminal, else JSON."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(stream)],
    )
    _route(stream, formatter=formatter, level=level)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Nothing secret and no body leaves, however deep it was put."""
    for key, value in event.items():
        event[key] = _clean(key, value)
    return event


def _clean(key: str, value: object) -> object:
    name = key.lower().replace("-", "_")
    if SECRET.search(name):
        return "(redacted)"
    if name in BODIES:
        return "(not logged)"
    if isinstance(value, Mapping):
        return {inner: _clean(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", item) for item in value]
    if isinstance(value, str):
        return USERINFO.sub(r"\1:(redacted)@", ROW.sub("", value))
    return value


def _renderer(stream: TextIO) -> Processor:
    if stream.isatty():
        # The pretty formatter prints local variables of every frame: keys and tickets among them.
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def _route(stream: TextIO, *, formatter: logging.Formatter, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
