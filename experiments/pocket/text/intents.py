"""The material of the miniature assistant's conversations, read from intents.txt and conversation.txt."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from experiments.pocket.text.grammar import HERE, read_lexicon, read_lines
from experiments.pocket.text.morphology import bend

INTENTS, CONVERSATION = HERE / "intents.txt", HERE / "conversation.txt"
HELD_OUT_OF = 12
"""One phrasing in so many is for the test."""
_SLOT = re.compile(r"\{([a-z0-9_ ]+)(?:\.([a-z0-9]+))?\}")
BOUND = re.compile(r"<([a-z0-9 ]+)(?:\.([a-z0-9]+))?>")
_SENTENCE = re.compile(r"[^.?!]+[.?!]+")
_GROUP = re.compile(r"\(([^()]*)\)")
_PROPER = {
    word
    for name in ("name", "day", "month", "country", "language")
    for entry in read_lexicon(HERE / "lexicon.txt")[name]
    for word in entry.split()
} - {"may", "march", "mark", "rose", "grace", "will", "max"}
_PROPER |= {"london", "paris", "rome", "berlin", "york", "madrid", "boston", "chicago", "tokyo", "dublin", "vienna"}


@dataclass(frozen=True)
class Turn:
    """One exchange: the user's words and the answer, both lower case."""

    topic: str
    user: str
    answer: str


@dataclass
class Intent:
    """A paragraph of the text files; its lines are described at the head of intents.txt.

    Attributes:
        name: what stands in brackets.
        fields: alternatives by the letter or word before the colon; ``u`` of every reply is kept in ``replies``.
        replies: pairs of what the user may say to a question and what follows: answers, or ``>`` and an intent's name.
    """

    name: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    replies: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def __getitem__(self, key: str) -> list[str]:
        """The alternatives of a line; none where it is missing."""
        return self.fields.get(key, [])


def alternatives(text: str) -> list[str]:
    """Split at `` | ``, but not inside parentheses."""
    parts, depth, start = [], 0, 0
    for position, mark in enumerate(text):
        depth += (mark == "(") - (mark == ")")
        if depth == 0 and text.startswith(" | ", position):
            parts.append(text[start:position].strip())
            start = position + 3
    return [*parts, text[start:].strip()]


def choose(text: str, rng: random.Random) -> str:
    """Decide every ``(a|b|)`` of a phrasing, inside out."""
    while (decided := _GROUP.sub(lambda match: rng.choice(match[1].split("|")), text)) != text:
        text = decided
    return re.sub(r"\s+", " ", text).strip()


def is_held_out(phrasing: str) -> bool:
    """Whether a phrasing, its slots unfilled, is for the test. Short ones are everybody's."""
    return len(phrasing.split()) > 2 and zlib.crc32(phrasing.encode()) % HELD_OUT_OF == 0


def read_paragraphs(path: Path) -> Iterator[Intent]:
    """The paragraphs of a text file in order.

    Raises:
        ValueError: a line has no key, or stands before the first ``[name]``, or a name is given twice.
    """
    current: Intent | None = None
    names: set[str] = set()
    for line in read_lines(path):
        if line.startswith("["):
            if current:
                yield current
            current = Intent(line.strip("[]"))
            if current.name in names:
                raise ValueError(f"{path.name}: {line} stands twice; every paragraph needs a name of its own")
            names.add(current.name)
            continue
        if current is None:
            raise ValueError(f"{path.name}: {line!r} stands before the first [name]")
        if current.name.startswith("list: "):
            current.fields.setdefault("items", []).extend(alternatives(line))
            continue
        key, colon, rest = line.partition(": ")
        if not colon:
            raise ValueError(f"{path.name}: {line!r} has no key such as 'u: '")
        _add(current, key, alternatives(rest))
    if current:
        yield current


def joined(paragraphs: Iterable[Intent]) -> dict[str, Intent]:
    """Paragraphs by name; those of the same name become one with the lines of all, their shares are a sum."""
    found: dict[str, Intent] = {}
    for paragraph in paragraphs:
        first = found.setdefault(paragraph.name, paragraph)
        if first is not paragraph:
            for key, values in paragraph.fields.items():
                first.fields[key] = [*first[key], *values]
    return found


def _add(paragraph: Intent, key: str, values: list[str]) -> None:
    if paragraph.name.startswith("question ") and key in {"u", "a", "go"}:
        if key == "u":
            paragraph.replies.append((values, []))
        elif paragraph.replies and not paragraph.replies[-1][1]:
            paragraph.replies[-1][1].extend([f"> {value}" for value in values] if key == "go" else values)
        else:
            paragraph.fields.setdefault(key, []).extend(values)
    else:
        paragraph.fields.setdefault(key, []).extend(values)


class Filler:
    """Fills slots: ``{list}`` draws anew, ``<list>`` is the first word that ``{list}`` or ``<list>`` drew.

    Args:
        lists: alternatives by name; an alternative may be a template itself.
        rng: source of every choice.
        makers: slots that are made up anew instead of drawn.
    """

    def __init__(
        self, lists: dict[str, list[str]], rng: random.Random, makers: dict[str, Callable[[], str]] | None = None
    ) -> None:
        self.lists, self.rng, self.makers = lists, rng, makers or {}

    def fill(self, template: str, bound: dict[str, str]) -> str:
        """Fill every slot, outside in; ``bound`` gains what was drawn first of every list.

        Raises:
            KeyError: the template names a list that there is not.
        """
        text = BOUND.sub(lambda match: self._bound(match[1], match[2], bound), template)
        return re.sub(r"\s+", " ", _SLOT.sub(lambda match: self._draw(match[1], match[2], bound), text)).strip()

    def _draw(self, name: str, form: str | None, bound: dict[str, str]) -> str:
        if name in self.makers:
            text = self.makers[name]()
        else:
            text = self.fill(choose(self.rng.choice(self.lists[name]), self.rng), bound)
        text = "" if text == "-" else text
        bound.setdefault(name, text)
        return bend(text, form) if form and text else text

    def _bound(self, name: str, form: str | None, bound: dict[str, str]) -> str:
        word = bound[name] if name in bound else self._draw(name, None, bound)
        return bend(word, form) if form else word


def slots_of(text: str) -> set[str]:
    """The lists that a text shares with the user's words."""
    return {match[0] for match in BOUND.findall(text)}


def sentences_of(answer: str) -> list[str]:
    """The sentences of an answer in the voice's spelling."""
    return [sentence.strip() for sentence in _SENTENCE.findall(answer.lower())]


def written(text: str, names: frozenset[str] = frozenset()) -> str:
    """Ordinary capitals: sentence starts, "I", names and the given words."""
    proper = _PROPER | names
    words = [word.capitalize() if re.sub(r"\W.*", "", word) in proper else word for word in text.split(" ")]
    text = re.sub(r"\bi\b", "I", " ".join(words))
    text = re.sub(r"\b(i'm|name is|call me) pocket\b", r"\1 Pocket", text, flags=re.IGNORECASE)
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)
