"""The voice's training sentences: everyday speech from templates, rarer words in carriers, and word salad."""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from experiments.pocket.text.grammar import HERE, Grammar, read_lines
from experiments.pocket.text.morphology import article
from experiments.pocket.text.vocabulary import Vocabulary

MIN_WORDS, MAX_WORDS = 2, 16
MAX_CHARACTERS = 78
"""About 6.5 s of speech; a comma costs as much as four letters."""
LONG_SHARE = 0.85
"""How often a template that gives a statement is tried for a longer sentence."""
_STATEMENT = (
    "i ",
    "i'",
    "we ",
    "we'",
    "they ",
    "he ",
    "she ",
    "it's ",
    "the ",
    "my ",
    "our ",
    "this ",
    "that ",
    "there ",
)
_CONTINUATIONS = (
    ", but {third} {vp.past}.", ", and {third} {vp.past}.", ", so {first} {vp.past}.", ", but i don't mind.",
    ", and i'm {feel} about it.", ", don't you think?", ", if you ask me.", ", but it was {bad}.",
    ", and it was {nice}.", ", as far as i know.", ", and now i'm {feel}.", ", but {third} doesn't like it.",
    ", because i like it.", ", and {third} is {feel}.", ", i think.", ", you know.",
    ", and then {first} {vp.past}.", ", at least for now.", ", but only for {duration}.", ", which is {nice}.",
    ", so let's {vp.do}.", ", but i have to {vp.do} first.", ", but nobody believes me.", ", just like my {person}.",
    ", and that's why i'm so {feel}.", ", but {third} still wants to {vp.do}.", ", and everyone was {feel}.",
)  # fmt: skip
_WORD = re.compile(r"[a-z']+")
_ALLOWED = re.compile(r"[a-z][a-z' ,.?!]*[.?!]")
_ARTICLE = re.compile(r"\ba ([a-z]+)")


@dataclass(frozen=True)
class Mix:
    """What a corpus is made of.

    Attributes:
        answers: share of sentences taken from the dialogues' answers.
        everyday: share of sentences from the templates; carriers and salad are the rest.
        carriers: share of the rest that is carrier sentences.
        floor: how often every word of the vocabulary is heard at least.
    """

    answers: float = 0.25
    everyday: float = 0.45
    carriers: float = 0.5
    floor: int = 8


def words_of(sentence: str) -> list[str]:
    """The words of a sentence, apostrophes kept."""
    return _WORD.findall(sentence)


def key_of(sentence: str) -> str:
    """What makes two sentences the same: their words without punctuation."""
    return " ".join(words_of(sentence))


def is_speakable(sentence: str) -> bool:
    """Whether a sentence is in the voice's spelling and short enough to be said in 6.5 s."""
    n_characters = len(sentence) + 4 * sum(sentence.count(mark) for mark in ",.?!") - 4
    fits = MIN_WORDS <= len(words_of(sentence)) <= MAX_WORDS and n_characters <= MAX_CHARACTERS
    return fits and _ALLOWED.fullmatch(sentence) is not None


def everyday(grammar: Grammar) -> Iterator[str]:
    """Endless everyday sentences, every template equally often."""
    templates = read_lines(HERE / "templates.txt")
    while True:
        grammar.rng.shuffle(templates)
        for template in templates:
            sentence = grammar.expand(template)
            if grammar.rng.random() < LONG_SHARE:
                sentence = _lengthened(sentence, grammar)
            yield sentence


def _lengthened(sentence: str, grammar: Grammar) -> str:
    """A statement joined with another or with a remark; other sentences stay as they are."""
    if not sentence.endswith(".") or not sentence.startswith(_STATEMENT) or len(words_of(sentence)) > 10:
        return sentence
    other = grammar.expand(grammar.rng.choice(_CONTINUATIONS))
    opener = grammar.expand("{start}, ") if grammar.rng.random() < 0.3 else ""
    return f"{opener}{sentence[:-1]}{other}"


