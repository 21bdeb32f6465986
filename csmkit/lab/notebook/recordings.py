"""Takes: trials in the order they were spoken, to compare, and to keep as a sound file and a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import csmkit
from csmkit.audio import write
from csmkit.errors import AudioFileError
from csmkit.lab.trials.trial import Trial

ROWS = "takes.jsonl"


@dataclass(frozen=True)
class Take:
    """One trial of a session.

    Attributes:
        number: from 1.
        preset: whose models spoke and heard.
        trial: what came of it.
    """

    number: int
    preset: str
    trial: Trial

    @property
    def row(self) -> dict[str, Any]:
        """The trial's row, and which take of which models and version it is."""
        return {"take": self.number, "preset": self.preset, "csmkit": csmkit.__version__, **self.trial.row}


def keep(take: Take, folder: str | PathLike[str]) -> Path:
    """Write a take's sound to a new WAV file of a folder, and its row behind those in ``takes.jsonl``.

    Args:
        take: with sound.
        folder: is made if it is not there.

    Returns:
        The WAV file; the row names it in ``wav``.

    Raises:
        AudioFileError: the folder or a file of it cannot be written, or the take has no sound.
    """
    place = Path(folder)
    if not len(take.trial.audio):
        raise AudioFileError(f"take {take.number} has no sound: there is nothing to keep")
    try:
        place.mkdir(parents=True, exist_ok=True)
        path = _new_file(place)
        write(path, take.trial.audio)
        with (place / ROWS).open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({**take.row, "wav": path.name}) + "\n")
    except AudioFileError:
        raise
    except OSError as error:
        raise AudioFileError(
            f"cannot keep a take in {str(folder)!r} ({error}): give a folder you may write to"
        ) from error
    return path


def _new_file(folder: Path) -> Path:
    """A name that no earlier session has used."""
    taken = [int(path.stem[5:]) for path in folder.glob("take_*.wav") if path.stem[5:].isdigit()]
    return folder / f"take_{max(taken, default=0) + 1:03d}.wav"
