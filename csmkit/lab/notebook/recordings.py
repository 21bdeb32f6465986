"""Recordings of a studio: kept as sound file and row, and shown as a table with buttons."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets

from csmkit.audio import write
from csmkit.errors import AudioFileError
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.trials.trial import Trial
from csmkit.version import __version__

ROWS = "recordings.jsonl"

COLUMNS = {  # heading: width in px, column of the row, and the form of its value
    "no.": (30, "recording", "{}"),
    "speaker": (62, "speaker", "{}"),
    "text": (220, "text", "{}"),
    "chunk": (66, "chunk_frames", "{}"),
    "temp.": (50, "temperature", "{:.2f}"),
    "top-k": (42, "topk", "{}"),
    "seed": (44, "seed", "{}"),
    "Whisper": (66, "whisper", "{}"),
    "first audio": (76, "ttfa_ms", "{:.0f} ms"),
    "RTF": (36, "rtf", "{:.2f}"),
    "sound": (50, "audio_s", "{:.2f} s"),
    "late": (32, "n_underruns", "{}"),
    "WER": (40, "wer", "{:.0%}"),
    "ended by": (104, "finish_reason", "{}"),
    "recognised": (220, "transcript", "{}"),
}
_BUTTON_PX = 34


@dataclass(frozen=True)
class Recording:
    """One trial of a session.

    Attributes:
        number: position among the session's recordings, from 1.
        preset: name of the models that spoke and listened.
        trial: sound, row and times.
    """

    number: int
    preset: str
    trial: Trial

    @property
    def row(self) -> dict[str, Any]:
        """The trial's row, with the recording's number, the preset and the version of csmkit."""
        return {"recording": self.number, "csmkit": __version__, **self.trial.row, "preset": self.preset}


def keep(recording: Recording, folder: str | PathLike[str]) -> Path:
    """Write a recording's sound to a new WAV file of a folder, and append its row to ``recordings.jsonl``.

    Args:
        recording: a recording that has sound.
        folder: is made if it does not exist.

    Returns:
        The WAV file; the row names it in ``wav``.

    Raises:
        AudioFileError: the folder or a file of it cannot be written, or the recording has no sound.
    """
    place = Path(folder)
    if not len(recording.trial.audio):
        raise AudioFileError(f"recording {recording.number} has no sound: there is nothing to keep")
    try:
        place.mkdir(parents=True, exist_ok=True)
        path = _new_file(place)
        write(path, recording.trial.audio)
        with (place / ROWS).open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({**recording.row, "wav": path.name}) + "\n")
    except AudioFileError:
        raise
    except OSError as error:
        message = f"cannot keep a recording in {str(folder)!r} ({error}): give a folder you may write to"
        raise AudioFileError(message) from error
    return path


class RecordingTable:
    """One row for each recording, the newest first: buttons to hear and to keep it, a box to compare it.

    Args:
        play: called with the recording whose play button was pressed.
        keep: called with the recording whose save button was pressed.
        on_choice: called with the recordings whose boxes are ticked, oldest first, whenever that changes.

    Attributes:
        widget: the table; it scrolls sideways where it is too wide.
    """

    def __init__(
        self,
        play: Callable[[Recording], object],
        keep: Callable[[Recording], object],
        on_choice: Callable[[list[Recording]], object],
    ) -> None:
        self._play, self._keep, self._on_choice = play, keep, on_choice
        self._boxes: list[tuple[Recording, ipywidgets.Checkbox]] = []
        space = _fixed(ipywidgets.HTML(), 3 * (_BUTTON_PX + 4) - 4)
        self._heading = ipywidgets.HBox([space, _cells(list(COLUMNS), 600)])
        self.widget = ipywidgets.VBox([], layout={"overflow": "auto", "max_width": "100%"})
        self.widget.add_class("csmkit-studio-recordings")

    def add(self, recording: Recording) -> None:
        """Show a recording."""
        name = f"recording {recording.number}"
        play = _fixed(ipywidgets.Button(icon="play", tooltip=f"hear {name} again"), _BUTTON_PX)
        keep = _fixed(ipywidgets.Button(icon="save", tooltip=f"keep {name} as WAV and row"), _BUTTON_PX)
        box = _fixed(ipywidgets.Checkbox(False, indent=False, tooltip=f"compare {name}"), _BUTTON_PX)
        play.on_click(lambda _: self._play(recording))
        keep.on_click(lambda _: self._keep(recording))
        box.observe(lambda _: self._on_choice(self.chosen), "value")
        self._boxes.append((recording, box))
        row = ipywidgets.HBox([play, keep, box, _cells(figures(recording))], layout={"flex": "0 0 auto"})
        self.widget.children = (self._heading, row, *self.widget.children[1:])

    def choose(self, *numbers: int) -> None:
        """Tick the boxes of these recordings, and no others."""
        for recording, box in self._boxes:
            box.value = recording.number in numbers

    @property
    def chosen(self) -> list[Recording]:
        """The recordings whose boxes are ticked, oldest first."""
        return [recording for recording, box in self._boxes if box.value]


def figures(recording: Recording) -> list[str]:
    """The texts of a recording's row, one for each column; a dash where nothing was measured."""
    row = recording.row
    row |= {"chunk_frames": shown(row["chunk_frames"]), "finish_reason": str(row["finish_reason"]).replace("_", " ")}
    return ["–" if row[name] in (None, "") else form.format(row[name]) for _, name, form in COLUMNS.values()]


def _new_file(folder: Path) -> Path:
    """A name that no earlier session has used."""
    stems = [path.stem.removeprefix("recording_") for path in folder.glob("recording_*.wav")]
    numbers = [int(stem) for stem in stems if stem.isdigit()]
    return folder / f"recording_{max(numbers, default=0) + 1:03d}.wav"


def _fixed(widget: Any, width: int) -> Any:
    widget.layout = ipywidgets.Layout(width=f"{width}px", flex="0 0 auto", padding="0", margin="2px")
    return widget


def _cells(texts: list[str], weight: int = 400) -> ipywidgets.HTML:
    """Texts in the columns of the table; one that is too long is cut, and shown whole as a tooltip."""
    cut = "flex:none;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;padding-right:6px"
    cells = [
        f'<span title="{escape(text)}" style="{cut};width:{width}px">{escape(text)}</span>'
        for text, (width, *_) in zip(texts, COLUMNS.values(), strict=True)
    ]
    row = f'<div style="display:flex;font-variant-numeric:tabular-nums;font-weight:{weight}">{"".join(cells)}</div>'
    return ipywidgets.HTML(row, layout={"flex": "0 0 auto"})