class Coverage:
    """Composes the sentences that bring every word of the vocabulary to its floor.

    Args:
        vocabulary: the words and their parts of speech.
        heard: how often the corpus so far says each word.
        floor: how often each word shall be heard.
        rng: source of every choice.
    """

    def __init__(self, vocabulary: Vocabulary, heard: Counter[str], floor: int, rng: random.Random) -> None:
        self.vocabulary, self.heard, self.floor, self.rng = vocabulary, heard, floor, rng
        self._templates = read_lines(HERE / "carriers.txt")
        self._queues: dict[str, list[str]] = {}

    def carrier(self) -> str:
        """A grammatical sentence around words that are still too rare; the caller notes what it keeps."""
        template = self.rng.choice(self._templates)
        text = re.sub(r"\{(\w+)\}", lambda match: self._next(match[1]), template)
        return _ARTICLE.sub(lambda match: article(match[1]), text)

    def salad(self) -> str:
        """Three to eight words in no order: rare ones, mixed with small words."""
        n_words = self.rng.randint(3, 8)
        n_small = sum(self.rng.random() < 0.15 for _ in range(n_words))
        words = [self._next("any") for _ in range(n_words - n_small)] + self.rng.choices(
            self.vocabulary.small, k=n_small
        )
        self.rng.shuffle(words)
        if n_words > 4 and self.rng.random() < 0.3:
            cut = self.rng.randrange(1, n_words - 1)
            words[cut] += ","
        return " ".join(words) + self.rng.choices(".?!", weights=(8, 1, 1))[0]

    def _next(self, kind: str) -> str:
        queue = self._queues.get(kind) or self._refill(kind)
        return queue.pop()

    def _refill(self, kind: str) -> list[str]:
        pool = self.vocabulary.words if kind == "any" else self.vocabulary.kinds[kind]
        missing = [word for word in pool for _ in range(min(4, self.floor - self.heard[word]))]
        queue = missing or list(pool)
        self.rng.shuffle(queue)
        self._queues[kind] = queue
        return queue


def compose(
    n_sentences: int,
    vocabulary: Vocabulary,
    answers: Iterable[str],
    rng: random.Random,
    keep_out: frozenset[str] = frozenset(),
    mix: Mix = Mix(),
) -> dict[str, str]:
    """Compose unique sentences.

    Args:
        n_sentences: how many.
        vocabulary: the words that must be heard.
        answers: sentences of the dialogues' answers, more than their share.
        rng: source of every choice.
        keep_out: keys of sentences that must not appear.
        mix: the shares.

    Returns:
        Sentence → its source: ``answer``, ``everyday``, ``carrier`` or ``salad``.
    """
    n_answers, n_everyday = int(mix.answers * n_sentences), int(mix.everyday * n_sentences)
    n_carriers = int(mix.carriers * (n_sentences - n_answers - n_everyday))
    seen: set[str] = set(keep_out)
    corpus: dict[str, str] = {}

    def take(source: str, stream: Iterable[str], count: int, heard: Counter[str] | None = None) -> None:
        wanted = len(corpus) + count
        for sentence in stream:
            if len(corpus) >= wanted:
                break
            key = key_of(sentence)
            if key in seen or not is_speakable(sentence):
                continue
            seen.add(key)
            corpus[sentence] = source
            if heard is not None:
                heard.update(words_of(sentence))

    take("answer", answers, n_answers)
    take("everyday", everyday(Grammar.load(rng)), n_everyday + n_answers - len(corpus))
    heard = Counter(word for sentence in corpus for word in words_of(sentence))
    coverage = Coverage(vocabulary, heard, mix.floor, rng)
    take("carrier", iter(coverage.carrier, None), n_carriers, heard)
    take("salad", iter(coverage.salad, None), n_sentences - len(corpus), heard)
    return corpus
