"""A blind comparison of two recordings: hear both in a hidden order, choose one, then see which it was."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from html import escape

import ipywidgets
import numpy as np

from csmkit.errors import StateError
from csmkit.lab.notebook.controls import button
from csmkit.lab.notebook.recordings import Recording

HINT = "Blind comparison: tick two recordings in the table."
READY = "Hear both, then choose. Which recording is which is shown afterwards; the order changes every time."
FIRST, SECOND, NEITHER = 0, 1, None


class BlindComparison:
    """Buttons that play two recordings in a random order, and take a vote.

    The louder recording is played as loud as the other one, so that loudness does not decide.

    Args:
        play: called with the samples of a recording, ``(samples,)`` float32 at 24 kHz.
        source: draws the random order; None makes a new source.

    Attributes:
        votes: one row for each vote: ``first`` and ``second``, the numbers of the recordings in the order of that vote,
            and ``preferred``, a number, or None for no difference.
        line: the text above the buttons.
        widget: the buttons and the line above them.
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
        """Play the first (0) or the second (1) sound.

        Raises:
            StateError: there are not two recordings to compare.
        """
        self._check()
        self._play_audio(_as_loud_as(self._pair[place].trial.audio, self._pair[1 - place].trial.audio))

    def vote(self, place: int | None) -> None:
        """Choose the first (0) or the second (1) sound, or None for no difference; shows which was which.

        Raises:
            StateError: there are not two recordings to compare.
        """
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
    rms, limit = (float(np.sqrt(np.mean(np.square(sound)))) for sound in (audio, other))
    return audio * np.float32(limit / rms) if rms > limit > 0 else audio
