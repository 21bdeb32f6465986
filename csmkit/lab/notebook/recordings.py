"""Recordings of a studio: kept as sound file and row, shown as a table with buttons, and compared blindly."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np

from csmkit.audio import amplitude, level_dbfs, write
from csmkit.errors import AudioFileError, StateError
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.notebook.output import button
from csmkit.lab.trials.trial import Trial
from csmkit.version import __version__

ROWS = "recordings.jsonl"
HINT = "Blind comparison: tick two recordings in the table."
READY = "Hear both, then choose. Which recording is which is shown afterwards; the order changes every time."
FIRST, SECOND, NEITHER = 0, 1, None

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


class BlindComparison:
    """Buttons that play two recordings in a random order, and take a vote.

    The louder recording is played as loud as the other one, so that loudness does not decide.

    Args:
        play: called with the samples of a recording, ``(samples,)`` float32 at 24 kHz.

    Attributes:
        votes: one row for each vote: ``first`` and ``second``, the numbers of the recordings in the order of that vote,
            and ``preferred``, a number, or None for no difference.
    """

    def __init__(self, play: Callable[[np.ndarray], object], source: random.Random | None = None) -> None:
        self.votes: list[dict[str, int | None]] = []
        self._play_audio, self._random = play, source or random.Random()
        self._pair: list[Recording] = []
        hear = [button("Hear 1st", lambda: self.play(FIRST)), button("Hear 2nd", lambda: self.play(SECOND))]
        choices = {"1st is better": FIRST, "2nd is better": SECOND, "No difference": NEITHER}
        vote = [button(text, lambda choice=choice: self.vote(choice)) for text, choice in choices.items()]
        self._buttons = [*hear, *vote]
        self._line = ipywidgets.HTML()
        row = ipywidgets.HBox(self._buttons, layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([self._line, row])
        self.widget.add_class("csmkit-studio-comparison")
        self.choose([])

    @property
    def ready(self) -> bool:
        """Whether two recordings are chosen."""
        return len(self._pair) == 2

    def choose(self, recordings: list[Recording]) -> None:
        """Compare these recordings; with any number but two the buttons are disabled."""
        self._pair = list(recordings) if len(recordings) == 2 else []
        self._random.shuffle(self._pair)
        for one in self._buttons:
            one.disabled = not self.ready
        self._show(READY if self.ready else HINT)

    def play(self, place: int) -> None:
        """Play the first (0) or the second (1) sound; StateError where there are not two recordings to compare."""
        self._check()
        self._play_audio(_as_loud_as(self._pair[place].trial.audio, self._pair[1 - place].trial.audio))

    def vote(self, place: int | None) -> None:
        """Choose the first (0) or the second (1) sound, or None for no difference, and show which was which."""
        self._check()
        first, second = (recording.number for recording in self._pair)
        preferred = None if place is None else (first, second)[place]
        self.votes.append({"first": first, "second": second, "preferred": preferred})
        counts = Counter(vote["preferred"] for vote in self.votes if {vote["first"], vote["second"]} == {first, second})
        so_far = ", ".join(f"recording {number}: {counts[number]}" for number in sorted((first, second)))
        chosen = "You heard no difference" if preferred is None else f"You preferred recording {preferred}"
        self._show(
            f"{chosen}. The 1st was recording {first}, the 2nd recording {second}. "
            f"Votes so far: {so_far}, no difference: {counts[None]}."
        )
        self._random.shuffle(self._pair)

    def _check(self) -> None:
        if not self.ready:
            raise StateError("a comparison needs two recordings: tick two of them in the table")

    def _show(self, text: str) -> None:
        self.line = text
        self._line.value = f'<span role="status">{escape(text)}</span>'


def _as_loud_as(audio: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The samples, made quieter where their RMS is above that of the other sound."""
    louder_db = level_dbfs(audio) - level_dbfs(other)
    return audio * np.float32(amplitude(-louder_db)) if louder_db > 0 and other.any() else audio
