"""Finds the directory of a model by its name: bundled with csmkit, on this machine, or downloaded from the hub.

Where the hub has no such repository, or gives no access to it, every function here raises CheckpointNotFoundError.
"""

from __future__ import annotations

import re
from importlib.resources import files
from os import PathLike
from pathlib import Path

from csmkit.errors import CheckpointNotFoundError

BUNDLED = "pocket"
CODEC_FOLDER = "mimi"  # in a checkpoint of Sesame's layout, which has no place for a codec in its own files
MOSHI_PATTERN = "tokenizer-*.safetensors"
WHISPERS = ("tiny.en", "base.en", "small.en")
DEFAULT_WHISPER = "base.en"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_BUNDLED_FOLDERS = {
    "voice": {BUNDLED: "voice"},
    "language model": {BUNDLED: "llm"},
    "Whisper model": {name: f"whisper-{name}" for name in WHISPERS},
}
_OTHERS = {
    "voice": "a checkpoint directory that exists, or a hub id such as 'sesame/csm-1b'",
    "language model": "a directory in transformers' layout, or a hub id 'owner/name'",
    "Whisper model": "a directory with a CTranslate2 Whisper, or a hub id 'owner/name'",
}


def locate(name: str | PathLike[str], kind: str) -> Path | str:
    """Find out where a model is; neither its files nor the network are used.

    Args:
        name: name of a bundled model; a directory; or a hub id "owner/name", unless such a folder exists here.
        kind: "voice", "language model" or "Whisper model".

    Returns:
        The directory on this machine, or the hub id as a str.

    Raises:
        CheckpointNotFoundError: no model of that name; the message lists what can be given.
    """
    bundled = _BUNDLED_FOLDERS[kind]
    if str(name) in bundled:
        return bundled_folder(bundled[str(name)])
    if str(name) and Path(name).is_dir():  # an empty name would mean the working directory
        return Path(name)
    if _is_hub_id(name):
        return str(name)
    raise CheckpointNotFoundError(f"no {kind} {str(name)!r}: give {', '.join(map(repr, bundled))}, {_OTHERS[kind]}")


def bundled_folder(name: str) -> Path:
    """The directory of a bundled model, such as "voice" or "whisper-base.en"."""
    return Path(str(files("csmkit") / BUNDLED / name))


def find_voice(name: str | PathLike[str]) -> Path:
    """The checkpoint directory of a voice.

    Args:
        name: "pocket"; a directory; or a hub id "owner/name", whose missing files are downloaded.

    Raises:
        CheckpointNotFoundError: no voice of that name, or no access to it; the message says what to do.
    """
    place = locate(name, "voice")
    if isinstance(place, str):
        return _fetch_voice(place)
    if str(name) == BUNDLED and not (place / "config.json").is_file():
        raise CheckpointNotFoundError(
            f"the bundled voice is missing from {str(place)!r}: install csmkit again, with its data files"
        )
    return place


def find_whisper(place: Path | str) -> Path:
    """The directory of a Whisper; of a hub id, CTranslate2's files are downloaded.

    Args:
        place: a directory or a hub id, as `locate` returns them.
    """
    if isinstance(place, Path) or Path(place).is_dir() or Path(place).is_absolute():
        return Path(place)
    return _fetch(place, "*.json", "model.bin", "vocabulary.*", instead="a bundled Whisper such as 'base.en'")


def find_codec(place: str | PathLike[str]) -> Path:
    """The path of a codec's files; whether they hold a codec is checked when they are opened.

    Args:
        place: a directory, which may have the codec in a folder "mimi"; a file; or a hub id such as "kyutai/mimi",
            whose missing files are downloaded.
    """
    path = Path(place)
    if (path / CODEC_FOLDER).is_dir():
        return path / CODEC_FOLDER
    return _fetch_codec(str(place)) if not path.exists() and _is_hub_id(place) else path


def find_tokenizer(place: str | PathLike[str]) -> Path:
    """The path of a tokenizer.json, or of its directory.

    Args:
        place: path of the file or of its directory, or a hub id, from which it is downloaded.
    """
    path = Path(place)
    return _fetch(str(place), "tokenizer.json") if not path.exists() and _is_hub_id(place) else path


def find_file(place: str) -> Path:
    """Where a single file is; whether it exists is seen when it is opened.

    Args:
        place: a path, or a file of a hub repository such as "owner/name/model.pt", which is fetched.
    """
    owner, _, rest = place.partition("/")
    name, _, file = rest.partition("/")
    if not file or Path(place).exists() or not _is_hub_id(f"{owner}/{name}"):
        return Path(place)
    return _fetch(f"{owner}/{name}", file, instead="a path on this machine") / file


def _is_hub_id(name: str | PathLike[str]) -> bool:
    """Whether a name has the form of a hub id, and is not below a folder of this machine."""
    return _HUB_ID.fullmatch(str(name)) is not None and not Path(name).parent.is_dir()


def _fetch_voice(repository: str) -> Path:
    from csmkit.files.tensors import PICKLE_NAME, WEIGHTS_NAME, weight_files  # loads torch

    # The small files name the weights: a repository may hold the same model in several layouts.
    directory = _fetch(repository, "*.json")
    codec = [f"{CODEC_FOLDER}/*"] if (directory / CODEC_FOLDER).is_dir() else []
    directory = _fetch(repository, "*.json", *weight_files(directory), *codec)
    if weight_files(directory) == [WEIGHTS_NAME] and not (directory / WEIGHTS_NAME).is_file():
        return _fetch(repository, "*.json", PICKLE_NAME, *codec)
    return directory


def _fetch_codec(repository: str) -> Path:
    from csmkit.files.tensors import weight_files  # loads torch

    # Not all files: beside moshi's codec lies its language model, many times larger.
    directory = _fetch(repository, "*.json", MOSHI_PATTERN)
    if any(directory.glob(MOSHI_PATTERN)):
        return directory
    return _fetch(repository, "*.json", *weight_files(directory))


def _fetch(repository: str, *patterns: str, instead: str = f"the bundled voice {BUNDLED!r}") -> Path:
    """Download the files of these patterns, showing progress; returns their directory on this machine."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise CheckpointNotFoundError(
            f"{repository} is gated: accept the licence on https://huggingface.co/{repository} and log in "
            f"(huggingface-cli login), or use {instead}"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointNotFoundError(
            f"no repository {repository!r} on the hub, or it is private: check the name and log in, or use {instead}"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointNotFoundError(
            f"cannot download {repository!r} ({error}): check the network, give a local directory, or use {instead}"
        ) from error
