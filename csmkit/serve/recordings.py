"""Named voices: a folder of recordings, each with its words in a text file."""

from __future__ import annotations

import re
from pathlib import Path

from csmkit.errors import AudioFileError, InputError
from csmkit.serve.models import Speaker
from csmkit.speech.speaker_prompt import voice_prompt

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def read_speakers(folder: Path, number: int = 0) -> list[Speaker]:
    """Read the voices of a folder: ``anna.wav`` and its words in ``anna.txt`` make the voice ``anna``.

    Args:
        folder: has the recordings, up to 30 s each.
        number: the speaker of the model that speaks like them.

    Raises:
        InputError: no recording, a recording without its text, a name of other characters, or silence.
        AudioFileError: no such folder, or a file that is no sound.
    """
    if not folder.is_dir():
        raise AudioFileError(f"no folder {str(folder)!r}: give one with recordings, such as anna.wav beside anna.txt")
    recordings = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not recordings:
        raise InputError(f"no recording in {str(folder)!r}: put sound files there, such as anna.wav beside anna.txt")
    return [_read(path, number) for path in recordings]


def _read(path: Path, number: int) -> Speaker:
    text = path.with_suffix(".txt")
    if not _NAME.fullmatch(path.stem):
        raise InputError(f"recording {path.name!r}: name it by letters, digits, '.', '_' and '-', up to 64")
    if not text.is_file():
        raise InputError(f"recording {path.name!r} without {text.name!r}: write the words there that are said in it")
    words = " ".join(text.read_text(encoding="utf-8").split())
    return Speaker(path.stem, number, (voice_prompt(path, words, number),))
