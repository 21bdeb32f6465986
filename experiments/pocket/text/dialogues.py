"""Composes the dialogues of the miniature assistant: intents, follow-ups, memory, small sums, honest not-knowing."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from num2words import num2words

from experiments.pocket.text.examples import WORDNET
from experiments.pocket.text.grammar import HERE, Grammar, read_lines
from experiments.pocket.text.intents import (
    CONVERSATION,
    INTENTS,
    Filler,
    Intent,
    Turn,
    choose,
    is_held_out,
    read_paragraphs,
    sentences_of,
    slots_of,
    written,
)
from experiments.pocket.text.sums import DAYS, DECLINED, NUMBERS, count_turn, day_turn, sum_turn
from experiments.pocket.text.vocabulary import load_vocabulary
from experiments.pocket.text.words import made_up, nouns_by_kind

SYSTEM_PROMPTS = (
    "You are a friendly voice assistant.", "You are a helpful assistant.", "You are a friendly conversational partner.",
    "Answer briefly, as if you were speaking.", "Speak naturally and keep it short.", "Keep your answers short.",
    "Answer in one or two short sentences.", "You are a voice.", "You talk with people.", "Be concise.", "Be kind.",
    "Your answers are spoken aloud.", "Write numbers in words.", "Do not use lists, markdown or emoji.",
    "You are having a spoken conversation.", "Use plain sentences.", "You are an assistant that speaks.",
    "Your name is Pocket.", "Answer like a friend.", "Your replies will be read aloud by a text to speech system.",
)  # fmt: skip
MAX_TURNS = 24
CUT_SHARE = 0.05
"""How many earlier answers end in the middle, as after an interruption; they are context, not something to learn."""
QUESTION_SHARE, REMARK_SHARE = 0.22, 0.22
"""How often an answer goes on with a question, or with a remark."""
REPLY_SHARE, FOLLOW_SHARE, MOOD_SHARE = 0.6, 0.27, 0.3
"""How often the user replies to a question, follows up on the answer before, or goes on in a sad or happy mood."""
BETTER_SHARE = 0.2
"""How often what is said in a sad mood ends it."""
LEAD_SHARE, TWICE_SHARE = 0.1, 0.05
"""How often a short remark comes before what the user says, and how often it is said in two ways."""
NAME_AND_JOB_SHARE = 0.15
"""How often who says the name says the job, too."""
JUST_A_JOKE = ("it's only a joke.", "it's only a joke, don't think too hard.")
_COPIED = "\x00"
ANSWER_KEYS = ("o", "a", "t", "q", "w", "y", "m", "known", "unknown")
ANSWER_LISTS = ("joke", "tale", "riddle", "fact line")
"""What answers are made of: the lines of the text files, and the lists that answers draw from."""
_BEFORE = (
    "hey, ", "hi, ", "so, ", "well, ", "um, ", "ok, ", "hello, ", "and ", "now ", "oh, ", "but ", "please ", "okay, ",
    "hey pocket, ", "pocket, ", "by the way, ", "actually, ", "so ", "well ", "oh ", "anyway, ", "hmm, ", "listen, ",
    "you know, ", "um ", "uh, ", "yes, ", "no, ", "okay so ", "thanks, ", "i see, ", "cool, ", "honestly, ", "just ",
    "ha, ", "haha, ", "aw, ", "oh i see, ", "right, ", "right. ", "alright, ", "ok so ", "yeah, ", "cool. ", "great. ",
    "ok. ",
)  # fmt: skip
_AFTER = (
    " please",
    " then",
    " today",
    " my friend",
    " pocket",
    " now",
    " you know",
    " right",
    " lol",
    " by the way",
    ", by the way",
    " though",
    " haha",
    " again",
    ", ok",
)
_QUESTION = re.compile(
    r"(\w+, )?(what|who|where|when|why|how|which|do|does|is|are|can|will|should|have|did|would|am|could|was|were)\b"
)
_VALUES = {num2words(value).replace("-", " "): value for value in range(2, 100)}
_NUMBER = re.compile(rf"\b({'|'.join(sorted(_VALUES, key=len, reverse=True))})\b")
_ARTICLE = re.compile(r"\ban? (?=([a-z]))")
_SHORT = (
    ("i'm", "i am"), ("what's", "what is"), ("don't", "do not"), ("you're", "you are"), ("it's", "it is"),
    ("can't", "cannot"), ("i've", "i have"), ("that's", "that is"), ("how's", "how is"), ("favorite", "favourite"),
    ("going to", "gonna"), ("want to", "wanna"), ("because", "cause"), ("doesn't", "does not"), ("isn't", "is not"),
)  # fmt: skip
_EVERYDAY = (
    "i ", "i'", "we ", "we'", "they ", "my ", "the ", "it ", "it's ", "{third}", "{first}", "{plural}",
)  # fmt: skip


class Message(TypedDict):
    """One message of a dialogue; ``learn`` says whether a model shall learn to write it."""

    role: str
    content: str
    learn: bool


class Composer:
    """Composes dialogues.

    Args:
        rng: source of every choice.
        held_out: compose the test's dialogues: phrasings that training never shows.
        odd_names: how many names are any word or a made-up one, so that a model learns to copy and not to guess.
        wordnet: folder of WordNet's data files; None uses the words of this folder alone.
    """

    def __init__(
        self,
        rng: random.Random,
        held_out: bool = False,
        odd_names: float = 0.4,
        wordnet: Path | None = WORDNET,
    ) -> None:
        self.rng, self.held_out, self.odd_names = rng, held_out, odd_names
        vocabulary = load_vocabulary()
        self.grammar = Grammar.load(rng)
        lists = self.grammar.lists
        lists |= vocabulary.kinds
        if wordnet is None:
            lists |= {f"{name} word": lists[name] for name in ("animal", "food", "place")} | {"wn": lists["noun"]}
        else:
            lists |= nouns_by_kind(frozenset(vocabulary.words), wordnet)
        lists["joke"] = read_lines(HERE / "jokes.txt")
        lists["everyday statement"] = [
            template.rstrip(".?!") for template in read_lines(HERE / "templates.txt") if template.startswith(_EVERYDAY)
        ]
        lists["everyday ever"] = [
            "{verb_past} the {noun}",
            "{verb_past} a {noun}",
            "seen a {noun}",
            "been to a {place}",
        ]
        lists["n"], lists["n word"] = ["one"], ["of them"]
        for name, plain in (("age", "number4"), ("city name", "city"), ("dish name", "dish")):
            lists[name] = [item for item in lists[plain] if not item.startswith("the ") and "{" not in item]
        tens = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy")
        lists["age"] = [f"{ten} {one}".strip() for ten in tens for one in ("", *NUMBERS[1:10])] + list(NUMBERS[10:20])
        lists["city name"] += lists["country"]
        self.filler = Filler(lists, rng, {"gib": lambda: made_up(rng), "name": self._some_name})
        self.intents = {intent.name: intent for intent in read_paragraphs(INTENTS)}
        self._read_conversation()
        self.weights = {name: float((intent["share"] or ["1"])[0]) for name, intent in self.intents.items()}

    def dialogue(self) -> tuple[str, list[Message]]:
        """The first turn's topic and the messages of one dialogue; it may begin in the middle of a talk."""
        talk = Talk(self)
        n_turns = self.rng.choice((1, 2, 3, 4, 6, 8, 10, 13, 16, 20, MAX_TURNS))
        turns = [talk.turn() for _ in range(n_turns)]
        messages: list[Message] = []
        if self.rng.random() < 0.35:
            messages.append(_message("system", " ".join(self.rng.sample(SYSTEM_PROMPTS, self.rng.randint(1, 3)))))
        for index, turn in enumerate(turns):
            answer = written(turn.answer, frozenset(talk.names)).split()
            cut = index + 1 < len(turns) and self.rng.random() < CUT_SHARE
            kept = answer[: self.rng.randint(1, len(answer))] if cut else answer
            messages.append(_message("user", as_typed(turn.user, self.rng)))
            messages.append(_message("assistant", " ".join(kept), learn=not cut))
        return turns[0].topic, messages

    def answers(self, n_turns: int = 150_000) -> Iterator[str]:
        """The answers' sentences of so many turns in the voice's spelling."""
        for _ in range(n_turns // MAX_TURNS):
            talk = Talk(self)
            for _ in range(MAX_TURNS):
                yield from sentences_of(talk.turn().answer)

    def sentence_patterns(self) -> list[re.Pattern[str]]:
        """Patterns of every sentence the answers are made of, lower case; a slot stands for one to four words.

        Sums and counting are not among them.
        """
        paragraphs = (self.intents, self.questions, self.after, self.memories, self.moods, self.better)
        templates = [*JUST_A_JOKE, "that was easy.", "do you have another one?", "i like numbers."]
        templates += [template for line in DECLINED for template in sentences_of(line)]
        for paragraph in (p for group in paragraphs for p in group.values()):
            templates += [part for key in ANSWER_KEYS for part in paragraph[key]]
            templates += [part for _, answers in paragraph.replies for part in answers]
        for name in ANSWER_LISTS:
            templates += self.grammar.lists[name]
        sentences = {s for template in templates for s in sentences_of(re.sub(r"<[^>]*>", _COPIED, template))}
        words = r"[a-z']+(?: [a-z']+){0,3}"
        return [re.compile(re.escape(sentence).replace(_COPIED, words)) for sentence in sorted(sentences)]

    def draw_intent(self) -> str:
        """An intent by its share."""
        return self.rng.choices(list(self.weights), list(self.weights.values()))[0]

    def phrase(self, templates: list[str]) -> str:
        """One phrasing, its slots still open, of the half (training or test) this composer is for."""
        phrasing = ""
        for _ in range(40):
            phrasing = choose(self.rng.choice(templates), self.rng)
            if is_held_out(phrasing) == self.held_out:
                break
        else:
            if not self.held_out:
                return choose(min(templates, key=len), self.rng)
        return phrasing

    def _some_name(self) -> str:
        draw = self.rng.random()
        if draw < self.odd_names / 2:
            return made_up(self.rng)
        return self.rng.choice(self.grammar.lists["wn" if draw < self.odd_names else "name"])

    def _read_conversation(self) -> None:
        self.questions: dict[str, Intent] = {}
        self.after: dict[str, Intent] = {}
        self.memories: dict[str, Intent] = {}
        self.moods: dict[str, Intent] = {}
        self.better: dict[str, Intent] = {}
        for paragraph in read_paragraphs(CONVERSATION):
            kind, _, name = paragraph.name.partition(" ")
            if kind == "list:":
                self.grammar.lists[name] = paragraph["items"]
            else:
                kinds = {"question": self.questions, "after": self.after, "memory": self.memories, "mood": self.moods}
                kinds.get(kind, self.better)[name] = paragraph


class Talk:
    """One conversation as it goes on: what was asked, what the user told, which intent the last answer had."""

    def __init__(self, composer: Composer) -> None:
        self.composer, self.rng, self.filler = composer, composer.rng, composer.filler
        self.told: dict[str, str] = {}
        self.names: set[str] = set()
        self.last: Turn | None = None
        self.question = self.mood = ""
        self.said: list[str] = []

    def turn(self) -> Turn:
        """The next exchange."""
        question, self.question = self.question, ""
        draw = self.rng.random()
        if question and draw < REPLY_SHARE:
            turn = self._reply(self.composer.questions[question])
        elif self.last and draw > 1 - FOLLOW_SHARE:
            turn = self._follow_up(self.last)
        elif self.last and self.mood and draw > 1 - FOLLOW_SHARE - MOOD_SHARE:
            turn = self._go_on(self.composer.moods[self.mood], self.last)
        else:
            turn = self._fresh()
        self.last = turn
        self.mood = next(iter(self.composer.intents.get(turn.topic, Intent(""))["mood"]), "")
        return turn

    def _go_on(self, mood: Intent, last: Turn) -> Turn:
        """More about what was sad or happy; the topic stays."""
        better = self.composer.better.get(self.mood)
        if better and self.rng.random() < BETTER_SHARE:
            return Turn("better", self.filler.fill(self.composer.phrase(better["u"]), {}), self.rng.choice(better["a"]))
        user = self.filler.fill(self.composer.phrase(mood["u"]), {})
        return Turn(last.topic, user, self.rng.choice(mood["a"]))

    def _fresh(self) -> Turn:
        draw = self.rng.random()
        for share, make in (
            (0.07, self._tell), (0.13, self._ask), (0.19, lambda: sum_turn(self.rng)),
            (0.20, lambda: count_turn(self.rng)), (0.207, lambda: day_turn(self.rng, DAYS)),
        ):  # fmt: skip
            if draw < share:
                return make()
        name = self.composer.draw_intent()
        phrasing = self.composer.phrase(self.composer.intents[name]["u"])
        draw = self.rng.random()
        if draw < LEAD_SHARE:
            mark = self.rng.choice((". ", ", ", "! ", " "))
            phrasing = f"{self.rng.choice(self.filler.lists['lead'])}{mark}{phrasing}"
        elif draw < LEAD_SHARE + TWICE_SHARE:
            phrasing += self.rng.choice((". ", ", ", "! ")) + self.composer.phrase(self.composer.intents[name]["u"])
        return self._intent(name, phrasing)

    def _intent(self, name: str, user: str | None = None) -> Turn:
        """An exchange on an intent; ``user`` is a phrasing from elsewhere."""
        intent, bound = self.composer.intents[name], dict[str, str]()
        user = self.filler.fill(user or self.composer.phrase(intent["u"]), bound)
        fitting = [answer for answer in intent["a"] if slots_of(answer) <= set(bound)]
        answer = self._new(fitting, bound)
        if intent["o"] and self.rng.random() < 0.5:
            answer = f"{self.rng.choice(intent['o'])} {answer}"
        return Turn(name, user, self._ending(intent, answer))

    def _new(self, templates: list[str], bound: dict[str, str]) -> str:
        """An answer not given in the last turns, so that jokes and stories do not come again."""
        answer = ""
        for _ in range(6):
            answer = self.filler.fill(self.rng.choice(templates), dict(bound))
            if answer not in self.said[-8:]:
                break
        self.said.append(answer)
        return answer

    def _ending(self, intent: Intent, answer: str) -> str:
        if "?" in answer.rsplit(". ", 1)[-1]:
            return answer
        draw = self.rng.random()
        if intent["q"] and draw < QUESTION_SHARE:
            self.question = self.rng.choice(intent["q"])
            return f"{answer} {self.rng.choice(self.composer.questions[self.question]['q'])}"
        if intent["t"] and draw < QUESTION_SHARE + REMARK_SHARE and answer.count(".") < 2:
            return f"{answer} {self.rng.choice(intent['t'])}"
        return answer

    def _reply(self, question: Intent) -> Turn:
        if question["memory"]:
            return self._tell(question["memory"][0], reply=True)
        options: list[tuple[list[str], list[str]]] = [*question.replies]
        if question["go"] and (not options or self.rng.random() < 0.35):
            return self._intent(self.rng.choice(question["go"]))
        users, answers = self.rng.choice(options)
        user = self.composer.phrase(users)
        if answers[0].startswith("> "):
            return self._intent(self.rng.choice(answers)[2:], user)
        bound: dict[str, str] = {}
        return Turn(question.name, self.filler.fill(user, bound), self.filler.fill(self.rng.choice(answers), bound))

    def _follow_up(self, last: Turn) -> Turn:
        intent = self.composer.intents.get(last.topic, Intent(last.topic))
        kinds = ["why", "why", "and you", "more", "repeat", "really", "doubt", "said", "opinion"] + ["another"] * (
            4 if intent["n"] else 0
        )
        kind = self.rng.choice(kinds)
        after = self.composer.after[kind]
        user = self.filler.fill(self.composer.phrase(after["u"]), {})
        match kind:
            case "another":
                return self._intent(intent["n"][0], user)
            case "repeat":
                return Turn(last.topic, user, last.answer)
            case "why" if intent["w"] == ["joke"]:
                return Turn(
                    last.topic, user, self.rng.choice(("it's only a joke.", "it's only a joke, don't think too hard."))
                )
        own = intent[{"why": "w", "and you": "y", "more": "m"}.get(kind, kind)]
        return Turn(last.topic, user, self.rng.choice(own or after["a"]))

    def _tell(self, kind: str | None = None, reply: bool = False) -> Turn:
        memory = self.composer.memories[kind or self.rng.choice(["name", "name", *self.composer.memories])]
        bound: dict[str, str] = {}
        it = self.filler.fill(f"<{memory['list'][0]}>", bound)
        name = memory.name.removeprefix("memory ")
        self.told[name] = it
        if name in {"name", "petname"}:
            self.names.update(it.split())
        user = self.filler.fill(self.composer.phrase(memory["reply" if reply else "u"]), {"it": it})
        if name == "name" and self.rng.random() < NAME_AND_JOB_SHARE:
            job = self.told["job"] = self.filler.fill("<job told>", {})
            user += self.filler.fill(self.rng.choice((", i'm <job.a>", " and i work as <job.a>")), {"job": job})
        return Turn(memory.name, user, self.filler.fill(self.rng.choice(memory["a"]), {"it": it}))

    def _ask(self) -> Turn:
        known = [*self.told, *self.told, *self.told, "name"]
        kind = self.rng.choice(known if self.rng.random() < 0.75 else [*self.composer.memories])
        memory = self.composer.memories[kind]
        user = self.filler.fill(self.composer.phrase(memory["ask"]), {})
        answers = memory["known"] if kind in self.told else memory["unknown"]
        answer = self.filler.fill(self.rng.choice(answers), {"it": self.told.get(kind, "")})
        if kind == "name" and answer.endswith("?"):
            self.question = "name"
        return Turn(f"{memory.name} asked", user, answer)


def as_typed(text: str, rng: random.Random) -> str:
    """The many ways people type a phrase: marks, greetings and please, short and long forms, or none of it."""
    for short, long in _SHORT:
        if rng.random() < 0.12:
            text = re.sub(rf"\b{short}\b", long, text)
        elif rng.random() < 0.12:
            text = re.sub(rf"\b{long}\b", short, text)
    text = text.replace(" '", "'")
    if rng.random() < 0.35:
        text = _NUMBER.sub(lambda match: str(_VALUES[match[0]]), text)
    text = _ARTICLE.sub(lambda match: "an " if match[1] in "aeiou" else "a ", text)
    mark = _mark(text, rng)
    draw = rng.random()
    if draw < 0.14 and len(text.split()) < 12:
        text = rng.choice(_BEFORE) + text
    elif draw < 0.19:
        text += rng.choice(_AFTER)
    if rng.random() < 0.08:
        text = text.replace("'", "")
    if rng.random() < 0.05:
        text = text.replace(",", "")
    return text + mark


def _mark(text: str, rng: random.Random) -> str:
    asks = _QUESTION.match(text)
    marks, weights = (("?", "", "??", "."), (6, 4, 0.3, 0.3)) if asks else (("", ".", "!", "?"), (4, 5, 1, 0.3))
    return rng.choices(marks, weights)[0]


def _message(role: str, content: str, learn: bool = False) -> Message:
    return {"role": role, "content": content, "learn": learn}
