"""Topics of the miniature assistant: what users say and what it answers, read from topics.txt."""

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

from experiments.pocket.text.grammar import HERE, Grammar, read_lexicon, read_lines
from experiments.pocket.text.morphology import bend

_BOUND = re.compile(r"<([a-z0-9 ]+)(?:\.([a-z0-9]+))?>")
_SENTENCE = re.compile(r"[^.?!]+[.?!]+")
_QUESTION = re.compile(r"(what|who|where|when|why|how|which|do|does|is|are|can|will|should|have|did|would|am)\b")
_BEFORE = ("please, ", "hey, ", "hi, ", "so, ", "well, ", "um, ", "ok, ", "hello, ", "and ", "now ")
_AFTER = (" please", " then", " today", " my friend", " pocket", " now")
_PROPER = {
    word
    for name in ("name", "day", "month", "country", "language")
    for entry in read_lexicon(HERE / "lexicon.txt")[name]
    for word in entry.split()
} - {"may", "march", "mark", "rose", "grace", "will", "max"}
_PROPER |= {"london", "paris", "rome", "berlin", "york", "madrid", "boston", "chicago", "tokyo", "dublin", "vienna"}


@dataclass(frozen=True)
class Turn:
    """One exchange: the user's words and the answer, both lower case."""

    topic: str
    user: str
    answer: str


@dataclass
class Topic:
    """What users say on a topic and the parts of the answers.

    Attributes:
        users: phrasings.
        openers: said before some answers.
        answers: the answers.
        tails: said after some answers.
        pairs: phrasings that have answers of their own.
    """

    name: str
    users: list[str] = field(default_factory=list)
    openers: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)
    pairs: list[tuple[str, list[str]]] = field(default_factory=list)


def read_topics(path: Path = HERE / "topics.txt") -> dict[str, Topic]:
    """Topics by name."""
    topics: dict[str, Topic] = {}
    current = Topic("")
    for line in read_lines(path):
        if line.startswith("["):
            name = line.strip("[]")
            current = topics.setdefault(name, Topic(name))
            continue
        kind, _, rest = line.partition(": ")
        if kind == "p":
            for pair in rest.split(" || "):
                user, _, answers = pair.partition(" => ")
                current.pairs.append((user.strip(), answers.split(" | ")))
            continue
        target = {"u": current.users, "o": current.openers, "a": current.answers, "t": current.tails}[kind]
        target.extend(part.strip() for part in rest.split(" | "))
    return topics


def bind(lists: dict[str, list[str]], rng: random.Random, *texts: str) -> list[str]:
    """Replace each ``<list>`` by one draw, the same in all texts."""
    drawn: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        word = drawn.setdefault(match[1], rng.choice(lists[match[1]]))
        return bend(word, match[2]) if match[2] else word

    return [_BOUND.sub(replace, text) for text in texts]


def compose_turn(topic: Topic, grammar: Grammar, user: str | None = None) -> Turn:
    """One exchange on a topic.

    Args:
        topic: the topic.
        grammar: fills the slots.
        user: a phrasing to answer; drawn when missing.
    """
    rng = grammar.rng
    answers, openers, tails = topic.answers, topic.openers, topic.tails
    if topic.pairs:
        user, answers = rng.choice(topic.pairs) if user is None else (user, dict(topic.pairs)[user])
    user = user or rng.choice(topic.users)
    asks = "?" in (answer := rng.choice(answers))
    bound = set(re.findall(r"<([a-z0-9 ]+)", user))
    fitting = [a for a in answers if set(re.findall(r"<([a-z0-9 ]+)", a)) <= bound] or answers
    answer = answer if answer in fitting else rng.choice(fitting)
    parts = [rng.choice(openers)] if openers and rng.random() < 0.6 else []
    parts.append(answer)
    tails = [t for t in tails if set(re.findall(r"<([a-z0-9 ]+)", t)) <= bound]
    if tails and rng.random() < (0.2 if asks else 0.6):
        parts.append(rng.choice(tails))
    user, answer = bind(grammar.lists, rng, user, " ".join(parts))
    answer = grammar.expand(answer)
    return Turn(topic.name, grammar.expand(user), re.sub(r"(did you know that [^.?!]+)\.", r"\1?", answer))


def sentences_of(answer: str) -> list[str]:
    """The sentences of an answer in the voice's spelling."""
    return [sentence.strip() for sentence in _SENTENCE.findall(answer.lower())]


def written(text: str) -> str:
    """Ordinary capitals: sentence starts, "I" and names."""
    words = [word.capitalize() if re.sub(r"\W.*", "", word) in _PROPER else word for word in text.split(" ")]
    words = ["Pocket" + word[6:] if re.fullmatch(r"pocket\W*", word) else word for word in words]
    text = re.sub(r"\bi\b", "I", " ".join(words))
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def as_typed(text: str, rng: random.Random) -> str:
    """The many ways people type a phrase: capitals, marks, greetings and please, or none of it."""
    draw = rng.random()
    if draw < 0.08 and len(text.split()) < 9:
        text = rng.choice(_BEFORE) + text
    elif draw < 0.12:
        text += rng.choice(_AFTER)
    marks, weights = (("?", "", "??"), (6, 4, 0.3)) if _QUESTION.match(text) else (("", ".", "!"), (4, 4, 2))
    mark = rng.choices(marks, weights)[0]
    if rng.random() < 0.5:
        text = written(text)
    if rng.random() < 0.08:
        text = text.replace("'", "")
    return text + mark
