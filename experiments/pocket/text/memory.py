"""What the user tells about themselves in one conversation, and the questions about it later."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from experiments.pocket.text.intents import Filler, Intent, Turn

NAMES_TOLD = ("name", "name", "petname", "relative", "pair", "job", "study")
"""What users tell more often than the other things that are remembered."""
TOLD_ONCE_SHARE = 0.9
"""How often something new is told instead of something that was told before."""
KNOWN_SHARE = 0.75
"""How often the user asks for what was told; else for what was not."""
TWO_THINGS_SHARE = 0.25
"""How often who says the name says another thing in the same message."""
MORE_SHARE = 0.5
"""How often more about what was just told follows."""
FIX_SHARE, CHECK_SHARE, ALL_SHARE = 0.08, 0.1, 0.05
"""How often the user corrects what was told, asks whether a guess is right, or asks for everything."""
OTHER_WORD_SHARE = 0.25
"""How often a question has another word for whom or what it is about."""
FACETS = ("", " 2", " 3")
"""One memory may be asked for in several ways: ``ask`` with ``known``, ``ask 2`` with ``known 2``."""
SUMMARY = ("name", "age", "city", "job", "study", "petname", "relative", "pair", "pair age", "food", "color", "hobby")
"""What the assistant tells when it is asked for everything; the first answers of these stand by themselves."""
CAPITAL_LISTS = frozenset({"name", "city name", "country", "day", "month"})


@dataclass
class Fact:
    """One thing that was told.

    Attributes:
        memory: its paragraph of conversation.txt.
        bound: the words of its slots, lower case.
    """

    memory: Intent
    bound: dict[str, str]

    @property
    def spoken(self) -> dict[str, str]:
        """The words of the slots as an answer writes them: names have capitals, "my" is "your"."""
        named = {"other name", *(("it", "said") if list_of(self.memory, self.bound) in CAPITAL_LISTS else ())}
        said = {slot: re.sub(r"\bmy\b", "your", words) for slot, words in self.bound.items()}
        return {slot: words.title() if slot in named else words for slot, words in said.items()}


def list_of(memory: Intent, bound: dict[str, str]) -> str:
    """The list that ``<it>`` comes from; lines ``kinds`` name one for every word of the slot ``of``."""
    kinds = dict(pair.split("=") for pair in memory["kinds"])
    return kinds[bound[memory["of"][0]]] if kinds else memory["list"][0]


def key_of(memory: Intent, bound: dict[str, str]) -> tuple[str, str]:
    """What tells two facts apart: the memory's name, and of whom or of what it is."""
    of = memory["of"]
    return memory.name.removeprefix("memory "), bound[of[0]] if of else ""


