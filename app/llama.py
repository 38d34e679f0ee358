"""llama.cpp's HTTP server inside this process. The only import of xllamacpp: it takes the model's memory with it."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from app.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPLATE = Path(__file__).with_name("chatml.jinja")
CHATML, HEADER = b"<|im_start|>", 32 << 20  # bytes at the file's begin that hold vocabulary and template
SLOTS = 2  # one for each agent, whose prefix stays there
SLOT_TOKENS = 16_384  # prefix and form 6,000, ticket 8,000, answer 1,500
# Both agents' prompts differ from their first line on (see the template): any real likeness is the agent's own prefix.
SLOT_LIKENESS = 0.05
ERRORS_ONLY = 1  # on the log: at any other level a line could one day carry a ticket's text
OVERHEAD = 600_000_000  # bytes of buffers and of Python beside weights and cache
BYTES_PER_TOKEN = 28_672  # of the cache, for the demonstration model
PROBE_SECONDS = 300.0
PROBE = {
    "type": "object",
    "properties": {"result": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["result"],
    "additionalProperties": False,
}
WITHOUT = "Set ANTHROPIC_API_KEY to judge with Claude, or start with MODEL=none."


class LlamaError(ModelError):
    """The model cannot be loaded or does not answer; the message says how to go on."""


class Running(NamedTuple):
    """A server that answers. It ends when `server` is let go, or with the process."""

    url: str
    server: object


def load(weights: Path, model: str) -> Running:
    """The model answers under the name `model`, on a free port of 127.0.0.1. Raises LlamaError."""
    check_memory(weights)
    import xllamacpp  # noqa: PLC0415  only in the process that serves the model

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {model}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.use_jinja = True
    if speaks_chatml(weights):
        params.chat_template = TEMPLATE.read_text(encoding="utf-8")
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * SLOT_TOKENS
    params.fit_params = False  # it would load the file's head twice and may shrink what we ask for
    params.slot_prompt_similarity, params.cache_ram_mib = SLOT_LIKENESS, 0
    params.cpuparams_batch.n_threads = cores()
    # A token waits for the slowest thread: one that shares its core with a database costs more than it gives. Measured
    # on 2 cores: 28 against 20 tokens a second on an idle machine, 1 to 4 against 6 on a busy one.
    params.cpuparams.n_threads = max(1, cores() - 1)
    params.sampling.temp = 0.0
    params.verbosity = ERRORS_ONLY
    params.ui = params.endpoint_slots = params.endpoint_props = False  # the slots page shows what is in them
    params.cors_origins, params.cors_origins_explicit = "http://127.0.0.1", True  # no web page may ask
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise LlamaError(
            f"llama.cpp cannot load {weights}: it is damaged or of a kind that it does not know; server.log in the "
            f"data directory's local-model folder says more. {WITHOUT}"
        ) from error
    return Running(server.listening_address, server)


def speaks_chatml(weights: Path) -> bool:
    """True where our template suits the model; any other is asked through the template of its own."""
    with weights.open("rb") as file:
        return CHATML in file.read(HEADER)


def probe(url: str, model: str) -> None:
    """The server has answered one small question in the form in which all are asked. Raises LlamaError."""
    body = {
        "model": model,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Is the sky blue?"}],
        "tools": [{"name": "answer", "description": "Give the answer.", "input_schema": PROBE}],
        "tool_choice": {"type": "tool", "name": "answer"},
    }
    where = urlsplit(url)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=PROBE_SECONDS)
    try:
        connection.request("POST", "/v1/messages", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LlamaError(f"the local model does not answer ({error}). {WITHOUT}") from error
    finally:
        connection.close()
    if response.status != http.client.OK or not answer.get("usage"):
        raise LlamaError(f"the local model does not answer (HTTP {response.status}). {WITHOUT}")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_memory(weights: Path, free: Callable[[], int | None] | None = None) -> None:
    """There is room for the model. Raises LlamaError before the machine begins to swap or to kill."""
    available = (free or free_memory)()
    needed = weights.stat().st_size + SLOTS * SLOT_TOKENS * BYTES_PER_TOKEN + OVERHEAD
    if available is not None and available < needed:
        raise LlamaError(
            f"the local model needs about {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free. {WITHOUT}"
        )


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that a process may still take here, by the kernel and the container; None where neither says."""
    return min((value for value in (_machine(root), _container(root)) if value is not None), default=None)


def _machine(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return int(kilobytes) * 1024 if kilobytes else None


def _container(root: Path) -> int | None:
    try:
        most = (root / "sys/fs/cgroup/memory.max").read_text().strip()
        taken = int((root / "sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return None
    return int(most) - taken if most.isdigit() else None
