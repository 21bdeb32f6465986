"""Decoding for a model that lists its words: an answer holds no others but those of the conversation.

A miniature model spells a name that it has not seen from several tokens, and may take a wrong one for the first, or
stop in the middle. Here only those tokens may come next that continue or end a word which there is, and a word with a
capital inside a sentence is a name: one of the list's, or a word of the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import combining, normalize

from csmkit.llm.contract import Message

if TYPE_CHECKING:
    import torch

FILE = "answer_words.txt"
"""In a checkpoint's directory: the words that its answers are made of, one a line, each with those that may follow it
in a sentence. Those with a capital have it inside a sentence too; others begin with one only where a sentence does."""
COPIED = "*"
"""Among these words: any word of the conversation."""
CAPITAL = "\ufffd"
"""The token that marks the capital of the word after it."""
DOUBT = 3.0
"""How much less probable, in natural logarithms, a name becomes that is no strange word of the conversation. Where the
model is sure that somebody is called Mark, it still says so; where it is not, a name it does not know is likelier."""
N_TRIED = 50
"""The most probable tokens that are looked at; more only while none of them may come next."""
_END = "\n"  # of an answer; no line ends within one
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
        words: words of its answers, each with those that may follow it; with a capital if one has it inside a sentence.
        tokenizer: transformers' tokenizer of the model.
    """

    def __init__(self, words: Mapping[str, Iterable[str]], tokenizer: Any) -> None:
        self._common = Vocabulary(word for word in words if word.islower())
        self._names = Vocabulary(word.lower() for word in words if not word.islower() and word != COPIED)
        self._after = dict.fromkeys((word.lower() for word in words), frozenset[str]())
        for word, after in words.items():  # "a pocket" and "Pocket" are one here
            self._after[word.lower()] |= frozenset(name.lower() for name in after)
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
        if not path.is_file():
            return None
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line]
        return cls({word: after for word, *after in rows}, tokenizer)

    def begin(self, messages: Sequence[Message]) -> Spelling:
        """An answer to a conversation, nothing said yet."""
        said = heard_in(" ".join(message["content"] for message in messages if message["role"] != "assistant"))
        heard = Vocabulary(said | {f"{word}'s" for word in said if "'" not in word})
        strange = Vocabulary(said - self._common.words)
        return Spelling(self._common | heard, self._names | heard, heard, strange, self._after, self._pieces)


class _Place(NamedTuple):
    """Where an answer is: the letters of the word it is in, and what the word may be."""

    word: str = ""
    is_first: bool = True  # of its sentence
    capital: str = ""  # CAPITAL, then perhaps its space, before a word begins; or the mark of a word that has begun so
    after_name: bool = False  # whether only a space is between a name and this place
    last: str = ""  # the word before, in the same sentence


@dataclass
class Spelling:
    """The word that an answer is in the middle of, and what may follow. It belongs to one stream.

    Attributes:
        common: words that may be said in small letters.
        names: words that may be said with a capital inside a sentence.
        heard: words of the conversation.
        strange: those of them that the list does not have.
        after: the words that may follow each word of the list, and each that is copied; right after a name only these,
            for what else the conversation has there belongs to no name ("Denver three weeks ago").
        pieces: the text of each token.
    """

    common: Vocabulary
    names: Vocabulary
    heard: Vocabulary
    strange: Vocabulary
    after: Mapping[str, frozenset[str]]
    pieces: Sequence[str]
    place: _Place = field(default_factory=_Place)
    _kept: dict[tuple[str, bool], Vocabulary] = field(default_factory=dict)

    def add(self, token: int) -> None:
        """Say a token that may come next."""
        self.place = self._after(token) or self.place

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of shape (tokens,) with minus infinity for what may not come next, and for what is improbable."""
        import torch

        doubts: dict[int, float] = {}
        ends_name = False  # what the model would say next belongs to no name: then a mark follows
        for number, token in enumerate(logits.argsort(descending=True).tolist()):
            if number >= N_TRIED and doubts:
                break
            place = self._after(token)
            ends_name = ends_name or (number == 0 and place is None and self._in_name and self._is_whole(self.place))
            if place is not None and not (ends_name and place.word):
                doubts[token] = DOUBT if self._is_doubtful(place) else 0.0
        if not doubts:  # no word of the list can follow
            return logits
        tokens = torch.tensor(list(doubts), device=logits.device)
        restricted = torch.full_like(logits, -torch.inf)
        restricted[tokens] = logits[tokens] - torch.tensor(list(doubts.values()), device=logits.device)
        return restricted

    @property
    def _in_name(self) -> bool:
        return bool(self.place.word and self.place.capital) and not self.place.is_first

    def _is_whole(self, place: _Place) -> bool:
        word = place.word.rstrip("'")
        follows = not place.last or word in self._that_follow(place).words
        return follows and any(word in words.words for words in self._fitting(place))

    def _that_follow(self, place: _Place) -> Vocabulary:
        """The words that may follow the last one; kept, for an answer asks for the same often."""
        key = place.last, place.after_name and not place.capital
        if key not in self._kept:
            words = self.after.get(place.last, frozenset())
            if place.last in self.heard.words:
                words |= self.after.get(COPIED, frozenset())
            self._kept[key] = Vocabulary(words) | self.heard if COPIED in words and not key[1] else Vocabulary(words)
        return self._kept[key]

    def _is_doubtful(self, place: _Place) -> bool:
        is_name = bool(place.word and place.capital) and not place.is_first
        return is_name and place.word not in self.strange.beginnings

    def _after(self, token: int) -> _Place | None:
        place: _Place | None = self.place
        for letter in self.pieces[token]:
            place = self._step(place, letter)
            if place is None:
                return None
        if place.word and not any(place.word in words.beginnings for words in self._fitting(place)):
            return None
        if place.word and place.last and place.word not in self._that_follow(place).beginnings:
            return None
        if place.after_name and place.word in self.strange.beginnings and place.word not in self.after:
            return None
        return place

    def _step(self, place: _Place, letter: str) -> _Place | None:
        """The place after one more letter; None if it cannot come next."""
        if letter.isascii() and letter.isalpha():
            return self._letter(place, letter)
        if letter == "'" and place.word:
            return place._replace(word=place.word + letter)
        if place.word and not self._is_whole(place):
            return None
        waits = place.capital and not place.word
        if letter == CAPITAL:
            if waits:
                return None
            last = place.word or place.last
            return _Place("", place.is_first and not place.word, f"{letter}{'+' if place.word else ''}", False, last)
        if waits:
            fits = letter == " " and place.capital[1:] != " "
            return place._replace(capital=f"{CAPITAL} ") if fits else None
        if letter in ".!?":
            return _Place()
        after_name = letter == " " and bool(place.word and place.capital) and not place.is_first
        return _Place("", place.is_first and not place.word, "", after_name, place.word or place.last)

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
            return (self.common,)
        return (self.common, self.names) if place.is_first else (self.names,)


def _piece(tokenizer: Any, number: int) -> str:
    """The text of a token; parts of a character are no letters, and a line's end cannot come."""
    text: str = tokenizer.decode([number], clean_up_tokenization_spaces=False)
    return text.replace(CAPITAL, "\u00b7").replace(_END, f"{CAPITAL}{CAPITAL}")
