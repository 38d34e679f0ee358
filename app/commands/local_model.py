"""The process of the local demonstration model, which `up` and `review` start."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def command(
    *, child: Annotated[bool, typer.Option("--child", hidden=True, help="Ends with the one that started it.")] = False
) -> None:
    """Serve the local demonstration model to the other processes of this data directory."""
    from app import lifeline, local_model, log
    from app.settings import load_settings

    settings = load_settings()
    log.configure()
    if child:
        lifeline.end_with_parent()
    code = local_model.run(settings)
    os._exit(code)  # the engine's threads would first finish the answer that they are at
