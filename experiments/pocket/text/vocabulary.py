"""The common English words the voice must have heard, by what they most often are in a sentence."""

from dataclasses import dataclass

from experiments.pocket.text.grammar import HERE, read_lexicon


@dataclass(frozen=True)
class Vocabulary:
    """Common words by part of speech.

    Attributes:
        words: every word that must be heard, small words first, then by kind.
        small: articles, pronouns, prepositions, contractions, …
        kinds: noun, nouns (plural), adj, adv, verb, verb_s, verb_past, verb_ing → words, most frequent first.
    """

    words: tuple[str, ...]
    small: tuple[str, ...]
    kinds: dict[str, list[str]]


def load_vocabulary() -> Vocabulary:
    """The words of vocabulary.txt."""
    kinds = read_lexicon(HERE / "vocabulary.txt")
    small = tuple(kinds.pop("small"))
    return Vocabulary((*small, *(word for words in kinds.values() for word in words)), small, kinds)
