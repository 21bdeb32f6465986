"""Turns with one right answer: small sums, counting and the days of the week."""

import random
from collections.abc import Iterator

from num2words import num2words

from csmkit.llm.answer_sentences import NUMBER
from experiments.pocket.text.intents import Turn, choose

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
TOO_HARD = (DECLINED[1], DECLINED[2])
"""What is answered to a division, and to a difference below zero, however small the numbers are."""
TAILS = ("", "", "", "", " that was easy.", " do you have another one?", " i like numbers.")
"""What follows a result."""
TOO_LARGE, PRODUCT, STORY, CHECK = 0.36, 0.16, 0.14, 0.1
"""How many of the sums are declined, and of the others: products, told as a little story, or to be confirmed."""
SIGNS = {
    "plus": ("plus", "plus", "and", "+", "+"),
    "minus": ("minus", "minus", "take away", "-", "-", "less"),
    "times": ("times", "times", "x", "x", "*", "multiplied by"),
    "divided by": ("divided by", "/", "shared by"),
}
"""The words and signs for each operation."""
ASKED = (
    "what is {}", "what's {}", "how much is {}", "{}", "{}", "calculate {}", "can you tell me what {} is", "{} please",
    "how about {}", "what about {}", "what does {} make", "do you know what {} is", "so what is {}", "quick, what's {}",
    "what do you get from {}", "{} is", "tell me what {} is", "can you do {}", "{} equals", "{} is what", "quickly, {}",
    "i need to know what {} is", "my {who} asks what {} is", "do you know {}", "and what is {}", "what would {} be",
    "ok, {}", "solve {}", "can you calculate {}", "i forgot what {} is", "hey, what's {}", "{}, do you know that",
)  # fmt: skip
AGAIN = (
    "and {}",
    "and {}",
    "and what about {}",
    "and how about {}",
    "now {}",
    "and what's {}",
    "ok, and {}",
    "then {}",
)
"""How a sum is asked for, and how one more."""
NAMED = {
    "plus": ("add {0} and {1}", "what's the sum of {0} and {1}", "add {0} to {1}", "how much are {0} and {1} together"),
    "minus": ("take {1} away from {0}", "what's left if i take {1} from {0}", "subtract {1} from {0}"),
    "times": ("multiply {0} by {1}", "multiply {0} and {1}"),
    "divided by": ("divide {0} by {1}", "how often does {1} go into {0}"),
}
"""Requests that name an operation otherwise."""
WHO = (
    *((name, "he") for name in ("owen", "tom", "ben", "leo", "max", "sam", "my son", "my brother", "dad", "a boy")),
    *((name, "she") for name in ("anna", "mia", "lucy", "emma", "lily", "kate", "my sister", "grandma", "a girl")),
    *((name, name) for name in ("i", "i", "i", "we", "we", "you", "they")),
)  # fmt: skip
"""Who has something in a little story, and the pronoun."""
THINGS = (
    "apples", "stickers", "cookies", "eggs", "balls", "books", "cars", "coins", "candies", "marbles", "pencils", "cats",
    "flowers", "oranges", "bananas", "balloons", "sheep", "cakes", "toys", "cards", "tickets", "hats", "fish", "stones",
)  # fmt: skip
ANIMALS = ("cats", "dogs", "birds", "horses", "cows", "ducks", "rabbits", "sheep", "pigs", "mice")
MORE = (
    "if {name} {has} {a} {things} and {gets} {b} more, how many {does} {he} have(| now| then)",
    "{name} had {a} {things} and got {b} more, how many {does} {he} have(| now)",
    "{name} {has} {a} {things}, then {gets} {b} more, how many is that",
    "{name} {has} {a} {things}. {he} {gets} {b} more. how many {does} {he} have(| now| then)",
    "{name} {has} {a} {things} and {b} {others}, how many (things |)is that(| together)",
    "if {name} {gets} {a} {things} today and {b} tomorrow, how many is that(| together)",
    "{a} {things} and {b} {others}, how many (things |)(is that|are there|is that together|do i have)",
    "{a} {animals} and {b} {pets}, how many animals(| is that| are there| do i have| together)",
    "{a} (boys|girls) and {b} (grown ups|babies|friends), how many people(| is that| are there| are coming)",
    "{a} red {things} and {b} blue (ones|{things}), how many is that",
    "there are {a} {things} and {b} more come, how many are there(| now)",
    "i buy {a} {things} and {b} {others}, how many things did i buy",
)
LESS = (
    "if {name} {has} {a} {things} and {b} are lost, how many are left",
    "if {name} had {a} {things} and gave away {b}, how many (are left|{does} {he} have|{does} {he} have left)",
    "if {name} {has} {a} {things} and {gives} away {b}, how many (are left|{does} {he} have left)",
    "{name} {has} {a} {things}. {he} {gives} away {b}. how many are left",
    "{name} {has} {a} {things} and {gives} {b} to a friend, how many are left",
    "{name} had {a} {things} and (ate|lost|sold|gave away|broke|used) {b}, how many are left(| now)",
    "{name} {has} {a} {things}, {b} are gone, how many are left",
    "there are {a} {things} and i take {b}, how many are left",
    "there were {a} {things} and {b} (went away|fell down|broke), how many are left",
    "{a} {animals} are here and {b} run away, how many animals are left",
    "of {a} {things} {b} are gone, how many are left",
)
"""Little stories that ask for a sum, and for a difference."""


