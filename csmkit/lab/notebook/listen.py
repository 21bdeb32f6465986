"""Listen: a blind listening test in a notebook, over the sound that a sweep kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

import ipywidgets

from csmkit.lab.listen.answers import AnswerFile
from csmkit.lab.listen.plan import REFERENCE, Item, plan_test
from csmkit.lab.notebook.output import Shown, button
from csmkit.lab.notebook.player import Player

LETTERS = "ABCDEFGHIJ"
DONE = "That was all. Thank you."


class Listen(Shown):
    """Asks one listener; questions, sounds and rows are those of `csmkit listen`, and so is where a test goes on.

    Tab and Space reach and press every button. An answer is possible once each sound of the question was played.
    Arguments and errors are those of `csmkit.lab.listen.plan_test`.

    Attributes:
        item: the question that is asked; None at the end.
        sounds: the buttons that play, in the order of the sounds; of ``mushra`` the known reference is the last.
        ratings: the sliders of ``mushra``, in the order of the sounds.
        widget: everything, for a layout of your own.
    """

    def __init__(
        self, folder: str | PathLike[str], kind: str, axis: str, values: Sequence[Any], listener: str, **options: Any
    ) -> None:
        self._test = plan_test(Path(folder), kind, axis, values, listener, **options)
        self._answers = AnswerFile(Path(folder), self._test)
        self.player = Player(embedded=True)
        self.widget = ipywidgets.VBox([])
        self._ask()

    def _ask(self) -> None:
        """Show the next question."""
        self.item = self._answers.following()
        self._heard, self._since_s = set[int](), perf_counter()
        self.sounds, self.ratings, self.choices = [], [], []
        text = DONE if self.item is None else self._question(self.item)
        line = ipywidgets.HTML(f'<div role="status">{escape(text)}</div>')
        rows = [ipywidgets.HBox(list(row)) for row in zip(self.sounds, self.ratings, strict=False)]
        rest = [ipywidgets.HBox(self.sounds[len(rows) :]), ipywidgets.HBox(self.choices)]
        self.widget.children = (line, self.player.widget, *rows, *rest)

    def _question(self, item: Item) -> str:
        """Make the buttons of a question; returns its text."""
        names = [*LETTERS[: len(item.names)], *{"abx": "X", "mushra": ["the reference"]}.get(self._test.kind, [])]
        self.sounds = [button(f"Play {name}", partial(self.play, place)) for place, name in enumerate(names)]
        if self._test.kind == "mushra":
            self.ratings = [ipywidgets.IntSlider(50, min=0, max=100, description=name) for name in names[:-1]]
            self.choices = [button("Next", self._rate, disabled=True)]
        else:
            form = "X is {}" if self._test.kind == "abx" else "{}"
            self.choices = [
                button(form.format(name), partial(self.answer, place), disabled=True)
                for place, name in enumerate(names[:2])
            ]
        return f"{self._test.question} “{item.text}” ({self._answers.n_done + 1} of {len(self._test.items)})"

    def play(self, place: int) -> None:
        """Play a sound of the question, by its place among ``sounds``; does nothing after the last question."""
        if self.item is None:
            return
        known = self._test.kind == "mushra" and place == len(self.item.names)
        self.player.play(self.item.sound(self.item.names.index(REFERENCE) if known else place))
        self._heard.add(place)
        for choice in self.choices:
            choice.disabled = len(self._heard) < len(self.sounds)

    def answer(self, answer: int | Sequence[int]) -> None:
        """Keep an answer, the index of a sound or a rating of each, and ask on; raises InputError for any other."""
        if self.item is not None:
            self._answers.add(self.item, answer, perf_counter() - self._since_s)
            self.player.stop()
            self._ask()

    def _rate(self) -> None:
        self.answer([slider.value for slider in self.ratings])
