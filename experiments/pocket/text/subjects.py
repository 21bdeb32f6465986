"""What there is to tell about a thing that the user asks for, and whether a request names one."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from experiments.pocket.text.grammar import HERE, read_lines
from experiments.pocket.text.intents import Filler, Intent, read_paragraphs

SUBJECTS, REQUESTS = HERE / "subjects.txt", HERE / "requests.txt"
LISTS = {"fact": "fact line", "joke": "joke", "story": "tale", "riddle": "riddle"}
"""The list that each kind of thing to tell draws from; sayings stand in their intent."""
NONE_ABOUT = ("i don't know one about that, i'm sorry.", "i don't know one about that, but i know this one.")
"""What is answered where nothing is known about a subject; after the second something else of the kind is told."""
NO_SUBJECT = frozenset(("animal", "fun", "dad", "minute", "man", "kind", "baby", "kid", "bit", "lot", "love", "life"))
"""Nouns that tell what a joke or a fact is like, or how many are wanted, rather than what it is about."""
_PRONOUN = re.compile(r"(them|it|that|those|these|him|her)\b")
_GENERAL = re.compile(
    r"((the|some|any|all) )?(animals?|nature|world|anything|everything|something|whatever|science|life|things)\b"
)
_ABOUT = re.compile(r"(?<!how )(?<!what )\babout ")
_GENERAL_QUESTION = re.compile(r"\b(?:know|tell me|teach me|tell me everything)(?: \w+)? about ([a-z ]+?)[.?!]*$")
_SAID_BEFORE = re.compile(r"([a-z]+) (?:facts?|jokes?|stor(?:y|ies)|riddles?)\b")


class Subjects:
    """What is known about each subject.

    Args:
        told: everything there is to tell, by kind: fact, joke, story, riddle, quote.
        names: the words for each subject, as subjects.txt has them.
        others: nouns that name a subject before "fact" or "joke" although nothing is known about it.
    """

    def __init__(
        self,
        told: dict[str, list[str]],
        names: Sequence[Sequence[str]] | None = None,
        others: frozenset[str] = frozenset(),
    ) -> None:
        self.others = others - NO_SUBJECT
        self.names = names or [line.split(" | ") for line in read_lines(SUBJECTS)]
        self.of = {name: index for index, words in enumerate(self.names) for name in words}
        longest = sorted(self.of, key=len, reverse=True)
        self.pattern = re.compile(rf"\b({'|'.join(longest)})\b")
        self.told = {
            kind: [[line for line in lines if self._is_about(line, words)] for words in self.names]
            for kind, lines in told.items()
        }

    @staticmethod
    def _is_about(line: str, words: Sequence[str]) -> bool:
        return any(re.search(rf"\b{word}\b", line) for word in words)

    def known(self, kind: str) -> list[int]:
        """Numbers of the subjects of which something of a kind is known."""
        return [number for number, lines in enumerate(self.told[kind]) if lines]

    def asked(self, user: str, before: str = "") -> str | None:
        """The words that name the subject of a request; None where it names none.

        Args:
            user: the request, lower case.
            before: what the user said before, where "them" and "it" may have been named.
        """
        about = _ABOUT.search(user)
        if not about:
            said = _SAID_BEFORE.findall(user)
            return next((word for word in said if word in self.of or word in self.others), None)
        *_, about = _ABOUT.finditer(user)
        rest = user[about.end() :]
        if _GENERAL.match(rest):
            return None
        if _PRONOUN.match(rest):
            named = self.pattern.findall(f"{before} {user[: about.start()]}")
            return named[-1] if named else None
        named = self.pattern.search(rest)
        return named[1] if named else rest

    def known_fact(self, user: str) -> list[str]:
        """Facts that answer a general question such as "what do you know about bees"; none for any other."""
        asked = _GENERAL_QUESTION.search(user)
        return self.lines("fact", asked[1]) if asked else []

    def lines(self, kind: str, subject: str) -> list[str]:
        """What is known of a kind about a subject; nothing about one that subjects.txt lacks."""
        return self.told[kind][self.of[subject]] if subject in self.of else []


class Requests:
    """Composes requests for something about a subject.

    Args:
        subjects: what is known about them.
        filler: fills the phrasings.
        rng: source of every choice.
        phrase: draws a phrasing of the right half (training or test).
    """

    KINDS = ("fact",) * 8 + ("joke",) * 4 + ("story",) * 3 + ("riddle", "quote")
    UNKNOWN_SHARE = 0.3
    """How often something is asked for of which nothing is known."""

    def __init__(
        self, subjects: Subjects, filler: Filler, rng: random.Random, phrase: Callable[[list[str]], str]
    ) -> None:
        self.subjects, self.filler, self.rng, self.phrase = subjects, filler, rng, phrase
        self.paragraphs: dict[str, Intent] = {paragraph.name: paragraph for paragraph in read_paragraphs(REQUESTS)}

    def subject(self, kind: str) -> dict[str, str]:
        """Words to fill a request with: subject, its word alone, and the pronoun for it."""
        draw, known = self.rng.random(), self.subjects.known(kind)
        if draw < self.UNKNOWN_SHARE / 2:
            plural = self.filler.fill(self.rng.choice(("{animal.pl}", "{nouns}", "{job.pl}", "{food.pl}")), {})
            bare = plural
        else:
            unknown = [number for number in range(len(self.subjects.names)) if number not in known]
            names = self.subjects.names[self.rng.choice(unknown if draw < self.UNKNOWN_SHARE else known)]
            plural, bare = self.rng.choice(names), names[-1]
        return {"subject": plural, "bare": bare, "them": "them" if plural.endswith("s") or plural == "mice" else "it"}

    def say(self, name: str, key: str, bound: dict[str, str]) -> str:
        """One phrasing of a paragraph's line."""
        return self.filler.fill(self.phrase(self.paragraphs[name][key]), dict(bound))
