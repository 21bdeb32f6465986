"""Turns plain English text into spoken text: numbers, times, money, signs, addresses and short forms in words.

num2words spells the numbers; this module decides by the signs around a number what it means.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from csmkit.text import numbers as amounts
from csmkit.text.numbers import cardinal

SHORT_FORMS = {
    "dr.": "doctor", "mr.": "mister", "mrs.": "missus", "ms.": "miz", "prof.": "professor", "jr.": "junior",
    "sr.": "senior", "capt.": "captain", "gen.": "general", "gov.": "governor", "sen.": "senator", "rev.": "reverend",
    "mt.": "mount", "ave.": "avenue", "dept.": "department", "inc.": "incorporated", "ltd.": "limited",
    "e.g.": "for example", "i.e.": "that is", "etc.": "and so on", "vs.": "versus", "vs": "versus", "cf.": "compare",
    "approx.": "about", "a.k.a.": "also known as", "w/o": "without", "w/": "with", "24/7": "twenty four seven",
}  # fmt: skip
SIGNS = {
    "&": "and", "+": "plus", "=": "equals", "@": "at", "#": "number", "×": "times", "÷": "divided by", "−": "minus",
    "±": "plus or minus", "√": "the square root of", "≈": "is about", "≠": "is not", "≤": "is at most",
    "≥": "is at least", "→": "to", "π": "pi", "∞": "infinity", "§": "section", "№": "number", "²": "squared",
    "³": "cubed", "½": "one half", "¼": "one quarter", "¾": "three quarters", "%": "percent", "°": "degrees",
}  # fmt: skip
SPELLED = (
    "AI", "API", "ATM", "CEO", "CIA", "CPU", "EU", "FAQ", "FBI", "GPU", "ID", "IQ", "UFO", "UK", "UN", "URL", "USA",
    "USB",
)  # fmt: skip
_NOT_SPELLED = ("HM", "HMM", "MM", "PST", "SH", "SHH", "ST", "MR", "MRS", "DR", "MS")
_ENDINGS = "com|org|net|edu|gov|io|ai|dev|app|uk|de|fr|eu|ca|au|ch|info"

_SHORT_FORM = re.compile(
    r"(?<![\w./])(?:" + "|".join(re.escape(form) for form in sorted(SHORT_FORMS, key=len, reverse=True)) + r")(?!\w)",
    re.IGNORECASE,
)
_STREET_OF_A_NAME = re.compile(r"(?:(?<=[a-z,] )[A-Z][a-z]+|\d+(?:st|nd|rd|th))\sSt\.(?!\w)")
_SAINT, _STREET = re.compile(r"\bSt\.(?=\s[A-Z])"), re.compile(r"\bSt\.(?!\w)")
_TITLE = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof)(?=\s[A-Z])")
_SENTENCE_ENDS = re.compile(r"\s*$|\s+[A-Z]")
_RATE = re.compile(r"(?<=\w)/(?=(?:second|minute|hour|day|night|week|month|year|person|kilo)\b)", re.IGNORECASE)
_MONTH = re.compile(r"\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?(?=\s\d)")
_ORDER = re.compile(r"\bno\.\s?(?=\d)", re.IGNORECASE)  # before a number alone: "No." is an answer
_BRACKETED = re.compile(r"\s*[(\[{]([^()\[\]{}]*)[)\]}]")
_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_HOST = re.compile(rf"\b(?:[\w-]+\.)+(?:{_ENDINGS})\b(?:/[\w/-]*)?", re.IGNORECASE)
_INITIALS = re.compile(r"\b(?:[A-Za-z]\.){2,}")
_CAPITALS = re.compile(rf"\b(?:{'|'.join(SPELLED)}|[B-DF-HJ-NP-TV-XZ]{{2,4}})\b")
_LETTER_OR_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")

Saying = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def in_words(text: str) -> str:
    """Replace numbers, times, dates, money, units, signs, addresses, brackets and short forms by words.

    "Come at 10:30, it costs $3.50." becomes "Come at ten thirty, it costs three dollars and fifty cents.". Text without
    any of these is returned unchanged; the result never has a digit.
    """
    for pattern, say in _SAYINGS:
        text = pattern.sub(say, text)
    for sign, word in SIGNS.items():
        text = text.replace(sign, f" {word} ")
    text = re.sub(r"\s+([,.;:!?])", r"\1", " ".join(text.split()))
    return re.sub(r",+(?=[,.;:!?])|^, |\.(?=,)", "", text)


def in_latin_letters(text: str) -> str:
    """A text without its words of other alphabets; empty if no letter and no digit is left."""
    words = text.split()
    kept = [word for word in words if not is_of_another_alphabet(word)]
    if len(kept) == len(words):
        return text
    return " ".join(kept) if any(letter.isalnum() for word in kept for letter in word) else ""


def is_of_another_alphabet(word: str) -> bool:
    """Whether a word has letters, none of them Latin."""
    letters = [letter for letter in word if letter.isalpha()]
    return bool(letters) and not any("LATIN" in unicodedata.name(letter, "") for letter in letters)


def _short_form(match: re.Match[str]) -> str:
    form, rest = match[0].lower(), match.string[match.end() :]
    ends_sentence = _SENTENCE_ENDS.match(rest) if form == "etc." else form.endswith(".") and not rest
    return SHORT_FORMS[form] + ("." if ends_sentence else "")


def _street(match: re.Match[str]) -> str:
    ends_sentence = _SENTENCE_ENDS.match(match.string[match.end() :])
    return match[0].removesuffix("St.") + ("street." if ends_sentence else "street")


def _bracketed(match: re.Match[str]) -> str:
    return f", {match[1].strip()}," if match[1].strip() else ""


def _address(match: re.Match[str]) -> str:
    words = match[0].partition("/")[0]
    for sign, word in (("@", "at"), (".", "dot"), ("_", "underscore"), ("-", "dash"), ("+", "plus")):
        words = words.replace(sign, f" {word} ")
    return " ".join(words.split())


def _initials(match: re.Match[str]) -> str:
    ends_sentence = match.end() == len(match.string)
    return match[0].replace(".", " ").strip() + ("." if ends_sentence else "")


def _capitals(match: re.Match[str]) -> str:
    return match[0] if match[0] in _NOT_SPELLED else " ".join(match[0])


def _month(match: re.Match[str]) -> str:
    return next(month for month in amounts.MONTHS if month.startswith(match[1][:3]))


# Applied in this order: money, dates and units must be found before their numbers are turned into words.
_SAYINGS: tuple[Saying, ...] = (
    (_SHORT_FORM, _short_form),
    (_TITLE, lambda match: SHORT_FORMS[f"{match[1].lower()}."]),
    (_STREET_OF_A_NAME, _street),
    (_SAINT, "saint"),
    (_STREET, _street),
    (_MONTH, _month),
    (_ORDER, "number "),
    (amounts.PHONE, amounts.phone),
    (_BRACKETED, _bracketed),
    (re.compile(r"[()\[\]{}]"), ", "),  # single ones: the other half is in another clause
    (_MAIL, _address),
    (_HOST, _address),
    (re.compile(r"(?<=\d)\s?½"), " 1/2"),
    (amounts.DATE, amounts.date),
    (amounts.SLASH_DATE, amounts.slash_date),
    (amounts.DOTTED, lambda match: match[0].replace(".", " point ")),
    (amounts.DAY_OF_MONTH, amounts.day_of_month),
    (re.compile(r"(?<=\d)\.(?=[0-5]\d\s?[ap]\.?m\b)", re.IGNORECASE), ":"),
    (re.compile(r"(?<=[ap]m)\s?[–-]\s?(?=\d)", re.IGNORECASE), " to "),
    (amounts.TIME, amounts.time),
    (amounts.HOUR, lambda match: f"{cardinal(match[1])} {match[2].lower()} m"),
    (_INITIALS, _initials),
    (re.compile(r"(?<=\d):(?=\d)"), " "),
    (amounts.FRACTION, amounts.fraction),
    (re.compile(r"(?<![\w)])[-−](?=[$€£¥]?\.?\d)"), "minus "),
    (re.compile(r"(?<=\d) - (?=\d)"), " minus "),
    (re.compile(r"~(?=[$€£¥]?\d)"), "about "),
    (re.compile(r"(?<=\w)\^2\b"), " squared"),
    (re.compile(r"(?<=\w)\^"), " to the power of "),
    (amounts.PRICES, amounts.prices),
    (amounts.PRICE, amounts.price),
    (amounts.PRICE_AFTER, amounts.price_after),
    (amounts.DECADE, amounts.decade),
    (amounts.UNIT, amounts.unit),
    (re.compile(r"(?<=\d)k\b"), " thousand"),
    (re.compile(r"(?<=\d)\s?x\s?(?=\d)"), " by "),
    (re.compile(r"(?<=\d)x\b"), " times"),
    (re.compile(r"(?<=\d)\s?[–-]\s?(?=\d)"), " to "),
    (amounts.ORDINAL, lambda match: amounts.ordinal(match[1])),
    (amounts.YEAR, lambda match: amounts.year(match[1])),
    (_LETTER_OR_DIGIT, " "),
    (amounts.PLAIN, lambda match: cardinal(match[1])),
    (re.compile(r"\d+"), lambda match: cardinal(match[0])),
    (_CAPITALS, _capitals),
    (re.compile(r"\band/or\b", re.IGNORECASE), "and or"),
    (_RATE, " per "),
    (re.compile(r"(?<=\w)/(?=\w)"), " or "),
    (re.compile(r"(?<=\w )<(?= \w)"), "is less than"),
    (re.compile(r"(?<=\w )>(?= \w)"), "is greater than"),
    (re.compile(r"[_\\<>|~^*]"), " "),
)
