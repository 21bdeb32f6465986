"""The many ways people type a phrase."""

from __future__ import annotations

import random
import re

from num2words import num2words

_BEFORE = (
    "hey, ", "hi, ", "so, ", "well, ", "um, ", "ok, ", "hello, ", "and ", "now ", "oh, ", "but ", "please ", "okay, ",
    "hey pocket, ", "pocket, ", "by the way, ", "actually, ", "so ", "well ", "oh ", "anyway, ", "hmm, ", "listen, ",
    "you know, ", "um ", "uh, ", "yes, ", "no, ", "okay so ", "thanks, ", "i see, ", "cool, ", "honestly, ", "just ",
    "ha, ", "haha, ", "aw, ", "oh i see, ", "right, ", "right. ", "alright, ", "ok so ", "yeah, ", "cool. ", "great. ",
    "ok. ",
)  # fmt: skip
_AFTER = (
    " please",
    " then",
    " today",
    " my friend",
    " pocket",
    " now",
    " you know",
    " right",
    " lol",
    " by the way",
    ", by the way",
    " though",
    " haha",
    " again",
    ", ok",
)
_QUESTION = re.compile(
    r"(\w+, )?(what|who|where|when|why|how|which|do|does|is|are|can|will|should|have|did|would|am|could|was|were)\b"
)
_VALUES = {num2words(value).replace("-", " "): value for value in range(2, 100)}
_NUMBER = re.compile(rf"\b({'|'.join(sorted(_VALUES, key=len, reverse=True))})\b")
_ARTICLE = re.compile(r"\ban? (?=([a-z]))")
_SHORT = (
    ("i'm", "i am"), ("what's", "what is"), ("don't", "do not"), ("you're", "you are"), ("it's", "it is"),
    ("can't", "cannot"), ("i've", "i have"), ("that's", "that is"), ("how's", "how is"), ("favorite", "favourite"),
    ("going to", "gonna"), ("want to", "wanna"), ("because", "cause"), ("doesn't", "does not"), ("isn't", "is not"),
)  # fmt: skip


def as_typed(text: str, rng: random.Random) -> str:
    """The many ways people type a phrase: marks, greetings and please, short and long forms, or none of it."""
    for short, long in _SHORT:
        if rng.random() < 0.12:
            text = re.sub(rf"\b{short}\b", long, text)
        elif rng.random() < 0.12:
            text = re.sub(rf"\b{long}\b", short, text)
    text = text.replace(" '", "'")
    if rng.random() < 0.35:
        text = _NUMBER.sub(lambda match: str(_VALUES[match[0]]), text)
    text = _ARTICLE.sub(lambda match: "an " if match[1] in "aeiou" else "a ", text)
    mark = _mark(text, rng)
    draw = rng.random()
    if draw < 0.14 and len(text.split()) < 12:
        text = rng.choice(_BEFORE) + text
    elif draw < 0.19:
        text += rng.choice(_AFTER)
    if rng.random() < 0.08:
        text = text.replace("'", "")
    if rng.random() < 0.05:
        text = text.replace(",", "")
    return text if text[-1:] == "?" else text + mark


def _mark(text: str, rng: random.Random) -> str:
    asks = _QUESTION.match(text)
    marks, weights = (("?", "", "??", "."), (6, 4, 0.3, 0.3)) if asks else (("", ".", "!", "?"), (4, 5, 1, 0.3))
    return rng.choices(marks, weights)[0]
