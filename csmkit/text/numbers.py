"""Numbers and what is counted with them, in words: money, units, dates, times, years, fractions.

Each function turns one match of its pattern into words; `csmkit.text.normalize` applies them in order. num2words spells
the numbers.
"""

from __future__ import annotations

import re

from num2words import num2words

UNITS = {
    "km/h": "kilometers an hour", "mph": "miles an hour", "m/s": "meters a second", "km": "kilometers", "m": "meters",
    "cm": "centimeters", "mm": "millimeters", "mi": "miles", "ft": "feet", "kg": "kilograms", "g": "grams",
    "mg": "milligrams", "lb": "pounds", "lbs": "pounds", "oz": "ounces", "l": "liters", "ml": "milliliters",
    "min": "minutes", "mins": "minutes", "hr": "hours", "hrs": "hours", "h": "hours", "s": "seconds", "sec": "seconds",
    "ms": "milliseconds", "khz": "kilohertz", "mhz": "megahertz", "ghz": "gigahertz", "hz": "hertz",
    "kb": "kilobytes", "mb": "megabytes", "gb": "gigabytes", "tb": "terabytes", "kw": "kilowatts", "w": "watts",
    "v": "volts", "°c": "degrees celsius", "°f": "degrees fahrenheit", "°": "degrees", "%": "percent",
}  # fmt: skip
MONEY = {
    "$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen"),
    "₹": ("rupee", "paisa"), "¢": ("cent", ""),
}  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
_SINGULAR = {"feet": "foot", "percent": "percent"}
_MOST_DIGITS = 15  # a longer number is an identifier

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+)"
_SIGN = "[" + "".join(MONEY) + "]"
_SCALE = r"(?:\s?(hundred|thousand|million|billion|trillion|k|mn?|bn?|tn)\b)?"
_DAY = r"(0?[1-9]|[12]\d|3[01])"
_NAMES = "|".join(MONTHS)
_HALF = r"\s?([ap])\.?m\b(?:\.(?!$|\s+(?-i:[A-Z])))?"  # am or pm; a full stop that ends the sentence is kept

PHONE = re.compile(r"(?<![\w-])(?:\+\d{1,3}[\s-])?(?:\(\d{3}\)\s?|\d{3}[\s-])?\d{3}-\d{4}(?![\w-])")
DOTTED = re.compile(r"\b\d+(?:\.\d+){2,}\b")
DATE = re.compile(rf"\b(\d{{4}})-(0[1-9]|1[0-2])-{_DAY}\b")
SLASH_DATE = re.compile(rf"\b{_DAY}([/.]){_DAY}\2((?:1[5-9]|20)\d\d)\b")
DAY_OF_MONTH = re.compile(rf"\b({_NAMES})\s{_DAY}(?:st|nd|rd|th)?\b(?!:)(?:,?\s(\d{{4}})\b)?")
TIME = re.compile(rf"\b([01]?\d|2[0-3]):([0-5]\d)(?![\d:])(?:{_HALF})?", re.IGNORECASE)
HOUR = re.compile(rf"\b(1[0-2]|[1-9]){_HALF}", re.IGNORECASE)
FRACTION = re.compile(r"(?<![\w/.])(?:(\d+)\s)?(\d+)/(\d+)(?![\w/]|\.\d)")
PRICES = re.compile(rf"({_SIGN})\s?({_NUMBER})\s?[–-]\s?\1?({_NUMBER}){_SCALE}", re.IGNORECASE)
PRICE = re.compile(rf"(?:\b[A-Z]{{1,3}})?({_SIGN})\s?({_NUMBER}){_SCALE}", re.IGNORECASE)
PRICE_AFTER = re.compile(rf"(?<![\w.])({_NUMBER})\s?({_SIGN})(?!\d)")
UNIT = re.compile(
    rf"(?<![\w.])({_NUMBER})\s?({'|'.join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))})"
    r"([²³]?)(?![\w&]|['’]\w)(?:\.(?=,|\s(?-i:[a-z])))?",
    re.IGNORECASE,
)
ORDINAL = re.compile(r"\b(\d{1,15})(?:st|nd|rd|th)\b", re.IGNORECASE)
_THESE = "".join(f"|(?<={word})" for word in ("the ", "her ", "his ", "my ", "heir ", "our ", "arly ", "late ", "id-"))
DECADE = re.compile(rf"(?<!\w)(?:['’]|(1[1-9]|20){_THESE}(?=[2-9]))(\d0)['’]?s\b")
YEAR = re.compile(r"(?<![\w.,])(1[1-9]\d\d|20\d\d)(?![\w,]*\d|\.\d)")
PLAIN = re.compile(rf"(?<![\w.])({_NUMBER})")


def cardinal(digits: str) -> str:
    """ "1,250.5" as words, without hyphens; "007" and numbers of more than 15 digits digit by digit."""
    bare = digits.replace(",", "")
    if len(bare) > _MOST_DIGITS or (len(bare) > 1 and bare[0] == "0" and "." not in bare):
        return digit_by_digit(bare)
    words = num2words(float(bare) if "." in bare else int(bare))
    return words.replace("-", " ").replace(",", "")


