"""Where a voice is: the bundled one, a directory, or a repository on the hub."""

from __future__ import annotations

import re
from importlib.resources import files
from os import PathLike
from pathlib import Path

from csmkit.csm.checkpoint import weight_files
from csmkit.errors import CheckpointError, CheckpointNotFoundError

BUNDLED = "pocket"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find_voice(name: str | PathLike[str]) -> Path:
    """The checkpoint directory of a voice.

    Args:
        name: "pocket"; a directory; or a hub id "owner/name", which fetches what is not on this machine yet.

    Raises:
        CheckpointNotFoundError: nothing of that name, or no access to it; the message says the remedy.
    """
    if str(name) == BUNDLED:
        directory = Path(str(files("csmkit") / BUNDLED / "voice"))
        if not (directory / "config.json").is_file():
            raise CheckpointNotFoundError(
                f"the bundled voice is missing from {str(directory)!r}: install csmkit again, with its data files"
            )
        return directory
    directory = Path(name)
    if directory.is_dir():
        return directory
    if _HUB_ID.fullmatch(str(name)) and not directory.parent.is_dir():
        return _from_hub(str(name))
    raise CheckpointNotFoundError(
        f"no voice {str(name)!r}: give {BUNDLED!r}, a checkpoint directory that exists, "
        "or a hub id such as 'sesame/csm-1b'"
    )


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        # The small files say which weights to fetch: a repository may hold the same model in several layouts.
        directory = Path(snapshot_download(repository, allow_patterns=["*.json"]))
        return Path(snapshot_download(repository, allow_patterns=["*.json", *weight_files(directory)]))
    except CheckpointError:  # also an OSError, but it has said what is missing
        raise
    except GatedRepoError as error:
        raise CheckpointNotFoundError(
            f"{repository} is gated: accept the licence on https://huggingface.co/{repository} and log in "
            f"(huggingface-cli login), or use the bundled voice {BUNDLED!r}"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointNotFoundError(
            f"no repository {repository!r} on the hub, or it is private: check the name and log in, "
            f"or use the bundled voice {BUNDLED!r}"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointNotFoundError(
            f"cannot fetch {repository!r} ({error}): check the network, give a local directory, "
            f"or use the bundled voice {BUNDLED!r}"
        ) from error
