"""Decoding for a model that lists its words: its answers hold only these and words of the conversation.

A miniature model spells a name that it has not seen with several tokens, and may choose a wrong first one or stop in
the middle. Here a token may come next only if it continues or ends such a word. A word with a capital inside a sentence
is a name: one of the list, or a word of the conversation. Numbers are written in words, and an answer ends where a
sentence does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import combining, normalize

from csmkit.llm.contract import Message

if TYPE_CHECKING:
    import torch

FILE = "answer_words.txt"
"""In a checkpoint's directory: the words that its answers are made of, one a line. Those with a capital have it inside
a sentence too; others begin with one only where a sentence does."""
CAPITAL = "\ufffd"
"""The token before a word with a capital. Programs that write an answer as it comes wait after this character, which
otherwise stands for an unfinished one; so no half-written capital is ever seen."""
N_TRIED = 50
"""The most probable tokens that are looked at; more only while none of them may come next."""
_END = "\n"  # of an answer; no line ends within one
MARKS = f" ,.!?{CAPITAL}{_END}"
"""What stands between the words of an answer."""
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*", re.IGNORECASE)


def words_in(text: str) -> list[str]:
    """The words of a text: letters a to z without accents, with apostrophes between them."""
    plain = "".join(letter for letter in normalize("NFD", text) if not combining(letter))
    return _WORD.findall(plain.replace("\u2019", "'"))


def heard_in(text: str) -> set[str]:
    """The words that may be taken from a text, lower case: "isla's" and "islas" may mean Isla."""
    said = set(words_in(text.lower()))
    names = {word.removesuffix("'s") for word in said} | {word.removesuffix("s") for word in said if len(word) > 2}
    return said | {name for name in names if not name.endswith("'")}


class Vocabulary:
    """A set of words, and what they begin with."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = frozenset(words)
        self.beginnings = frozenset(word[:end] for word in self.words for end in range(1, len(word) + 1))

    def __or__(self, other: Vocabulary) -> Vocabulary:
        both = Vocabulary(())
        both.words, both.beginnings = self.words | other.words, self.beginnings | other.beginnings
        return both


class AnswerWords:
    """The words of a model's answers, and its tokens as text.

    Args:
        words: words of its answers; one with a capital has it inside a sentence too.
        tokenizer: transformers' tokenizer of the model.
    """

    def __init__(self, words: Sequence[str], tokenizer: Any) -> None:
        self._common = Vocabulary(word for word in words if word.islower())
        self._names = Vocabulary(word.lower() for word in words if not word.islower())
        special = set(tokenizer.all_special_ids)
        raw = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self._pieces = [
            CAPITAL if token == CAPITAL else _END if number in special else _piece(tokenizer, number)
            for number, token in enumerate(raw)
        ]

    @classmethod
    def of_checkpoint(cls, directory: str | Path, tokenizer: Any) -> AnswerWords | None:
        """The words that a checkpoint lists; None without such a file."""
        path = Path(directory) / FILE
        return cls(path.read_text(encoding="utf-8").split(), tokenizer) if path.is_file() else None

    def begin(self, messages: Sequence[Message]) -> Spelling:
        """An answer to a conversation, nothing said yet."""
        said = heard_in(" ".join(message["content"] for message in messages if message["role"] != "assistant"))
        heard = Vocabulary(said | {f"{word}'s" for word in said if "'" not in word})
        strange = Vocabulary(said - self._common.words)
        return Spelling(self._common, self._common | heard, self._names | heard, strange, self._pieces)


class _Place(NamedTuple):
    """Where an answer is: the letters of the word it is in, and what the word may be."""

    word: str = ""
    is_first: bool = True  # whether the word is the first of its sentence
    capital: str = ""  # CAPITAL where the word has one; then "+" right after a word, " " after its space
    after_name: bool = False  # whether only a space is between a name and this place

    @property
    def in_name(self) -> bool:
        """Whether it is in a word with a capital inside a sentence."""
        return bool(self.word and self.capital) and not self.is_first


