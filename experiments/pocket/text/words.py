"""Words by what they name, from WordNet: strangers speak of more things than the lexicon lists."""

from __future__ import annotations

import random
import re
from pathlib import Path

KINDS = {"animal word": 5, "food word": 13, "place word": 15}
"""Numbers of WordNet's files of nouns, lexnames(5WN)."""
_WORD = re.compile(r"[a-z]{3,12}")
PROPER_KINDS = {"person proper": 18, "place proper": 15}
_PROPER_WORD = re.compile(r"[A-Z][a-z]{2,9}")
N_COMMON = 6
"""How often a word counts that is in the vocabulary too."""


def nouns_by_kind(common: frozenset[str], directory: Path) -> dict[str, list[str]]:
    """Single nouns of some kinds, and of all as ``wn``; the common ones several times.

    Args:
        common: words that strangers say more often.
        directory: WordNet's data files.

    Raises:
        SystemExit: WordNet is not there.
    """
    path = directory / "data.noun"
    if not path.exists():
        raise SystemExit(f"no WordNet in {directory}: apt-get install wordnet, or name its folder with --wordnet")
    lists: dict[str, list[str]] = {name: [] for name in (*KINDS, "wn")}
    numbers = {number: name for name, number in KINDS.items()}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(" "):
            continue
        fields = line.split()
        name, first = numbers.get(int(fields[1])), fields[4]
        if _WORD.fullmatch(first):
            for kind in filter(None, (name, "wn")):
                lists[kind].extend([first] * (N_COMMON if first in common else 1))
    return lists


def proper_nouns(common: frozenset[str], directory: Path) -> dict[str, list[str]]:
    """Names of people (first and last, each once) and of places, lower case; none that is a common word.

    Args:
        common: words that are left out.
        directory: WordNet's data files.
    """
    found: dict[str, dict[str, None]] = {name: {} for name in PROPER_KINDS}
    numbers = {number: name for name, number in PROPER_KINDS.items()}
    for line in (directory / "data.noun").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        name = "" if line.startswith(" ") else numbers.get(int(fields[1]), "")
        parts = (
            [part for lemma in fields[4 : 4 + 2 * int(fields[3], 16) : 2] for part in lemma.split("_")] if name else []
        )
        if name == "place proper" and "_" in fields[4]:
            continue
        found_here = (part.lower() for part in parts if _PROPER_WORD.fullmatch(part))
        found.get(name, {}).update(dict.fromkeys(word for word in found_here if word not in common))
    return {name: list(words) for name, words in found.items()}


def made_up(rng: random.Random) -> str:
    """A word that there is not."""
    if rng.random() < 0.3:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8)))
    syllables = ("".join((rng.choice("bcdfghjklmnprstvwz"), rng.choice("aeiou"), rng.choice("nrslmt "))) for _ in "12")
    return "".join(syllables).replace(" ", "") + rng.choice(("", "", "o", "a", "ia", "ing", "er", "s"))