def _spelled(value: int, rng: random.Random) -> str:
    return str(value) if rng.random() < 0.5 else _in_words(value)


def _in_words(value: int) -> str:
    return NUMBERS[value] if value <= 20 else num2words(value).replace("-", " ").replace(",", "")


def sum_turn(rng: random.Random, again: bool = False) -> Turn:
    """A sum, difference or product whose numbers stay between zero and twenty, or something harder that is declined.

    Args:
        rng: source of every choice.
        again: one was asked for in the turn before.
    """
    if rng.random() < TOO_LARGE:
        return _large_sum_turn(rng, again)
    draw = rng.random()
    word = "times" if draw < PRODUCT else "plus" if rng.random() < 0.6 else "minus"
    a, b = _small(word, rng)
    draw -= PRODUCT
    if word != "times" and draw < STORY and b:
        return Turn("sum", _story(word, a, b, rng), f"{_solved(word, a, b, 'is')}.")
    if draw > 1 - PRODUCT - CHECK:
        return _check_turn(word, a, b, rng)
    answer = f"{_solved(word, a, b, rng.choice(('is', 'is', 'makes')) if word != 'times' else 'is')}."
    return Turn("sum", _asked(word, a, b, rng, again), answer + rng.choice(TAILS))


def sum_answers() -> Iterator[str]:
    """Every answer to a sum, its numbers left open, and to counting and the days."""
    yield from DECLINED
    yield from (tail.strip() for tail in TAILS if tail)
    for word in ("plus", "minus", "times"):
        for before, verb in (("", "is"), ("", "makes"), ("yes, ", "is"), ("no, ", "is")):
            yield f"{before}{NUMBER} {word} {NUMBER} {verb} {NUMBER}."
    for last in range(3, 11):
        yield ", ".join(NUMBERS[1 : last + 1]) + "."
        yield ", ".join(NUMBERS[last:0:-1]) + "."
    for day, after in zip(DAYS, DAYS[1:] + DAYS[:1], strict=True):
        yield from (f"{after} comes after {day}.", f"{day} comes before {after}.")
        yield from (f"the day after {day} is {after}.", f"the day before {after} is {day}.")


def result_of(word: str, a: int, b: int) -> int:
    """The result of plus, minus or times."""
    return a + b if word == "plus" else a - b if word == "minus" else a * b


