"""A local model's process without weights: python -m tests.model_process FOLDER ready|download|broken.

ready: an address is published that nobody serves. download: stays at a quarter. broken: finds no weights.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app import local_model
from app.llama import Running
from app.settings import Settings
from app.weights import Found, WeightsError

if TYPE_CHECKING:
    from app.weights import Tell


def main(folder: str, what: str) -> int:
    def find(_settings: Settings, place: Path, tell: Tell) -> Found:
        if what == "broken":
            raise WeightsError("no weights anywhere; set ANTHROPIC_API_KEY")
        if what == "download":
            tell(0.25, "downloading part 6 of 22")
            time.sleep(60)
        return Found(place / "tiny.gguf", "tiny", known=what != "own")

    steps = local_model.Steps(
        find, lambda _path, _model: Running("http://127.0.0.1:9", None), lambda _url, _model: None
    )
    return local_model.run(Settings(_env_file=None, data_dir=Path(folder)), steps=steps)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
