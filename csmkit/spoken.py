"""From written text to what is said: without markup, with numbers, times, sums of money and short forms in words.

English. Numbers are spelled by num2words; what a number stands for is decided here, by the signs around it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from num2words import num2words

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
_LINE_MARK = re.compile(r"^\s*(?:#{1,6}|[-*+•>])\s+", re.MULTILINE)
_EMPHASIS = re.compile(r"[*`~|]+|(?<!\w)_+|_+(?!\w)")
_UNSPOKEN = ("So", "Sk", "Cf", "Cs", "Co", "Cn")  # symbols such as emoji, joiners, and what is no character

SHORT_FORMS = {
    "dr.": "doctor", "mr.": "mister", "mrs.": "missus", "ms.": "miz", "prof.": "professor", "e.g.": "for example",
    "i.e.": "that is", "etc.": "and so on", "vs.": "versus", "approx.": "about",
}  # fmt: skip
UNITS = {
    "km/h": "kilometers an hour", "mph": "miles an hour", "km": "kilometers", "cm": "centimeters",
    "mm": "millimeters", "kg": "kilograms", "ms": "milliseconds", "khz": "kilohertz", "hz": "hertz",
    "°c": "degrees celsius", "°f": "degrees fahrenheit", "°": "degrees", "%": "percent",
}  # fmt: skip
SIGNS = {"&": "and", "+": "plus", "=": "equals", "@": "at", "#": "number"}
MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_SHORT_FORM = re.compile(
    r"(?<![\w.])(?:" + "|".join(re.escape(form) for form in SHORT_FORMS) + r")(?!\w)", re.IGNORECASE
)
_SAINT, _STREET = re.compile(r"\bSt\.(?=\s[A-Z])"), re.compile(r"\bSt\.(?!\w)")
_ORDER = re.compile(r"\bno\.\s?(?=\d)", re.IGNORECASE)  # before a number alone: "No." is an answer
_DOTTED = re.compile(r"\b\d+(?:\.\d+){2,}\b")
_FRACTION = re.compile(r"\b(\d+)/(\d+)\b")
_MONEY = re.compile(rf"([$€£])\s?({_NUMBER})( (?:hundred|thousand|million|billion))?")
_TIME = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b(?!:)(?:\s?([ap])\.?m\b\.?)?", re.IGNORECASE)
_HOUR = re.compile(r"\b(1[0-2]|[1-9])\s?([ap])\.?m\b\.?", re.IGNORECASE)
_DATE = re.compile(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b")
_UNIT = re.compile(rf"(?<![\w.])({_NUMBER})\s?({'|'.join(re.escape(unit) for unit in UNITS)})(?!\w)", re.IGNORECASE)
_RANGE = re.compile(r"(?<=\d)\s?[–-]\s?(?=\d)")
_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b", re.IGNORECASE)
_YEAR = re.compile(r"(?<=\bin )(1[1-9]\d\d|20\d\d)\b(?!,?\d)", re.IGNORECASE)
_PLAIN = re.compile(rf"(?<![\w.])(-(?=\d))?({_NUMBER})")
_BRACKETED = re.compile(r"\s*[(\[]([^)\]]*)[)\]]")
_MONTHS = [
    "january", "february", "march", "april", "may", "june", "july",
    "august", "september", "october", "november", "december",
]  # fmt: skip


def speakable(text: str) -> str:
    """Strip markdown, addresses and emoji and join the lines; empty if nothing is left that has a sound."""
    plain = _ADDRESS.sub("", _LINK.sub(r"\1", text))
    plain = _EMPHASIS.sub("", _LINE_MARK.sub("", plain))
    plain = "".join(
        letter for letter in plain if letter.isspace() or unicodedata.category(letter) not in _UNSPOKEN or letter == "°"
    )
    plain = " ".join(plain.split())
    return plain if any(letter.isalnum() for letter in plain) else ""


def in_words(text: str) -> str:
    """Say numbers, times, dates, sums of money, units, signs, brackets and short forms in words.

    "Come at 10:30, it costs $3.50." becomes "Come at ten thirty, it costs three dollars and fifty cents.". Text without
    any of these is returned as it is.
    """
    for pattern, say in _SAYINGS:
        text = pattern.sub(say, text)
    for sign, word in SIGNS.items():
        text = text.replace(sign, f" {word} ")
    text = re.sub(r"\s+([,.;:!?])", r"\1", " ".join(text.split()))
    return re.sub(r",+(?=[,.;:!?])|^, ", "", text)


def cardinal(digits: str) -> str:
    """ "1,250.5" as words, without hyphens."""
    bare = digits.replace(",", "")
    words = num2words(float(bare) if "." in bare else int(bare))
    return words.replace("-", " ").replace(",", "")


def _time(match: re.Match[str]) -> str:
    hour, minute, half = int(match[1]), int(match[2]), match[3]
    if minute == 0:
        said = cardinal(str(hour)) + ("" if half else " o'clock" if 0 < hour <= 12 else " hundred")
    else:
        said = f"{cardinal(str(hour))} {'oh ' if minute < 10 else ''}{cardinal(str(minute))}"
    return f"{said} {half.lower()} m" if half else said


def _money(match: re.Match[str]) -> str:
    (coin, part), amount, scale = MONEY[match[1]], match[2].replace(",", ""), match[3] or ""
    whole, _, fraction = amount.partition(".")
    if scale or len(fraction) not in (0, 2):
        return f"{cardinal(amount)}{scale} {coin}s"
    said = f"{cardinal(whole)} {coin}{'' if whole == '1' else 's'}"
    if fraction and int(fraction):
        parts = {"penny": "pence"}.get(part, f"{part}s")
        said += f" and {cardinal(str(int(fraction)))} {part if int(fraction) == 1 else parts}"
    return said


def _date(match: re.Match[str]) -> str:
    day = num2words(int(match[3]), to="ordinal").replace("-", " ")
    return f"{_MONTHS[int(match[2]) - 1]} {day} {_year(match[1])}"


def _year(digits: str) -> str:
    return num2words(int(digits), to="year").replace("-", " ")


def _unit(match: re.Match[str]) -> str:
    word = UNITS[match[2].lower()]
    if match[1] == "1" and word.split()[0].endswith("s") and match[2].lower() != "hz":
        first, *rest = word.split()
        word = " ".join([first[:-1], *rest])
    return f"{cardinal(match[1])} {word}"


def _short_form(match: re.Match[str]) -> str:
    ends_sentence = match.end() == len(match.string)
    return SHORT_FORMS[match[0].lower()] + ("." if ends_sentence else "")


def _fraction(match: re.Match[str]) -> str:
    above, below = int(match[1]), int(match[2])
    names = {2: "half", 4: "quarter"}
    if not 1 < below <= 10 or above >= below:
        return f"{cardinal(match[1])} over {cardinal(match[2])}"
    name = names.get(below) or num2words(below, to="ordinal")
    return f"{cardinal(match[1])} {name if above == 1 else name + 's'}"


_SAYINGS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_SHORT_FORM, _short_form),
    (_SAINT, "saint"),
    (_STREET, "street"),
    (_ORDER, "number "),
    (_BRACKETED, lambda match: f", {match[1]}," if match[1].strip() else ""),
    (_DOTTED, lambda match: match[0].replace(".", " point ")),
    (_DATE, _date),
    (_TIME, _time),
    (_HOUR, lambda match: f"{cardinal(match[1])} {match[2].lower()} m"),
    (re.compile(r"(?<=\d):(?=\d)"), " "),
    (_FRACTION, _fraction),
    (_MONEY, _money),
    (_UNIT, _unit),
    (_RANGE, " to "),
    (_ORDINAL, lambda match: num2words(int(match[1]), to="ordinal").replace("-", " ")),
    (_YEAR, lambda match: _year(match[1])),
    (_PLAIN, lambda match: ("minus " if match[1] else "") + cardinal(match[2])),
    (re.compile(r"\band/or\b", re.IGNORECASE), "and or"),
    (re.compile(r"(?<=\w)/(?=\w)"), " or "),
)