def digit_by_digit(digits: str) -> str:
    """Every digit by its name, and a point as "point"."""
    return " ".join("point" if letter == "." else num2words(int(letter)) for letter in digits if letter != ",")


def ordinal(digits: str) -> str:
    """ "22" as "twenty second"."""
    return num2words(int(digits), to="ordinal").replace("-", " ")


def year(digits: str) -> str:
    """ "1999" as "nineteen ninety nine"."""
    return num2words(int(digits), to="year").replace("-", " ")


def phone(match: re.Match[str]) -> str:
    """A telephone number digit by digit, with a comma between its parts."""
    return ", ".join(digit_by_digit(part) for part in re.findall(r"\d+", match[0]))


def time(match: re.Match[str]) -> str:
    """Times such as 10:30, 9:05 am, 14:00."""
    hour, minute, half = int(match[1]), int(match[2]), match[3]
    if minute == 0:
        words = cardinal(str(hour)) + ("" if half else " o'clock" if 0 < hour <= 12 else " hundred")
    else:
        words = f"{cardinal(str(hour))} {'oh ' if minute < 10 else ''}{cardinal(str(minute))}"
    return f"{words} {half.lower()} m" if half else words


def date(match: re.Match[str]) -> str:
    """Dates such as 2026-11-23."""
    return f"{MONTHS[int(match[2]) - 1]} {ordinal(match[3])}, {year(match[1])}"


def slash_date(match: re.Match[str]) -> str:
    """Dates such as 11/23/2026, the month first if it can be one, or 23.11.2026, the day first."""
    first, second = int(match[1]), int(match[3])
    month, day = (second, first) if match[2] == "." or first > 12 else (first, second)
    if month > 12:
        return digit_by_digit(re.sub(r"\D", "", match[0]))
    return f"{MONTHS[month - 1]} {ordinal(str(day))}, {year(match[4])}"


def day_of_month(match: re.Match[str]) -> str:
    """Dates such as July 4, 1776."""
    return f"{match[1]} {ordinal(match[2])}" + (f", {year(match[3])}" if match[3] else "")


def fraction(match: re.Match[str]) -> str:
    """Fractions such as 3/4 and 2 1/2; other numbers with a slash are read as one number over another."""
    whole, above, below = match[1], int(match[2]), int(match[3])
    if not 1 < below <= 10 or above >= below:
        words = f"{cardinal(match[2])} over {cardinal(match[3])}"
        return f"{cardinal(whole)} {words}" if whole else words
    name = {2: "half", 4: "quarter"}.get(below) or ordinal(match[3])
    words = f"{'a' if whole and above == 1 else cardinal(match[2])} {name if above == 1 else plural(name)}"
    return f"{cardinal(whole)} and {words}" if whole else words


def price(match: re.Match[str]) -> str:
    """Prices such as $3.50, US$5, $1.5 million, $3bn."""
    return money(match[2], match[1], match[3])


def price_after(match: re.Match[str]) -> str:
    """Prices such as 20 € and 50¢."""
    return money(match[1], match[2], None)


def prices(match: re.Match[str]) -> str:
    """Ranges of prices such as $5-10."""
    return f"{cardinal(match[2])} to {money(match[3], match[1], match[4])}"


def money(digits: str, sign: str, scale: str | None) -> str:
    """A sum of money in a currency of `MONEY`."""
    (coin, part), amount = MONEY[sign], digits.replace(",", "")
    whole, _, decimals = amount.partition(".")
    if scale or len(decimals) not in (0, 2):
        word = "" if scale is None else f" {_SCALES.get(scale.lower(), scale)}"
        return f"{cardinal(amount)}{word} {plural(coin)}"
    n_parts = int(decimals or 0)
    parts = f"{cardinal(str(n_parts))} {part if n_parts == 1 else plural(part)}"
    if n_parts and not int(whole or 0):
        return parts
    coins = f"{cardinal(whole)} {coin if whole == '1' else plural(coin)}"
    return f"{coins} and {parts}" if n_parts else coins


def unit(match: re.Match[str]) -> str:
    """Quantities such as 21°C, 5 km/h, 3 m²."""
    word = UNITS[match[2].lower()]
    if match[1] == "1" and not word.endswith("hertz"):
        first, *rest = word.split()
        word = " ".join([_SINGULAR.get(first, first.removesuffix("s")), *rest])
    power = {"": "", "²": "square ", "³": "cubic "}[match[3]]
    return f"{cardinal(match[1])} {power}{word}"


def decade(match: re.Match[str]) -> str:
    """Decades such as 1990s and '90s."""
    words = year(f"{match[1] or 19}{match[2]}")
    if not match[1]:
        words = words.split(" ", 1)[1]
    return words.removesuffix("y") + "ies" if words.endswith("y") else plural(words)


def plural(word: str) -> str:
    """The plural of a coin, a fraction or a decade."""
    return {"half": "halves", "penny": "pence", "yen": "yen", "sen": "sen"}.get(word) or f"{word}s"
