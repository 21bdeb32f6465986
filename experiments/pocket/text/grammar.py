"""Templates with nested slots: ``{name}`` draws from a list of the lexicon, ``{name.form}`` bends what was drawn."""

import random
import re
from pathlib import Path

from experiments.pocket.text.morphology import STATIVE, bend

HERE = Path(__file__).parent
_SLOT = re.compile(r"\{([a-z0-9_ ]+)(?:\.([a-z0-9]+))?\}")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without comments and blank lines."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_lexicon(path: Path) -> dict[str, list[str]]:
    """Lists of alternatives by name; a list that appears twice is joined.

    Raises:
        ValueError: a line stands before the first ``[name]``.
    """
    lists: dict[str, list[str]] = {}
    name = ""
    for line in read_lines(path):
        if line.startswith("["):
            name = line.strip("[]")
        elif not name:
            raise ValueError(f"{path.name}: {line!r} stands before the first [name]; give it a list")
        else:
            lists.setdefault(name, []).extend(part.strip() for part in line.split(" | "))
    return lists


class Grammar:
    """Expands templates with words of the lexicon.

    Args:
        lists: alternatives by list name.
        rng: source of every choice; the same seed gives the same sentences.
    """

    def __init__(self, lists: dict[str, list[str]], rng: random.Random) -> None:
        self.lists = lists
        self.rng = rng

    @classmethod
    def load(cls, rng: random.Random) -> "Grammar":
        """The grammar of this folder's lexicon."""
        return cls(read_lexicon(HERE / "lexicon.txt"), rng)

    def expand(self, template: str) -> str:
        """Fill every slot of a template, outside in; no filler but small words is used twice in it.

        Raises:
            KeyError: the template names a list the lexicon lacks.
        """
        return self._fill(template, set())

    def _fill(self, template: str, used: set[str]) -> str:
        return _SLOT.sub(lambda match: self._slot(match[1], match[2], used), template)

    def _slot(self, name: str, form: str | None, used: set[str]) -> str:
        options = self.lists[name]
        for _ in range(8):
            choice = self.rng.choice(options)
            if form in {"ing", "do"} and choice.split()[0] in STATIVE:
                continue
            if choice not in used:
                break
        if "{" not in choice:
            used.add(choice)
        text = self._fill(choice, used)
        return bend(text, form) if form else text
