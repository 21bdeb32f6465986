"""Turns with one right answer: small sums, counting and the days of the week."""

import random

from num2words import num2words

from experiments.pocket.text.intents import Turn

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
"""Numbers in words, by value."""
DECLINED = (
    "those numbers are too large for me. i can only count to twenty.",
    "i'm sorry, i don't know that one. i only know small numbers.",
    "that is too hard for me. my numbers end at twenty.",
    "i don't know. ask me about numbers up to twenty.",
)
TOO_LARGE = 0.2
"""How many of the sums have a number beyond those, and are declined."""


def _spelled(value: int, rng: random.Random) -> str:
    return str(value) if rng.random() < 0.5 else NUMBERS[value]


def sum_turn(rng: random.Random) -> Turn:
    """A sum or a difference whose numbers stay between zero and twenty, now and then one that is declined."""
    if rng.random() < TOO_LARGE:
        return _large_sum_turn(rng)
    first = rng.randint(0, 20)
    if rng.random() < 0.65:
        second, word, signs = rng.randint(0, 20 - first), "plus", ("plus", "plus", "and", "+")
        result = first + second
    else:
        second, word, signs = rng.randint(0, first), "minus", ("minus", "minus", "take away", "-")
        result = first - second
    asked = _asked(f"{_spelled(first, rng)} {rng.choice(signs)} {_spelled(second, rng)}", rng)
    a, b, c = NUMBERS[first], NUMBERS[second], NUMBERS[result]
    answer = rng.choice((f"{a} {word} {b} is {c}.", f"{a} {word} {b} is {c}.", f"{a} {word} {b} makes {c}."))
    tail = rng.choice(("", "", "", " that was easy.", " do you have another one?", " i like numbers."))
    return Turn("sum", asked, answer + tail)


def _asked(question: str, rng: random.Random) -> str:
    how = rng.choice(
        (
            "what is {}",
            "what's {}",
            "how much is {}",
            "{}",
            "calculate {}",
            "can you tell me what {} is",
            "and {}",
            "how about {}",
            "and how about {}",
            "what about {}",
            "what does {} make",
            "do you know what {} is",
            "so what is {}",
            "what do you get from {}",
            "{} is",
            "add {}",
            "tell me what {} is",
            "what's the sum of {}",
        )
    )
    return how.format(question)


def _large_sum_turn(rng: random.Random) -> Turn:
    """A sum, a difference, a product or a quotient with a number above twenty, or whose result is."""
    signs = ("plus", "plus", "and", "+", "+", "minus", "-", "times", "divided by")
    numbers = [rng.randint(21, rng.choice((50, 99, 999))), rng.randint(0, rng.choice((20, 99, 999)))]
    if rng.random() < 0.2:  # each small enough, but not together
        numbers, signs = [rng.randint(11, 20), rng.randint(11, 20)], ("plus", "and", "+", "times")
    rng.shuffle(numbers)
    question = f"{_said(numbers[0], rng)} {rng.choice(signs)} {_said(numbers[1], rng)}"
    return Turn("large sum", _asked(question, rng), rng.choice(DECLINED))


def _said(value: int, rng: random.Random) -> str:
    return str(value) if rng.random() < 0.7 else num2words(value).replace("-", " ")


def count_turn(rng: random.Random) -> Turn:
    """Counting up to ten, or backwards."""
    last = rng.randint(3, 10)
    asked = rng.choice(
        ("count to {}", "can you count to {}", "please count to {}", "count up to {}", "count from one to {}")
    )
    numbers = NUMBERS[1 : last + 1]
    if rng.random() < 0.25:
        asked, numbers = (
            rng.choice(("count backwards from {}", "count down from {}", "count from {} to one")),
            numbers[::-1],
        )
    elif rng.random() < 0.3:
        numbers = NUMBERS[1:11]
        asked = rng.choice(("can you count", "count", "please count", "count for me", "show me how you count"))
        if rng.random() < 0.4:
            asked, numbers = f"{asked} backwards", numbers[::-1]
    return Turn("count", asked.format(_spelled(last, rng)), ", ".join(numbers) + ".")


def day_turn(rng: random.Random, days: tuple[str, ...] = DAYS) -> Turn:
    """Which day comes before or after another."""
    index = rng.randrange(len(days))
    after = rng.random() < 0.6
    other = days[(index + (1 if after else -1)) % len(days)]
    side = "after" if after else "before"
    asked = rng.choice(("what day comes {} {}", "which day is {} {}", "what comes {} {}", "what day is {} {}"))
    answer = rng.choice((f"{other} comes {side} {days[index]}.", f"the day {side} {days[index]} is {other}."))
    return Turn("days", asked.format(side, days[index]), answer)
