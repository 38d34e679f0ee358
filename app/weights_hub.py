"""Weights from the publisher's own repository on the model hub."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Self

from app.weights import HUB_SECONDS, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from app.weights import Tell, Weights


def from_hub(wanted: Weights, target: Path, tell: Tell, *, endpoint: str | None = None) -> None:
    """The file is at `target`, unverified. An interrupted download is taken up again at the next start."""
    import httpx2  # noqa: PLC0415  a second with the next one, only where something is to be downloaded
    import huggingface_hub as hub  # noqa: PLC0415
    from huggingface_hub import constants, errors  # noqa: PLC0415

    constants.HF_HUB_DISABLE_TELEMETRY = True
    constants.HF_HUB_DISABLE_XET = True  # its transfers report no progress that can be followed
    folder = target.parent / "hub"
    tell(None, "asking the model hub")
    try:
        # Asked first, once: the download itself would try for half a minute.
        url = hub.hf_hub_url(wanted.repository, wanted.file, revision=wanted.revision, endpoint=endpoint)
        hub.get_hf_file_metadata(url, token=False, timeout=HUB_SECONDS, endpoint=endpoint)
        path = hub.hf_hub_download(
            wanted.repository,
            wanted.file,
            revision=wanted.revision,
            local_dir=folder,
            token=False,  # the repository is public: nobody has to know whose machine asks
            endpoint=endpoint,
            tqdm_class=_bar(wanted, tell),
        )
    except (httpx2.HTTPError, errors.FileMetadataError, errors.EntryNotFoundError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Unavailable("the model hub cannot be reached or does not have it") from error
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)  # a full disk, most likely: it is given back
        raise
    shutil.move(path, target)
    shutil.rmtree(folder, ignore_errors=True)


def _bar(wanted: Weights, tell: Tell) -> type:
    """What the hub's client takes for a progress bar."""

    class Bar:
        def __init__(self, *, initial: int = 0, **_: object) -> None:
            self._done = initial

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, count: int) -> None:
            self._done += count
            tell(self._done / wanted.size, "downloading from the model hub")

    return Bar