@dataclass
class Spelling:
    """The word that an answer is in the middle of, and what may follow. It belongs to one stream.

    Attributes:
        own: words of the list in small letters. Right after a name only these may come: what else followed the name in
            the conversation ("Biscuit hes the goat") is no part of it.
        common: words that may be said in small letters elsewhere.
        names: words that may be said with a capital inside a sentence.
        strange: words of the conversation that the list does not have.
        pieces: the text of each token.
    """

    own: Vocabulary
    common: Vocabulary
    names: Vocabulary
    strange: Vocabulary
    pieces: Sequence[str]
    place: _Place = field(default_factory=_Place)

    def add(self, token: int) -> None:
        """Take a token as said; one that may not come next changes nothing."""
        self.place = self._place_after(token) or self.place

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of shape (tokens,) with minus infinity for what may not come next, and for what is improbable."""
        import torch

        ranked = logits.argsort(descending=True).tolist()
        goes_on = self.place.in_name and self._is_whole(self.place) and self._place_after(ranked[0]) is None
        kept: list[int] = []
        for number, token in enumerate(ranked):
            if number >= N_TRIED and kept:
                break
            place = self._place_after(token)
            # Where the model would go on with what is no part of a name, the name ends with a mark.
            if place is not None and not (goes_on and place.word):
                kept.append(token)
        if not kept:  # no word of the list can follow
            return logits
        restricted = torch.full_like(logits, -torch.inf)
        restricted[kept] = logits[kept]
        return restricted

    def _is_whole(self, place: _Place) -> bool:
        return any(place.word.rstrip("'") in words.words for words in self._fitting(place))

    def _place_after(self, token: int) -> _Place | None:
        place: _Place | None = self.place
        for letter in self.pieces[token]:
            place = self._step(place, letter)
            if place is None:
                return None
        if place.word and not any(place.word in words.beginnings for words in self._fitting(place)):
            return None
        if place.after_name and place.word in self.strange.beginnings and place.word not in self.own.words:
            return None
        return place

    def _step(self, place: _Place, letter: str) -> _Place | None:
        """The place after one more letter; None if it cannot come next."""
        if letter.isascii() and letter.isalpha():
            return self._letter(place, letter)
        if letter == "'" and place.word:
            return place._replace(word=place.word + letter)
        if letter not in MARKS or (letter == _END and (place.word or not place.is_first)):
            return None
        if place.word and not self._is_whole(place):
            return None
        waits = place.capital and not place.word
        if letter == CAPITAL:
            if waits:
                return None
            return _Place("", place.is_first and not place.word, f"{letter}{'+' if place.word else ''}")
        if waits:
            fits = letter == " " and place.capital[1:] != " "
            return place._replace(capital=f"{CAPITAL} ") if fits else None
        if letter in ".!?":
            return _Place()
        after_name = letter == " " and place.in_name
        return _Place("", place.is_first and not place.word, "", after_name)

    @staticmethod
    def _letter(place: _Place, letter: str) -> _Place | None:
        if place.word:
            return place._replace(word=place.word + letter) if letter.islower() else None
        if place.capital:
            fits = letter.islower() and not place.capital.endswith("+")  # with a space after another word
        else:
            fits = letter == "I" or (letter.islower() and not place.is_first)
        return place._replace(word=letter.lower()) if fits else None

    def _fitting(self, place: _Place) -> tuple[Vocabulary, ...]:
        if not place.capital:
            return (self.own if place.after_name else self.common,)
        return (self.common, self.names) if place.is_first else (self.names,)


def _piece(tokenizer: Any, number: int) -> str:
    """The text of a token; parts of a character are no letters, and a line's end cannot come."""
    text: str = tokenizer.decode([number], clean_up_tokenization_spaces=False)
    return text.replace(CAPITAL, "\u00b7").replace(_END, f"{CAPITAL}{CAPITAL}")
