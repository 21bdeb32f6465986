"""Decoding for a model that lists its sentences: its answers hold only these, with words of the conversation in them.

A miniature model that does not understand a line may begin one sentence and end another, or copy half a name. Here a
token may come next only if a listed sentence goes on with it. Where a sentence has a place for what the user has said,
it takes words that stand side by side in one message; where it has one for a name, they begin with a capital.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import combining, normalize

from csmkit.llm.contract import Message
from csmkit.text.numbers import cardinal

if TYPE_CHECKING:
    import torch

FILE = "answer_sentences.txt"
"""In a checkpoint's directory: the sentences of its answers, one a line; two that belong together stand in one."""
NAME, WORDS, NUMBER = "<name>", "<words>", "<number>"
"""The places in a sentence: for a name that the user has said, for other words of the user, for zero to twenty."""
CAPITAL = "\ufffd"
"""The token before a word with a capital. Programs that write an answer as it comes wait after this character, which
otherwise stands for an unfinished one; so no half-written capital is ever seen."""
N_TRIED = 20
"""The most probable tokens that are looked at; more only while none of them may come next."""
MOST_WORDS = 6
"""How many words of the user a place in a sentence takes."""
OPEN = frozenset((
    "a", "an", "the", "my", "your", "his", "our", "their", "its", "i", "we", "he", "she", "they", "and", "or", "but",
    "not", "no", "at", "to", "of", "for", "from", "with", "by", "into", "near", "behind", "under", "between", "so",
    "very", "just", "only", "really", "mr", "mrs", "ms", "dr",
))  # fmt: skip
"""Small words after which more has to come."""
NO_NAMES = OPEN | {
    "this", "that", "it", "you", "me", "him", "her", "us", "them", "in", "on", "about", "too", "here", "there",
}  # fmt: skip
"""Small words that no name begins with."""
_END = "\n"  # of an answer; no line ends within one
_PLACES = {NAME: "\x01", WORDS: "\x02", NUMBER: "\x03"}
_INNER_CAPITAL = re.compile(r"(?<=[a-z,;:] )[A-Z][a-z]+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


class Texts:
    """Texts in order, to find what they begin with."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = sorted(set(texts))

    def has(self, text: str) -> bool:
        """Whether it is one of them."""
        place = bisect_left(self._texts, text)
        return place < len(self._texts) and self._texts[place] == text

    def begin(self, text: str) -> bool:
        """Whether one of them begins with it."""
        place = bisect_left(self._texts, text)
        return place < len(self._texts) and self._texts[place].startswith(text)


NUMBERS = Texts(f" {cardinal(str(value))}" for value in range(21))


def words_in(text: str) -> list[str]:
    """The words of a text, lower case: letters a to z without accents, numbers below 1000 spelled out."""
    plain = "".join(letter for letter in normalize("NFD", text.lower()) if not combining(letter))
    spelled = re.sub(r"\d{1,3}(?!\d)", lambda number: f" {cardinal(number[0])} ".replace("-", " "), plain)
    return _WORD.findall(spelled.replace("\u2019", "'"))


def phrases_in(text: str) -> Iterator[tuple[str, ...]]:
    """Words that stand side by side in a text, as an answer says them: "my" is "your", and "isla's" may mean Isla."""
    words = words_in(text)
    said = ["your" if word == "my" else word for word in words]
    for first in range(len(said)):
        for last in range(first, min(first + MOST_WORDS, len(said))):
            yield tuple(said[first : last + 1])
            for ending in ("'s", "s"):
                if words[last].endswith(ending) and len(words[last]) > len(ending):
                    yield (*said[first:last], words[last].removesuffix(ending))


class AnswerSentences:
    """The sentences of a model's answers, and its tokens as text.

    Args:
        sentences: the lines of ``answer_sentences.txt``, with `NAME`, `WORDS` and `NUMBER` where a place is.
        tokenizer: transformers' tokenizer of the model.
    """

    def __init__(self, sentences: Sequence[str], tokenizer: Any) -> None:
        normalizer = tokenizer.backend_tokenizer.normalizer
        self._read: Callable[[str], str] = normalizer.normalize_str if normalizer else str
        self._sentences = Texts(_marked(self._read(f" {sentence}")) for sentence in sentences)
        self._common = {word.replace("'", "") for sentence in sentences for word in words_in(sentence)}
        special = set(tokenizer.all_special_ids)
        raw = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self._pieces = [
            CAPITAL if token == CAPITAL else _END if number in special else _piece(tokenizer, number)
            for number, token in enumerate(raw)
        ]

    @classmethod
    def of_checkpoint(cls, directory: str | Path, tokenizer: Any) -> AnswerSentences | None:
        """The sentences that a checkpoint lists; None without such a file."""
        path = Path(directory) / FILE
        return cls(path.read_text(encoding="utf-8").splitlines(), tokenizer) if path.is_file() else None

    def begin(self, messages: Sequence[Message]) -> Answer:
        """An answer to a conversation, nothing said yet."""
        texts = [message["content"] for message in messages if message["role"] != "assistant"]
        said = {phrase for text in texts for phrase in phrases_in(text)}
        capitals = {word for text in texts for word in words_in(" ".join(_INNER_CAPITAL.findall(text)))}
        words = Texts(_said(phrase) for phrase in said if phrase[-1] not in OPEN)
        names = Texts(_said(phrase) for phrase in said if self._may_be_name(phrase, capitals))
        fillings = {_PLACES[NAME]: names, _PLACES[WORDS]: words, _PLACES[NUMBER]: NUMBERS}
        return Answer(self._sentences, fillings, self._pieces)

    def hold(self, messages: Sequence[Message], answer: str) -> bool:
        """Whether an answer to a conversation is made of the sentences alone."""
        return self.begin(messages).goes_on(f"{self._read(answer)}{_END}")

    def _may_be_name(self, phrase: tuple[str, ...], capitals: set[str]) -> bool:
        """Whether nothing that only stands beside a name is in it, such as a word of the list after the first one.

        A word of the list alone, such as Hope, is a name where the user wrote it with a capital inside a sentence.
        """
        first, *others = phrase
        if first.partition("'")[0] in NO_NAMES or self._is_common(f"{phrase[-1]}s"):  # "i'm"; "minu", of "minus"
            return False
        if not others and self._is_common(first) and first not in capitals:
            return False
        return not any(map(self._is_common, others))

    def _is_common(self, word: str) -> bool:
        return word.replace("'", "") in self._common


class _Reading(NamedTuple):
    """One way to read what an answer has said of the sentence that it is in."""

    sentence: str = ""  # a place filled or begun is its sign
    place: str = ""  # the sign of the place that it is in
    words: str = ""  # what it said there, without capitals, each word after a space
    capital: bool = False  # whether the last thing was the sign of a capital


@dataclass
class Answer:
    """What an answer has said, and what may follow. It belongs to one stream.

    Attributes:
        sentences: those of the list.
        fillings: what may stand in each place.
        pieces: the text of each token.
        readings: the ways to read the sentence that the answer is in.
    """

    sentences: Texts
    fillings: dict[str, Texts]
    pieces: Sequence[str]
    readings: tuple[_Reading, ...] = (_Reading(),)

    def add(self, token: int) -> None:
        """Take a token as said; one that may not come next changes nothing."""
        self.readings = self._after(self.pieces[token]) or self.readings

    def goes_on(self, text: str) -> bool:
        """Whether a text, capitals after their sign, may come next."""
        return bool(self._after(text))

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of shape (tokens,) with minus infinity for what may not come next, and for what is improbable."""
        import torch

        kept: list[int] = []
        for number, token in enumerate(logits.argsort(descending=True).tolist()):
            if number >= N_TRIED and kept:
                break
            if self.goes_on(self.pieces[token]):
                kept.append(token)
        if not kept:  # no sentence of the list can go on: then anything may be said
            return logits
        restricted = torch.full_like(logits, -torch.inf)
        restricted[kept] = logits[kept]
        return restricted

    def _after(self, text: str) -> tuple[_Reading, ...]:
        """The ways to read the answer with more text; none if that may not come next."""
        readings = self.readings
        if readings == (_Reading(),) and text != _END:  # the space before the first word is not written
            text = f"{CAPITAL} {text[1:]}" if text.startswith(CAPITAL) else f" {text}"
        for letter in text:
            readings = tuple(after for reading in readings for after in self._step(reading, letter))
            if not readings:
                break
        return readings

    def _is_whole(self, reading: _Reading) -> bool:
        return not reading.place and self.sentences.has(reading.sentence)

    def _step(self, reading: _Reading, letter: str) -> Iterator[_Reading]:
        """The ways to go on with one letter or mark, or with the end, which changes nothing."""
        if letter == _END:
            if self._is_whole(reading):
                yield reading
            return
        if reading.place:
            yield from self._within(reading, letter)
            if reading.capital or not self.fillings[reading.place].has(reading.words):
                return
        sentence = reading.sentence
        if self._is_whole(reading):
            yield from self._next_of("", letter)
        yield from self._next_of(sentence, letter)

    def _next_of(self, sentence: str, letter: str) -> Iterator[_Reading]:
        if self.sentences.begin(sentence + letter):
            yield _Reading(sentence + letter)
        for place in _PLACES.values():
            if self.sentences.begin(sentence + place):
                yield from self._within(_Reading(sentence + place, place), letter)

    def _within(self, reading: _Reading, letter: str) -> Iterator[_Reading]:
        """The ways to go on inside a place."""
        filling = self.fillings[reading.place]
        if letter == CAPITAL:
            is_first = reading.place == _PLACES[WORDS] and not reading.words
            may_have_one = reading.place == _PLACES[NAME] or is_first or self._opens(reading)
            if may_have_one and not reading.capital and filling.begin(f"{reading.words} "):
                yield reading._replace(capital=True)
            return
        needs_one = letter == " " and (reading.place == _PLACES[NAME] or self._opens(reading))
        if reading.capital != needs_one and (needs_one or letter != " "):
            return
        if filling.begin(reading.words + letter):
            yield reading._replace(words=reading.words + letter, capital=False)

    @staticmethod
    def _opens(reading: _Reading) -> bool:
        """Whether the next word is the first of its sentence."""
        return len(reading.sentence) == 1 and not reading.words


def _said(phrase: tuple[str, ...]) -> str:
    return "".join(f" {word}" for word in phrase)


def _marked(sentence: str) -> str:
    """A sentence whose places are signs, each with the space before it."""
    for place, sign in _PLACES.items():
        sentence = sentence.replace(f" {place}", sign)
    return sentence


def _piece(tokenizer: Any, number: int) -> str:
    """The text of a token; parts of a character are no letters, and a line's end cannot come."""
    text: str = tokenizer.decode([number], clean_up_tokenization_spaces=False)
    return text.replace(CAPITAL, "\u00b7").replace(_END, f"{CAPITAL}{CAPITAL}")
