"""Turns with one right answer: small sums, counting and the days of the week."""

import random

from experiments.pocket.text.topics import Turn

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
"""Numbers in words, by value."""


def _spelled(value: int, rng: random.Random) -> str:
    return str(value) if rng.random() < 0.4 else NUMBERS[value]


def sum_turn(rng: random.Random) -> Turn:
    """A sum or a difference whose numbers stay between zero and twenty."""
    first = rng.randint(0, 20)
    if rng.random() < 0.65:
        second, word, signs = rng.randint(0, 20 - first), "plus", ("plus", "plus", "and", "+")
        result = first + second
    else:
        second, word, signs = rng.randint(0, first), "minus", ("minus", "minus", "take away", "-")
        result = first - second
    question = f"{_spelled(first, rng)} {rng.choice(signs)} {_spelled(second, rng)}"
    asked = rng.choice(
        ("what is {}", "what's {}", "how much is {}", "{}", "calculate {}", "can you tell me what {} is")
    )
    a, b, c = NUMBERS[first], NUMBERS[second], NUMBERS[result]
    answer = rng.choice((f"{a} {word} {b} is {c}.", f"{a} {word} {b} is {c}.", f"{a} {word} {b} makes {c}."))
    tail = rng.choice(("", "", "", " that was easy.", " do you have another one?", " i like numbers."))
    return Turn("sum", asked.format(question), answer + tail)


def count_turn(rng: random.Random) -> Turn:
    """Counting up to ten, or backwards."""
    last = rng.randint(3, 10)
    asked = rng.choice(
        ("count to {}", "can you count to {}", "please count to {}", "count up to {}", "count from one to {}")
    )
    numbers = NUMBERS[1 : last + 1]
    if rng.random() < 0.25:
        asked, numbers = rng.choice(("count backwards from {}", "count down from {}")), numbers[::-1]
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
