"""How good speech is, as numbers. Each metric is a plugin of kind ``metric``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from csmkit.errors import InputError
from csmkit.plugins import library
from csmkit.timing import Arrivals


def words(text: str) -> str:
    """Text as word errors are counted on it: lower case, words and apostrophes alone."""
    return " ".join(re.findall(r"[\w']+", text.lower().replace("’", "'")))


def word_error_rate(said: str | Sequence[str], heard: str | Sequence[str]) -> float:
    """Substituted, deleted and inserted words over the words that were said; 0 is perfect, it may exceed 1.

    Args:
        said: the text, or several, whose errors are then added up before dividing.
        heard: what was recognised, as many.

    Raises:
        InputError: unequal numbers of texts, or nothing said.
    """
    return float(library("jiwer", "eval").wer(*_pairs(said, heard)))


def character_error_rate(said: str | Sequence[str], heard: str | Sequence[str]) -> float:
    """As `word_error_rate`, over characters."""
    return float(library("jiwer", "eval").cer(*_pairs(said, heard)))


def latency(arrivals: Arrivals) -> dict[str, float | int | None]:
    """When sound came and whether it came in time, see `Arrivals.row`."""
    return arrivals.row()


def fake_metric(said: str | Sequence[str], heard: str | Sequence[str]) -> float:
    """The share of texts that are not equal to the letter: a metric without a library, for tests and as a template."""
    said, heard = _pairs(said, heard)
    return sum(s != h for s, h in zip(said, heard, strict=True)) / len(said)


def _pairs(said: str | Sequence[str], heard: str | Sequence[str]) -> tuple[list[str], list[str]]:
    first = [words(text) for text in ([said] if isinstance(said, str) else said)]
    second = [words(text) for text in ([heard] if isinstance(heard, str) else heard)]
    if len(first) != len(second):
        raise InputError(f"{len(first)} texts were said and {len(second)} heard: give as many of each")
    if not all(first):
        raise InputError("a text that was said has no words: leave it out, its error rate means nothing")
    return first, second