def _small(word: str, rng: random.Random) -> tuple[int, int]:
    """Two numbers from zero to twenty whose result is one as well."""
    if word == "times":
        a = rng.choice((1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 0))
        b = rng.randint(1, min(20 // a, 12)) if a else rng.randint(1, 10)
        return (a, b) if rng.random() < 0.5 else (b, a)
    a = rng.randint(0, 20)
    return (a, rng.randint(0, 20 - a if word == "plus" else a))


def _solved(word: str, a: int, b: int, verb: str) -> str:
    return f"{NUMBERS[a]} {word} {NUMBERS[b]} {verb} {NUMBERS[result_of(word, a, b)]}"


def _check_turn(word: str, a: int, b: int, rng: random.Random) -> Turn:
    """Whether a result is right; the answer says the right one."""
    right = result_of(word, a, b)
    said = right if rng.random() < 0.5 else rng.choice([n for n in range(max(right - 3, 0), right + 4) if n != right])
    question = f"{_spelled(a, rng)} {rng.choice(SIGNS[word])} {_spelled(b, rng)}"
    how = rng.choice(
        (
            "is {} {}",
            "{} is {}, right",
            "{} is {}, isn't it",
            "is it true that {} is {}",
            "i think {} is {}",
            "does {} make {}",
            "{} is {}, correct",
        )
    )
    answer = f"{'yes' if said == right else 'no'}, {_solved(word, a, b, 'is')}."
    return Turn("sum", how.format(question, _spelled(said, rng)), answer)


def _story(word: str, a: int, b: int, rng: random.Random) -> str:
    """A sum or a difference as a little story, lower case."""
    name, pronoun = rng.choice(WHO)
    things, others = rng.sample(THINGS, 2)
    animals, pets = rng.sample(ANIMALS, 2)
    ending = "s" if pronoun in {"he", "she"} else ""
    return choose(rng.choice(MORE if word == "plus" else LESS), rng).format(
        name=name, he=pronoun, has="has" if ending else "have", gets=f"get{ending}", gives=f"give{ending}",
        does="does" if ending else "do", things=things, others=others, animals=animals, pets=pets,
        a=_spelled(a, rng), b=_spelled(b, rng),
    )  # fmt: skip


def _asked(word: str, a: int, b: int, rng: random.Random, again: bool = False) -> str:
    first, second = _spelled(a, rng), _spelled(b, rng)
    if rng.random() < 0.15:
        return rng.choice(NAMED[word]).format(first, second)
    sign = rng.choice(SIGNS[word])
    gap = "" if sign in "+-*/x" and first.isdigit() and second.isdigit() and rng.random() < 0.3 else " "
    question = f"{first}{gap}{sign}{gap}{second}"
    how = rng.choice(AGAIN) if again or rng.random() < 0.12 else rng.choice(ASKED)
    mark = rng.choice(("", "", "?"))
    return how.format(question, who=rng.choice(("son", "daughter", "teacher", "friend"))) + mark


def _large_sum_turn(rng: random.Random, again: bool = False) -> Turn:
    """A sum, a difference or a product with a number above twenty, or whose result is, or a division."""
    draw = rng.random()
    if draw < 0.12:
        b, times = rng.randint(1, 10), rng.randint(1, 20)
        word, a = "divided by", rng.choice((b * times, rng.randint(1, 20)))
        return Turn("large sum", _asked(word, a, b, rng, again), rng.choice(TOO_HARD))
    if draw < 0.17:
        a = rng.randint(0, 15)
        return Turn("large sum", _asked("minus", a, rng.randint(a + 1, 20), rng, again), rng.choice(TOO_HARD))
    if draw < 0.5:
        word, (a, b) = "times", _large_factors(rng)
    elif draw < 0.62:
        word, a = "plus", rng.randint(3, 20)
        b = rng.randint(21 - a, 20)
    else:
        word = rng.choice(("plus", "plus", "minus"))
        a, b = _large_number(rng), rng.choice((rng.randint(1, 20), _large_number(rng)))
        a, b = (max(a, b), min(a, b)) if word == "minus" or rng.random() < 0.5 else (a, b)
    if word != "times" and rng.random() < 0.15:
        return Turn("large sum", _story(word, a, b, rng), rng.choice(DECLINED))
    return Turn("large sum", _asked(word, a, b, rng, again), rng.choice(DECLINED))


def _large_number(rng: random.Random) -> int:
    return rng.choice((rng.randint(21, 50), rng.randint(21, 99), rng.randint(3, 10) * 10, rng.randint(100, 999), 100))


def _large_factors(rng: random.Random) -> tuple[int, int]:
    """Two factors, most often of the tables up to twelve, whose product is above twenty."""
    a = rng.choice((rng.randint(3, 12), rng.randint(3, 12), rng.randint(2, 20), _large_number(rng)))
    b = rng.randint(20 // a + 1, max(12, 20 // a + 4))
    return (a, b) if rng.random() < 0.5 else (b, a)


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
