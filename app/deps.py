"""What every handler of a job is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.model_watch import Models
    from app.settings import Settings
    from app.vault import Vault


@dataclass(frozen=True)
class Deps:
    engine: Engine
    vault: Vault
    settings: Settings
    models: Models
