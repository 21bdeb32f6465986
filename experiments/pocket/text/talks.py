"""What ordinary people say, turn after turn, each line with the class of the answer that fits it."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.pocket.text.grammar import HERE, read_lines
from experiments.pocket.text.intents import HELD_OUT_OF, Intent, choose, read_paragraphs

ANSWERS, TALKS = HERE / "answers.txt", HERE / "talks"
EXCERPT_TURNS = (1, 1, 2, 3, 5, 8, 12, 20)
"""How many turns of a written talk come one after the other, before something else."""
PLAIN, PLAIN_WEIGHT = "plain", 4
"""Talks in the plainest words, whose titles begin so, are drawn more often for their length than the others."""


@dataclass(frozen=True)
class Line:
    """One turn of the user.

    Attributes:
        answer: the class of the answer, a paragraph of answers.txt.
        phrasing: what is said, lower case, with groups ``(a|b|)`` of which one is said.
    """

    answer: str
    phrasing: str


def read_answers(path: Path = ANSWERS) -> dict[str, Intent]:
    """The answer classes by name."""
    return {paragraph.name: paragraph for paragraph in read_paragraphs(path)}


def fitting(classes: dict[str, Intent], name: str) -> list[str]:
    """All answers that training gives to a line of a class: its own, and those of the class it names with ``or``."""
    return [answer for each in (name, *classes[name]["or"]) for answer in classes[each]["a"]]


def read_talks(folder: Path = TALKS) -> dict[str, list[Line]]:
    """The talks by title, in the order of the files' names.

    Raises:
        ValueError: a title stands twice, a line stands before the first title, or names no class of answers.txt.
    """
    talks: dict[str, list[Line]] = {}
    classes, current = read_answers(), None
    for path in sorted(folder.glob("*.txt")):
        for text in read_lines(path):
            if text.startswith("["):
                title, current = text.strip("[]"), []
                if talks.setdefault(title, current) is not current:
                    raise ValueError(f"{path.name}: {text} stands twice; every talk needs a title of its own")
                continue
            answer, colon, phrasing = text.partition(": ")
            if current is None or not colon or answer not in classes:
                raise ValueError(
                    f"{path.name}: {text!r} needs a [title] above it and a class of {ANSWERS.name} before it"
                )
            current.append(Line(answer, phrasing))
    return talks


def is_held_out_talk(title: str) -> bool:
    """Whether a whole talk is for the test."""
    return zlib.crc32(title.encode()) % HELD_OUT_OF == 0


class Excerpts:
    """Draws pieces of talks, by their number of lines; of plain ones more.

    Args:
        talks: the talks by title.
        rng: source of every choice.
        held_out: draw from those for the test instead of those for training.
    """

    def __init__(self, talks: dict[str, list[Line]], rng: random.Random, held_out: bool) -> None:
        self.rng = rng
        half = {title: lines for title, lines in talks.items() if is_held_out_talk(title) == held_out}
        self.talks: Sequence[list[Line]] = list(half.values())
        self.weights = [len(lines) * (PLAIN_WEIGHT if title.startswith(PLAIN) else 1) for title, lines in half.items()]

    def draw(self) -> list[Line]:
        """Some consecutive lines, their groups decided."""
        lines = self.rng.choices(self.talks, self.weights)[0]
        start = self.rng.randrange(len(lines))
        return [
            Line(line.answer, choose(line.phrasing, self.rng))
            for line in lines[start : start + self.rng.choice(EXCERPT_TURNS)]
        ]
