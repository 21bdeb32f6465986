"""What the user tells about themselves in one conversation, and the questions about it later."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from csmkit.llm.answer_sentences import NAME, WORDS
from experiments.pocket.text.intents import BOUND, Filler, Intent, Turn

NAMES_TOLD = (
    "name", "name", "name", "petname", "petname", "petname", "relative", "relative", "relative", "relative",
    "pair", "pair", "met", "son and daughter", "brother and sister", "dog and cat", "job", "study",
)  # fmt: skip
"""What users tell more often than the other things that are remembered."""
TOLD_ONCE_SHARE = 0.9
"""How often something new is told instead of something that was told before."""
KNOWN_SHARE, OLDEST_KNOWN_SHARE = 0.75, 0.92
"""How often the user asks for what was told, or for one of the first things told; else for what was not."""
TWO_THINGS_SHARE, THREE_THINGS_SHARE = 0.25, 0.25
"""How often who says a name says another thing in the same message, and then a third."""
SAME_PERSON_SHARE = 0.15
"""How often more of the same person is said in the same message."""
NOT_TOLD_OF_SHARE = 0.4
"""How often what is asked for and was not told is of somebody of whom another thing was told."""
TELL_LEAD_SHARE, TELL_TAIL_SHARE = 0.08, 0.06
ASK_LEAD_SHARE, ASK_TAIL_SHARE = 0.14, 0.1
"""How often words such as "by the way" or "quick test" come before what is told or asked, or after it."""
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
HERS, HIS = ("she", "her", "her"), ("he", "his", "him")
MARKS = (", ", ". ", " ")
JOINTS = (", ", " and ", ". ", ", and ", ". also, ", ". oh, and ", "! ", ". and ")
_ASKS = re.compile(r"\b(you|yours|name|yourself|called)$")
_LED = re.compile(r"(by the way|btw|oh|ok|okay|so|also|and|well|now|hi|hello|hey|good)\b")
_TAILED = re.compile(r"remember|know|told|tell|by the way|btw|recall|forg[eo]t|, ")
CAPITAL_LISTS = frozenset({"name", "city name", "country", "day", "month"})
OWN_LISTS = frozenset({"guest told"})
"""Lists whose words are names, and lists whose words begin with "my"."""


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
        return {
            slot: words.title() if slot in named and not words.startswith("your ") else words
            for slot, words in said.items()
        }


def list_of(memory: Intent, bound: dict[str, str]) -> str:
    """The list that ``<it>`` comes from; lines ``kinds`` name one for every word of the slot ``of``."""
    kinds = dict(pair.split("=") for pair in memory["kinds"])
    return kinds[bound[memory["of"][0]]] if kinds else memory["list"][0]


def with_places(template: str, paragraph: Intent) -> list[str]:
    """An answer as a list of sentences has it: with the place of a name, or of other words, for each slot."""
    lists = [*paragraph["list"], *(pair.partition("=")[2] for pair in paragraph["kinds"])] or [""]
    articles = ("a ", "an ") if ".a>" in template else ("",)

    def place_of(name: str) -> str:
        return NAME if name in CAPITAL_LISTS else f"your {WORDS}" if name in OWN_LISTS else WORDS

    def filled(it: str, article: str) -> str:
        place = {"it": it, "said": it, "other name": NAME}
        return BOUND.sub(lambda slot: (article if slot[2] else "") + place.get(slot[1], WORDS), template)

    return [filled(place_of(name), article) for name in lists for article in articles]


def key_of(memory: Intent, bound: dict[str, str]) -> tuple[str, str]:
    """What tells two facts apart: the memory's name, and of whom or of what it is."""
    of = memory["of"]
    return memory.name.removeprefix("memory "), bound[of[0]] if of else ""


def other_words(memory: Intent, of: str) -> list[str]:
    """Other words for whom or what a memory is about, from its lines ``same``: a father is a dad."""
    pairs = (pair.partition("=") for pair in memory["same"])
    return [word for told, _, words in pairs if told == of for word in words.split(",")]


