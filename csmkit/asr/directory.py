"""Finds a Whisper by its name, checks its directory, and reads how the model is decoded.

A model directory is the usual CTranslate2 one. It may hold a ``csmkit.json`` with

- ``short_windows`` (default false): the model was trained on windows that are only a little longer than the sound, so
  only that much is encoded. OpenAI's weights need 30 seconds: with less, word errors rise from 5 % to over 200 %.
- ``suppress_blank`` (default: the opposite of ``short_windows``): do not let the model end before its first word. A
  model that was trained on silence must be allowed to.
- ``max_length`` (default 448): number of positions of the decoder.
- ``window_s`` (default: the encoder's limit): the longest sound that the model was trained on, in seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from csmkit.errors import CheckpointError, CheckpointNotFoundError, InputError
from csmkit.files.hub import WHISPERS, bundled_folder, locate

NAMES = WHISPERS
_FILES = ("model.bin", "config.json", "tokenizer.json", "preprocessor_config.json")
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


def resolve(name: str, preset: str = "pocket") -> str:
    """Turn a model name into a directory, or into a hub id.

    Args:
        name: one of `NAMES`; ``openai/base.en`` and so on, for OpenAI's weights in any preset; a directory; a
            hub id such as ``Systran/faster-whisper-base.en``.
        preset: ``pocket`` means the bundled model of that name, ``sesame`` OpenAI's on the hub.

    Raises:
        InputError: an unknown preset.
        CheckpointNotFoundError: the name is neither known, nor a directory, nor like a hub id.
    """
    if preset not in ("pocket", "sesame"):
        raise InputError(f"preset={preset!r}: the presets are pocket and sesame")
    published = name.removeprefix("openai/").removeprefix("whisper-") if name.startswith("openai/") else ""
    if published in NAMES:
        return f"Systran/faster-whisper-{published}"
    if name in NAMES and preset == "sesame":
        return f"Systran/faster-whisper-{name}"
    return str(locate(name, "Whisper model"))


def live_note(name: str, preset: str = "pocket") -> str | None:
    """A note for people who speak to a bundled Whisper themselves; None for any other model.

    Raises:
        InputError, CheckpointNotFoundError: as `resolve`.
    """
    if Path(resolve(name, preset)).parent != bundled_folder("voice").parent:
        return None
    return (
        "The bundled Whispers know synthetic voices only and will misunderstand a person: "
        "csmkit talk --whisper openai/base.en downloads OpenAI's"
    )


def check_directory(path: Path) -> None:
    """Check that a model directory has all its files; for a missing one faster-whisper would use the network.

    Raises:
        CheckpointNotFoundError: the directory or one of its files is missing.
    """
    if not path.is_dir():
        raise CheckpointNotFoundError(f"no Whisper model directory {str(path)!r}: check the path")
    missing = [name for name in _FILES if not (path / name).is_file()]
    if not any((path / name).is_file() for name in _VOCABULARIES):
        missing.append(" or ".join(_VOCABULARIES))
    if missing:
        remedy = "convert the model again with ct2-transformers-converter --copy_files, or copy them from the original"
        raise CheckpointNotFoundError(f"{str(path)!r} lacks {', '.join(missing)}: {remedy}")


@dataclass(frozen=True)
class WhisperOptions:
    """How a model is decoded: the contents of its ``csmkit.json``."""

    short_windows: bool = False
    suppress_blank: bool = True
    max_length: int = 448
    window_s: float = 30.0

    @classmethod
    def of(cls, directory: Path) -> WhisperOptions:
        """Read the options of a model directory; without the file they are those of OpenAI's models.

        Raises:
            CheckpointError: the file is not a JSON object.
        """
        path = directory / "csmkit.json"
        if not path.is_file():
            return cls()
        try:
            known = json.loads(path.read_text())
            short = bool(known.get("short_windows", False))
            blank = bool(known.get("suppress_blank", not short))
            length, window = known.get("max_length", cls.max_length), known.get("window_s", cls.window_s)
            return cls(short, blank, int(length), float(window))
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{str(path)!r} is not a JSON object with known values: {error}") from error
