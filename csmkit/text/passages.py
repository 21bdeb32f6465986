"""Cuts a text of any length into passages, each for one generation of a voice."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from csmkit.text.markup import speakable
from csmkit.text.normalize import in_latin_letters, in_words, is_of_another_alphabet

_PARAGRAPH_END = re.compile(r"\n\s*\n|\n(?=\s*(?:#{1,6}|[-*+•>]|\d+[.)])\s)")  # a blank line, or before a list item
_SENTENCE_END = re.compile(r"""(?<=[.!?…])\s+|(?<=[.!?…]["'”’])\s+""")
_PAUSES = ",;:–—"
_SHOWN_LETTERS = 40  # letters of an unspeakable text in a message


def spoken_text(text: str) -> str:
    """A text as it is spoken: without markup, numbers and signs in words, words of other alphabets left out.

    Returns:
        The text unchanged if it has none of these; empty if nothing of it can be spoken.
    """
    return in_latin_letters(in_words(speakable(text)))


def unspeakable(text: str) -> str:
    """The words of a text, separated by blanks, that `spoken_text` leaves out: those without Latin letters."""
    return " ".join(word for word in in_words(speakable(text)).split() if is_of_another_alphabet(word))


def cut_passages(text: str, most_words: int, most_sentences: int | None = None) -> Iterator[str]:
    """Cut a text at the ends of its sentences, as few times as the limits allow.

    A sentence that is too long by itself is cut at a comma, else between words.

    Args:
        text: the written text, of any length; only as much as the passages need is processed.
        most_words: spoken words of a passage, at least 1; "1,250" counts as all the words it is spoken as.
        most_sentences: sentences of a passage; None for as many as fit.

    Yields:
        Passages as `spoken_text` returns them; none if nothing can be spoken.
    """
    passage: list[str] = []
    n_words = 0
    for sentence in _sentences(text):
        for piece in _pieces(sentence, most_words):
            n_more = len(piece.split())
            if passage and (n_words + n_more > most_words or len(passage) == most_sentences):
                yield " ".join(passage)
                passage, n_words = [], 0
            passage.append(piece)
            n_words += n_more
    if passage:
        yield " ".join(passage)


def _sentences(text: str) -> Iterator[str]:
    """The sentences of a text as they are spoken; the end of a paragraph ends a sentence, too.

    The text is split after numbers and short forms are in words: "Dr." and "3.50" have no full stop any more.
    """
    for paragraph in _PARAGRAPH_END.split(text):
        spoken = spoken_text(paragraph)
        yield from filter(None, _SENTENCE_END.split(spoken))


def _pieces(sentence: str, most_words: int) -> Iterator[str]:
    """A sentence in pieces of at most ``most_words`` words: cut at a comma if there is one, else evenly."""
    words = sentence.split()
    while len(words) > most_words:
        breaks = [n for n in range(1, most_words + 1) if words[n - 1][-1] in _PAUSES]
        n_cut = breaks[-1] if breaks else math.ceil(len(words) / math.ceil(len(words) / most_words))
        yield " ".join(words[:n_cut])
        words = words[n_cut:]
    yield " ".join(words)


def shortened(text: str) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}…"