class Memory:
    """The facts of one conversation.

    Args:
        memories: the paragraphs by name.
        recall: the paragraph of questions for everything.
        filler: fills the slots.
        phrase: chooses one phrasing of several.
    """

    def __init__(
        self, memories: dict[str, Intent], recall: Intent, filler: Filler, phrase: Callable[[list[str]], str]
    ) -> None:
        self.memories, self.recall, self.filler, self.phrase = memories, recall, filler, phrase
        self.rng: random.Random = filler.rng
        self.told: dict[tuple[str, str], Fact] = {}
        self.unsure: set[str] = set()
        self.latest: Fact | None = None

    def notice(self, user: str) -> None:
        """Take down what other words of the user may have told: to be asked for it is never answered by not knowing."""
        found = (
            name for name, memory in self.memories.items() if memory["touch"] and re.search(memory["touch"][0], user)
        )
        self.unsure.update(found)

    def tell(self, kind: str | None = None, reply: bool = False) -> Turn:
        """The user tells something, most often what was not told before."""
        latest, self.latest = self.latest, None
        if not kind and latest and latest.memory["more"] and self.rng.random() < MORE_SHARE:
            return self._more(latest)
        memory = self.memories[kind or self._untold()]
        user, fact = self._say(memory, "reply" if reply and memory["reply"] else "u")
        self.latest = fact
        if memory.name == "memory name" and not reply and self.rng.random() < TWO_THINGS_SHARE:
            others = [other for name, other in self.memories.items() if other["also"] and (name, "") not in self.told]
            if others:
                also, _ = self._say(self.rng.choice(others), "also")
                user += self.rng.choice((", ", " and ", ". ", ", and ")) + also
        return Turn(memory.name, user, self.filler.fill(self.rng.choice(memory["a"]), fact.spoken))

    def ask(self, oldest: bool = False) -> Turn:
        """The user asks for something that was told, or not; ``oldest``: for one of the first things told."""
        draw = self.rng.random()
        if draw < ALL_SHARE and not oldest:
            return self._everything()
        facts = list(self.told.values())[: 3 if oldest else None]
        if facts and (oldest or self.rng.random() < KNOWN_SHARE):
            fact = self.rng.choice(facts)
            if draw < ALL_SHARE + FIX_SHARE and fact.memory["fix"] and not oldest:
                return self.correct(fact)
            if draw > 1 - CHECK_SHARE and fact.memory["check"]:
                return self.ask_to_confirm(fact)
            return self.ask_told(fact)
        return self.ask_untold()

    def _untold(self) -> str:
        told = {name for name, _ in self.told}
        kinds = [*NAMES_TOLD, *self.memories]
        new = [kind for kind in kinds if kind not in told]
        return self.rng.choice(new if new and self.rng.random() < TOLD_ONCE_SHARE else kinds)

    def _say(self, memory: Intent, line: str) -> tuple[str, Fact]:
        bound = self._drawn(memory, memory["reply of"][0] if line == "reply" and memory["reply of"] else None)
        user = self.filler.fill(self.phrase(memory[line]), bound)
        return user, self._keep(memory, bound)

    def _keep(self, memory: Intent, bound: dict[str, str]) -> Fact:
        key = key_of(memory, bound)
        for other in [other for other in self.told if self._alike(memory, key[1], other)]:
            del self.told[other]
        fact = self.told[key] = Fact(memory, bound)
        return fact

    def _alike(self, memory: Intent, of: str, other: tuple[str, str]) -> bool:
        """Whether a fact answers the same question: the plans for Friday are one or another."""
        return bool(memory["group"]) and memory["group"] == self.memories[other[0]]["group"] and of == other[1]

    def _drawn(self, memory: Intent, of: str | None = None) -> dict[str, str]:
        """New words for all slots of a memory."""
        bound: dict[str, str] = {}
        for slot in memory["of"]:
            bound[slot] = of or self.filler.fill(f"<{slot}>", {})
        bound["it"] = self.filler.fill(f"<{list_of(memory, bound)}>", {})
        for slot in memory["slots"]:
            while (word := self.filler.fill(f"<{slot}>", {})) in bound.values():
                pass
            bound[slot] = word
        return bound

    def _more(self, fact: Fact) -> Turn:
        memory = self.memories[fact.memory["becomes"][0]]
        bound = {**self._drawn(memory), **fact.bound}
        user = self.filler.fill(self.phrase(fact.memory["more"]), bound)
        del self.told[key_of(fact.memory, fact.bound)]
        fact = self._keep(memory, bound)
        return Turn(memory.name, user, self.filler.fill(self.rng.choice(memory["a"]), fact.spoken))

    def ask_told(self, fact: Fact) -> Turn:
        """A question for what was told, and the answer."""
        ask, known = self._facet(fact.memory, alone=self._count(fact.memory) == 1)
        user = self.filler.fill(self.phrase(ask), self._in_other_words(fact))
        return Turn("known", user, self.filler.fill(self.rng.choice(known), fact.spoken))

    def ask_untold(self) -> Turn:
        """A question for what was not told; for everything where nothing else is left."""
        for _ in range(20):
            memory = self.memories[self.rng.choice([*self.memories, "name", "job", "study"])]
            bound = self._drawn(memory)
            name, of = key_of(memory, bound)
            alike = any(self._alike(memory, of, other) for other in self.told)
            if alike or (memory["same"] and self._count(memory)) or name in self.unsure or (name, of) in self.told:
                continue
            ask, _ = self._facet(memory, alone=self._count(memory) == 0)
            user = self.filler.fill(self.phrase(ask), bound)
            return Turn("unknown", user, self.filler.fill(self.rng.choice(memory["unknown"]), bound))
        return self._everything()

    def _facet(self, memory: Intent, alone: bool) -> tuple[list[str], list[str]]:
        """A line of questions and its line of answers; ``ask one`` does not say of whom or what."""
        if alone and memory["ask one"] and self.rng.random() < 0.2:
            return memory["ask one"], memory["known"]
        facet = self.rng.choice([facet for facet in FACETS if memory[f"ask{facet}"]])
        return memory[f"ask{facet}"], memory[f"known{facet}"]

    def _count(self, memory: Intent) -> int:
        """How many such things were told."""
        return sum(fact.memory is memory for fact in self.told.values())

    def _in_other_words(self, fact: Fact) -> dict[str, str]:
        """The words of the slots as the question has them: "boys" were told, "kids" may be asked for."""
        bound = dict(fact.bound)
        for pair in fact.memory["same"]:
            word, _, others = pair.partition("=")
            if word == key_of(fact.memory, bound)[1] and self.rng.random() < OTHER_WORD_SHARE:
                return {**bound, fact.memory["of"][0]: self.rng.choice(others.split(","))}
        return bound

    def correct(self, fact: Fact) -> Turn:
        """The user corrects what was told; the new word is remembered."""
        memory, old = fact.memory, fact.bound["it"]
        bound = {**fact.bound, "it": self._drawn(memory)["it"], "old": old}
        user = self.filler.fill(self.phrase(memory["fix"]), bound)
        fact.bound["it"] = bound["it"]
        return Turn(memory.name, user, self.filler.fill(self.rng.choice(memory["fixed"]), fact.spoken))

    def ask_to_confirm(self, fact: Fact) -> Turn:
        """The user guesses what was told, rightly or wrongly, and the answer says which."""
        memory, right = fact.memory, self.rng.random() < 0.5
        said = fact.bound["it"] if right else self._drawn(memory)["it"]
        checked = Fact(memory, {**fact.bound, "said": said})
        user = self.filler.fill(self.phrase(memory["check"]), checked.bound)
        answers = memory["right" if said == fact.bound["it"] else "wrong"]
        return Turn("known", user, self.filler.fill(self.rng.choice(answers), checked.spoken))

    def _everything(self) -> Turn:
        user = self.filler.fill(self.phrase(self.recall["ask"]), {})
        facts = [fact for (name, _), fact in self.told.items() if name in SUMMARY][:2]
        known = [self.filler.fill(fact.memory["known"][0], fact.spoken) for fact in facts]
        return Turn("known" if known else "unknown", user, " ".join(known) or self.rng.choice(self.recall["unknown"]))