def _of_several(of: str, told: tuple[str, str]) -> bool:
    """Whether a fact is of several of those that a question is of, or the other way round: sons, and a son."""
    return bool(of and told[1]) and (f"{of}s" == told[1] or f"{told[1]}s" == of)


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

    def notice(self, user: str, own: bool = False) -> None:
        """Take down what other words of the user may have told: to be asked for it is never answered by not knowing.

        ``own``: only what is the user's own, and not that of one of several; where another thing was told on purpose.
        """
        found = (
            name
            for name, memory in self.memories.items()
            if memory["touch"] and not (own and memory["of"]) and re.search(memory["touch"][0], user)
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
        answer = self.filler.fill(self.rng.choice(memory["a"]), fact.spoken)
        if not reply:
            more = "" if _ASKS.search(user) else self._in_one_breath(fact)
            self.latest = None if more else fact
            user = user + more if more else self._between(user, "tell", TELL_LEAD_SHARE, TELL_TAIL_SHARE)
        return Turn(memory.name, user, answer)

    def _in_one_breath(self, fact: Fact) -> str:
        """What is told besides in the same message: more of the same person, or one or two other things."""
        of = fact.bound.get("of", "")
        others = [other for other in self.memories.values() if other["he"] and other is not fact.memory]
        same = [other for other in others if of in self._words_of(other)]
        if same and self.rng.random() < SAME_PERSON_SHARE:
            memory = self.rng.choice(same)
            bound = self.drawn(memory, of) | {word: fact.bound[word] for word in ("he", "his", "him")}
            self._keep(memory, bound)
            said = self.filler.fill(self.phrase(memory["he"]), bound)
            return self.rng.choice((", ", " and ", ". ", ", and ")) + said
        if not (fact.memory["also"] or fact.memory.name == "memory name"):
            return ""
        said, share = "", TWO_THINGS_SHARE
        while self.rng.random() < share and (also := self._another()):
            said, share = said + self.rng.choice(JOINTS) + also, THREE_THINGS_SHARE if not said else 0
        return said

    def _another(self) -> str:
        """Another thing that was not told yet, as it is said after a first one; nothing after some vain tries."""
        also = [name for name, memory in self.memories.items() if memory["also"]]
        for _ in range(8):
            memory = self.memories[self.rng.choice(also)]
            bound = self.drawn(memory)
            if not any(self._alike(memory, key_of(memory, bound)[1], other) for other in self.told):
                user = self.filler.fill(self.phrase(memory["also"]), bound)
                self._keep(memory, bound)
                return user
        return ""

    def _between(self, user: str, kind: str, lead_share: float, tail_share: float) -> str:
        """A phrasing, now and then with words of the list ``<kind> lead`` before it or ``<kind> tail`` after it."""
        draw = self.rng.random()
        if draw < lead_share and not _LED.match(user):
            return self.filler.fill(f"{{{kind} lead}}", {}) + self.rng.choice(MARKS) + user
        if lead_share <= draw < lead_share + tail_share and not _TAILED.search(user):
            return user + ", " + self.filler.fill(f"{{{kind} tail}}", {})
        return user

    def ask(self, oldest: bool = False) -> Turn:
        """The user asks for something that was told, or not; ``oldest``: for one of the first things told."""
        draw = self.rng.random()
        if draw < ALL_SHARE and not oldest:
            return self._everything()
        facts = list(self.told.values())[: 4 if oldest else None]
        if facts and self.rng.random() < (OLDEST_KNOWN_SHARE if oldest else KNOWN_SHARE):
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
        bound = self.drawn(memory, memory["reply of"][0] if line == "reply" and memory["reply of"] else None)
        user = self.filler.fill(self.phrase(memory[line]), bound)
        return user, self._keep(memory, bound)

    def _keep(self, memory: Intent, bound: dict[str, str]) -> Fact:
        key = key_of(memory, bound)
        for other in [other for other in self.told if self._alike(memory, key[1], other)]:
            del self.told[other]
        fact = self.told[key] = Fact(memory, bound)
        return fact

    def _alike(self, memory: Intent, of: str, other: tuple[str, str]) -> bool:
        """Whether a fact answers the same question: the plans for Friday are one or another, a dog may be a puppy."""
        told = self.memories[other[0]]
        if memory["list"] == told["list"] == ["name"] and (of in told["covers"] or other[1] in memory["covers"]):
            return True
        if told is not memory and not (memory["group"] and memory["group"] == told["group"]):
            return False
        return of == other[1] or of in other_words(told, other[1]) or other[1] in other_words(memory, of)

    def drawn(self, memory: Intent, of: str | None = None) -> dict[str, str]:
        """New words for all slots of a memory."""
        bound: dict[str, str] = {}
        for slot in memory["of"]:
            bound[slot] = of or self.filler.fill(f"<{slot}>", {})
            bound["of"] = bound[slot]
        bound["it"] = self.filler.fill(f"<{list_of(memory, bound)}>", {})
        for slot in memory["slots"]:
            while (word := self.filler.fill(f"<{slot}>", {})) in bound.values():
                pass
            bound[slot] = word
        return bound | self._pronouns(bound.get("of", ""))

    def _pronouns(self, of: str) -> dict[str, str]:
        """The words for ``<he>``, ``<his>`` and ``<him>`` that fit a relative or a pet; one of both where both do."""
        woman, man = (of in self.filler.lists[name] for name in ("woman", "man"))
        he, his, him = HERS if woman or not (man or self.rng.random() < 0.5) else HIS
        return {"he": he, "his": his, "him": him}

    def _words_of(self, memory: Intent) -> list[str]:
        """Whose or of what such a thing may be."""
        return self.filler.lists[memory["of"][0]] if memory["of"] else []

    def _more(self, fact: Fact) -> Turn:
        memory = self.memories[fact.memory["becomes"][0]]
        bound = {**self.drawn(memory), **fact.bound}
        user = self.filler.fill(self.phrase(fact.memory["more"]), bound)
        del self.told[key_of(fact.memory, fact.bound)]
        fact = self._keep(memory, bound)
        return Turn(memory.name, user, self.filler.fill(self.rng.choice(memory["a"]), fact.spoken))

    def ask_told(self, fact: Fact) -> Turn:
        """A question for what was told, and the answer."""
        ask, known = self._facet(fact.memory, alone=self._count(fact.memory) == 1)
        user = self._question(ask, self._in_other_words(fact))
        return Turn("known", user, self.filler.fill(self.rng.choice(known), fact.spoken))

    def ask_untold(self) -> Turn:
        """A question for what was not told; for everything where nothing else is left."""
        for _ in range(20):
            memory = self.memories[self.rng.choice([*self.memories, "name", "job", "study"])]
            bound = self.drawn(memory, self._told_of(memory))
            name, of = key_of(memory, bound)
            known = any(self._alike(memory, of, other) or _of_several(of, other) for other in self.told)
            if known or name in self.unsure:
                continue
            ask, _ = self._facet(memory, alone=self._count(memory) == 0)
            user = self._question(ask, bound)
            return Turn("unknown", user, self.filler.fill(self.rng.choice(memory["unknown"]), bound))
        return self._everything()

    def _told_of(self, memory: Intent) -> str | None:
        """Now and then somebody of whom another thing was told already, for a question of this memory."""
        words = self._words_of(memory)
        told = [of for _, of in self.told if of in words]
        return self.rng.choice(told) if told and self.rng.random() < NOT_TOLD_OF_SHARE else None

    def _question(self, ask: list[str], bound: dict[str, str]) -> str:
        user = self.filler.fill(self.phrase(ask), bound)
        return self._between(user, "ask", ASK_LEAD_SHARE, ASK_TAIL_SHARE)

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
        memory, of = fact.memory, key_of(fact.memory, fact.bound)[1]
        told = [key[1] for key, other in self.told.items() if other is not fact and other.memory is memory]
        meant = {word for each in told for word in (each, *other_words(memory, each))}
        words = [word for word in other_words(memory, of) if word not in meant]
        if words and self.rng.random() < OTHER_WORD_SHARE:
            return {**fact.bound, memory["of"][0]: self.rng.choice(words)}
        return dict(fact.bound)

    def correct(self, fact: Fact) -> Turn:
        """The user corrects what was told; the new word is remembered."""
        memory, old = fact.memory, fact.bound["it"]
        bound = {**fact.bound, "it": self.drawn(memory)["it"], "old": old}
        user = self.filler.fill(self.phrase(memory["fix"]), bound)
        fact.bound["it"] = bound["it"]
        return Turn(memory.name, user, self.filler.fill(self.rng.choice(memory["fixed"]), fact.spoken))

    def ask_to_confirm(self, fact: Fact) -> Turn:
        """The user guesses what was told, rightly or wrongly, and the answer says which."""
        memory, right = fact.memory, self.rng.random() < 0.5
        said = fact.bound["it"] if right else self.drawn(memory)["it"]
        checked = Fact(memory, {**fact.bound, "said": said})
        user = self.filler.fill(self.phrase(memory["check"]), checked.bound)
        answers = memory["right" if said == fact.bound["it"] else "wrong"]
        return Turn("known", user, self.filler.fill(self.rng.choice(answers), checked.spoken))

    def _everything(self) -> Turn:
        user = self.filler.fill(self.phrase(self.recall["ask"]), {})
        facts = [fact for (name, _), fact in self.told.items() if name in SUMMARY][:2]
        known = [self.filler.fill(fact.memory["known"][0], fact.spoken) for fact in facts]
        return Turn("known" if known else "unknown", user, " ".join(known) or self.rng.choice(self.recall["unknown"]))
