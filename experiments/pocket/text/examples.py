"""Phrases and sentences that other people wrote: the usage examples of WordNet's entries.

Templates give the everyday manner of speaking; a recogniser that hears only templates learns their manner by heart and
stumbles over any other. WordNet's examples are short, of every manner, and free to use (Princeton University, "WordNet
3.0 License"); Debian's package is ``wordnet``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from experiments.pocket.text.sentences import is_speakable, key_of, words_of

WORDNET = Path("/usr/share/wordnet")
MIN_WORDS = 3
MIN_HEARD = 3
"""An example has only words that all sentences together say at least so often."""
_QUOTED = re.compile(r'"([^"]*)"')


def quoted(directory: Path) -> Iterator[str]:
    """The examples of all entries in the voice's spelling: small letters, a mark at the end.

    The format is that of WordNet's manual page wndb(5WN): the gloss stands behind ``|``, its examples in quotes.

    Raises:
        SystemExit: WordNet is not there.
    """
    paths = sorted(directory.glob("data.*"))
    if not paths:
        raise SystemExit(f"no WordNet in {directory}: apt-get install wordnet, or name its folder with --wordnet")
    for path in paths:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            for example in _QUOTED.findall(line.partition("|")[2]):
                text = example.strip().lower()
                yield text if text.endswith((".", "?", "!")) else f"{text}."


def examples(directory: Path, others: list[str], keep_out: frozenset[str]) -> list[str]:
    """Speakable examples, each once, whose words are not rare.

    Args:
        directory: WordNet's data files.
        others: the sentences of the rest of the corpus, which count in what is rare.
        keep_out: keys of sentences that must not appear.
    """
    seen = set(keep_out) | {key_of(sentence) for sentence in others}
    found: list[str] = []
    for sentence in quoted(directory):
        key = key_of(sentence)
        if key not in seen and is_speakable(sentence) and len(words_of(sentence)) >= MIN_WORDS:
            seen.add(key)
            found.append(sentence)
    heard = Counter(word for sentence in [*others, *found] for word in words_of(sentence))
    return [sentence for sentence in found if all(heard[word] >= MIN_HEARD for word in words_of(sentence))]


STATED = re.compile(
    r"(i|we|he|she|they|my|the|our|his|her|their|it|this|that|there|these|those|a|an|some|you|nobody|everybody|people)\b"
)
SAD = re.compile(
    r"\b(dead|die[ds]?|dying|death|kill\w*|murder\w*|sick\w*|ill|pain\w*|hurt\w*|cry|cried|crying|sad\w*|lost|lose|"
    r"hate[ds]?|rape\w*|nigger|whore|fuck\w*|shit|suicide|cancer|war|blood\w*|wound\w*|accident|funeral|grie\w+|"
    r"fired|divorce\w*|drunk\w*|sex\w*|breast\w*|naked|prison|crime|steal|stole|thief|hell|damn\w*|ugly|stupid|fat)\b"
)


def statements(directory: Path, most_words: int = 11) -> list[str]:
    """Examples that somebody may say of everyday life, without their mark, nothing sad or coarse among them."""
    said = (text.rstrip(".?!") for text in quoted(directory) if text.endswith(".") and STATED.match(text))
    plain = re.compile(r"[a-z', ]+")
    return [
        text
        for text in said
        if plain.fullmatch(text) and MIN_WORDS < len(text.split()) <= most_words and not SAD.search(text)
    ]
