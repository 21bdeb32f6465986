"""Composes the dialogues of the miniature assistant: intents, follow-ups, memory, small sums, honest not-knowing."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from experiments.pocket.text.examples import WORDNET, statements
from experiments.pocket.text.grammar import HERE, Grammar, read_lines
from experiments.pocket.text.intents import (
    CONVERSATION,
    INTENTS,
    Filler,
    Intent,
    Turn,
    choose,
    is_held_out,
    joined,
    read_paragraphs,
    sentences_of,
    slots_of,
    written,
)
from experiments.pocket.text.memory import NAMES_TOLD, Memory, with_places
from experiments.pocket.text.subjects import LISTS, NONE_ABOUT, Requests, Subjects
from experiments.pocket.text.sums import DAYS, NUMBERS, count_turn, day_turn, sum_answers, sum_turn
from experiments.pocket.text.talks import Excerpts, Line, read_answers, read_talks
from experiments.pocket.text.typed import as_typed
from experiments.pocket.text.vocabulary import load_vocabulary
from experiments.pocket.text.words import made_up, nouns_by_kind, proper_nouns

SYSTEM_PROMPTS = (
    "You are a friendly voice assistant.", "You are a helpful assistant.", "You are a friendly conversational partner.",
    "Answer briefly, as if you were speaking.", "Speak naturally and keep it short.", "Keep your answers short.",
    "Answer in one or two short sentences.", "You are a voice.", "You talk with people.", "Be concise.", "Be kind.",
    "Your answers are spoken aloud.", "Write numbers in words.", "Do not use lists, markdown or emoji.",
    "You are having a spoken conversation.", "Use plain sentences.", "You are an assistant that speaks.",
    "Your name is Pocket.", "Answer like a friend.", "Your replies will be read aloud by a text to speech system.",
)  # fmt: skip
MAX_TURNS = 48
USUAL_TURNS, LONG_TURNS, LONG_SHARE = (1, 2, 4, 6, 8, 8, 10, 12, 16), (24, 34, MAX_TURNS), 0.08
"""How many turns a talk has, and how many are long: what a line means is learned as well from short ones, and attention
over long ones costs half of a training."""
TALK_SHARE, STAY_SHARE = 0.35, 0.85
"""How often something new is a piece of a written talk, and how often such a piece goes on with its next line."""
NEUTRAL_SHARE = 0.35
"""How often a line gets an answer that fits nearly any other, unless its class names a share of its own: a model that
is not sure of a class learns to give it."""
CUT_SHARE = 0.05
"""How many earlier answers end in the middle, as after an interruption; they are context, not something to learn."""
QUESTION_SHARE, REMARK_SHARE = 0.22, 0.22
"""How often an answer goes on with a question, or with a remark."""
REPLY_SHARE, FOLLOW_SHARE, MOOD_SHARE = 0.6, 0.2, 0.25
"""How often the user replies to a question, follows up on the answer before, or goes on in a sad or happy mood."""
NO_REPLY_SHARE = 0.04
"""How often the user does not answer a question but asks why, or does not want to say."""
BETTER_SHARE = 0.2
"""How often what is said in a sad mood ends it."""
LEAD_SHARE, TWICE_SHARE = 0.1, 0.05
"""How often a short remark comes before what the user says, and how often it is said in two ways."""
TOLD_BEFORE_SHARE = 0.15
"""How often a question comes after something told in the same breath; the answer is to the question."""
AND_YOU_SHARE = 0.06
"""How often "and you?" follows in the same breath what the user tells of himself."""
AND_YOU = (", and you", ". and you", ", what about you", ". what about you", ", how about you", ". how about you")
_TELLS = re.compile(r"(i|we|my|our)\b")
TOLD_BEFORE = ("life told", "life told", "nice told", "i like", "did something", "family told", "weather told")
"""The intents of what is told before a question."""
ASKS = re.compile(r"(what|who|where|when|why|how|which|do you|are you|can you|have you|tell me|is it|should i)\b")
"""How a question or a request begins."""
RECALL_SHARE = 0.4
"""How many talks are brief and only tell something and ask for it, so that copying a word is practised often."""
SEVERAL_SHARE = 0.7
"""How many of those that are long enough tell a second and a third thing, or ask for a second one."""
GREET_SHARE = 0.08
"""How many talks begin with a greeting where they would begin with anything."""
PLAN_SHARE, PLAN_TURNS = 0.5, 8
"""How many of the talks of at least so many turns have several things told at first and asked for at last."""
REMARK_AFTER_SHARE, ASIDE_TURNS = 0.3, 3
"""How often a remark on it follows a joke, a fact or an answer; for how many turns "another one" still means it."""
GENERAL_REMARK_SHARE = 0.06
"""How often a remark that fits any answer follows an answer that has no remarks of its own."""
THINGS_TOLD = ("joke", "story", "fact", "riddle", "quote", "song")
"""The intents that tell something, of which the user may ask for one, or for another one."""
_THING_WORDS = {
    "joke": "joke", "jokes": "joke", "story": "story", "stories": "story", "tale": "story", "tales": "story",
    "fact": "fact", "facts": "fact", "riddle": "riddle", "riddles": "riddle", "song": "song", "poem": "quote",
}  # fmt: skip
GENERAL_REMARKS = (
    "end of topic", "short break", "amazed", "excuse", "only a question", "what i mean", "fine by user",
    "reactions to feelings", "mixed feelings", "disagree", "off now", "praise", "ok", "testing", "hear badly",
    "cut short", "corrected", "said already", "contradiction", "user is learning", "you repeat", "what is wrong",
)  # fmt: skip
REMARKS = {
    "joke": ("haha", "haha", "bad joke", "understood", "praise", "will tell others", "will tell others", "end of topic",
             "source asked", "unclear", "unclear"),
    "fact": ("new to me", "amazed", "amazed", "praise", "fine by user", "will look", "so useless", "will tell others",
             "source asked"),
    "story": ("cute", "cute", "praise", "fine by user", "haha", "will tell others"),
    "riddle": ("haha", "understood", "praise", "new to me", "unclear", "will tell others"),
    "quote": ("cute", "praise", "thanks"),
    "song": ("haha", "cute", "pity", "praise"),
    "sum": ("right answer", "compliment", "praise", "too lazy to think", "passed test", "passed test", "thanks"),
    "large sum": ("fine by user", "pity", "testing", "clever machine", "only a question", "will look"),
    "known": ("compliment", "good listener", "good listener", "right answer", "passed test", "thanks", "source asked"),
    "unknown": ("pity", "fine by user", "testing", "only a question", "clever machine", "said already", "said already"),
    "weather asked": ("fine by user", "pity", "will look", "excuse", "only a question"),
    "time asked": ("fine by user", "pity", "will look", "excuse", "clever machine"),
    "date asked": ("fine by user", "pity", "will look", "excuse", "clever machine"),
    "can you": ("pity", "fine by user", "ok", "excuse", "excuse", "only a question"),
    "order": ("pity", "fine by user", "ok", "will look", "excuse"),
    "order asked": ("pity", "fine by user", "ok", "will look", "excuse", "clever machine", "only a question"),
    "name asked of it": ("name of it explained", "name of it liked", "name of it liked", "nickname", "fine by user"),
    "hear badly": ("fine by user", "pity", "excuse"),
    "why ask": ("will not tell", "fine by user"),
    "will not tell": ("thanks", "end of topic"),
    "is that good": ("thanks", "will do it", "what i mean"),
    "will it be": ("would be nice", "thanks", "what i mean"),
    "family of it": ("pity for it", "pity for it", "fine by user", "excuse", "excuse", "lucky it"),
    "never does": ("lucky it", "lucky it", "pity for it", "fine by user", "excuse", "agree too"),
    "age of it": ("baby", "baby", "fine by user", "agree too"),
    "how long around": ("baby", "baby", "fine by user"),
    "birthday of it": ("baby", "pity for it", "fine by user"),
    "its day": ("pity for it", "lucky it", "fine by user"),
    "its plans": ("pity for it", "lucky it", "off now", "fine by user"),
    "calm life": ("pity for it", "lucky it", "sounds", "fine by user"),
    "box of it": ("sounds", "pity for it", "box visited", "fine by user"),
    "home of it": ("sounds", "pity for it", "box of it", "fine by user"),
    "feelings of it": ("pity for it", "lucky it", "fine by user", "excuse", "disagree"),
    "bad feelings asked": ("lucky it", "lucky it", "agree too", "fine by user", "excuse"),
    "bad about user": ("reactions to feelings", "thanks", "will look", "fine by user"),
    "good about user": ("reactions to feelings", "thanks", "praise"),
    "sounds to it": ("haha", "praise", "reactions to feelings", "thanks"),
    "advice": ("praise", "thanks", "helped a bit", "right answer", "not so easy", "not so easy", "will do it"),
    "calm advice": ("thanks", "praise", "not so easy", "will do it", "helped a bit"),
    "sleep advice": ("thanks", "praise", "not so easy", "will do it", "helped a bit"),
    "learn advice": ("thanks", "praise", "not so easy", "will do it", "helped a bit"),
    "good life advice": ("thanks", "praise", "not so easy", "not so easy", "will do it"),
    "people advice": ("thanks", "praise", "not so easy", "will do it", "what i mean"),
    "love advice": ("thanks", "praise", "not so easy", "will do it", "better not"),
    "child or pet advice": ("thanks", "praise", "not so easy", "not so easy", "will do it"),
    "what would you do": ("not so easy", "not so easy", "not so easy", "will do it", "praise", "thanks"),
    "leave them asleep": ("better not", "better not", "better not", "will do it", "right answer"),
    "talk to them advice": ("will do it", "will do it", "will do it", "not so easy", "better not", "right answer"),
    "buy it or not": ("will do it", "better not", "right answer", "what i mean", "thanks"),
    "should i": ("praise", "right answer", "thanks", "will do it", "better not", "mixed feelings"),
    "choice": ("praise", "what i mean", "disagree", "fine by user"),
    "opinion told": ("what i mean", "agree too", "right answer"),
    "tag question": ("what i mean", "right answer"),
    "mixed feelings": ("what i mean", "thanks", "reactions to feelings"),
    "not so easy": ("what i mean", "right answer", "thanks", "will do it"),
    "clever machine": ("testing", "testing", "excuse", "only a question", "fine by user"),
    "baby": ("cute", "haha", "testing"),
    "insult": ("excuse", "testing", "fine by user"),
    "wear or give": ("praise", "thanks", "will look", "right answer"),
    "present asked": ("praise", "thanks", "will look", "right answer"),
    "doctor asked": ("right answer", "thanks", "will do it", "fine by user", "better not"),
    "sweet afterwards": ("food for the kids", "drink with it", "thanks", "no such food", "recipe asked"),
    "drink with it": ("sweet afterwards", "food for the kids", "thanks", "fine by user"),
    "food for the kids": ("sweet afterwards", "drink with it", "thanks", "recipe asked", "no such food"),
    "topic told": ("only a question", "fine by user", "what i mean"),
    "hungry": ("sweet afterwards", "sweet afterwards", "drink with it", "food for the kids",
               "no such food", "own choice of food", "order asked", "recipe asked", "praise", "thanks", "what i mean"),
    "sad": ("thanks", "right answer", "reactions to feelings"),
    "tired": ("thanks", "right answer"),
    "compliment": ("testing", "fine by user"),
    "movie book asked": ("praise", "will look", "thanks"),
    "know about": ("agree too", "fine by user", "testing", "pity"),
    "short break": ("back after a break", "back after a break", "back after a break", "thanks"),
    "door rings": ("back after a break", "back after a break", "back after a break", "thanks"),
    "called away": ("back after a break", "back after a break", "off now"),
    "battery": ("off now", "back after a break"),
    "off now": ("back after a break", "off now", "goodbye"),
    "goodbye": ("back after a break", "off now"),
    "good night": ("good night", "back after a break"),
    "back after a break": ("waited", "waited", "how are you"),
    "away news": ("thanks", "off now", "reactions to feelings"),
    "stories spoken of": ("tell one", "tell one", "tell one", "fine by user"),
    "jokes spoken of": ("tell one", "tell one", "tell one", "fine by user"),
    "facts spoken of": ("tell one", "tell one", "tell one", "fine by user"),
    "riddles spoken of": ("tell one", "tell one", "tell one", "fine by user"),
} | dict.fromkeys(
    ("fact question", "who question", "when question", "number question", "which question", "why how question",
     "is it so question", "how to"),
    ("fine by user", "will look", "pity", "agree too", "testing", "only a question", "only a question", "excuse",
     "clever machine", "clever machine"),
)  # fmt: skip
"""What users say to an answer, by the topic of the answer; ``known`` and ``unknown`` are of what was told."""
AGAIN_SHARE, AGAIN_ABOUT_SHARE = 0.22, 0.2
"""How often another one is asked for while what was told last is still meant, and how many of these name a subject."""
SUM_AGAIN_SHARE = 0.2
"""How often a sum follows a sum."""
_OFFERS = re.compile(r"\b(tell|ask me for|here is)\b")
_GOES_ON = re.compile(r"(more|what else|any more|anything else|(can you )?tell me more)\b(?! about)")
"""What asks for another one after something told, and for more of the same after anything else."""
JUST_A_JOKE = ("it's only a joke.", "it's only a joke, don't think too hard.")
GREETINGS = frozenset(("hey", "hello", "hiya", "heya", "howdy", "morning", "evening", "mornin", "sup", "bye"))
"""Words that are never a name."""
ANSWER_KEYS = (
    "o", "a", "t", "q", "w", "y", "m", "known", "known 2", "known 3", "unknown", "fixed", "right", "wrong", "unclear",
)  # fmt: skip
ANSWER_LISTS = ("joke", "tale", "riddle", "fact line")
"""What answers are made of: the lines of the text files, and the lists that answers draw from."""
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
        odd_names: how many names are rare ones, or made up, so that a model learns to copy and not to guess.
        wordnet: folder of WordNet's data files; None uses the words of this folder alone.
    """

    def __init__(
        self,
        rng: random.Random,
        held_out: bool = False,
        odd_names: float = 0.8,
        wordnet: Path | None = WORDNET,
    ) -> None:
        self.rng, self.held_out, self.odd_names = rng, held_out, odd_names
        vocabulary = load_vocabulary()
        self.grammar = Grammar.load(rng)
        lists = self.grammar.lists
        lists |= vocabulary.kinds
        if wordnet is None:
            lists |= {f"{name} word": lists[name] for name in ("animal", "food", "place")} | {"wn": lists["noun"]}
            lists |= {"person proper": lists["name"], "place proper": lists["city"], "wordnet said": ["{plural}"]}
        else:
            lists |= nouns_by_kind(frozenset(vocabulary.words), wordnet)
            lists |= proper_nouns(frozenset(vocabulary.words), wordnet)
            lists["wordnet said"] = statements(wordnet)
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
        lists["city name"] += rng.sample(lists["place proper"], min(len(lists["place proper"]), 60))
        self.common = GREETINGS | frozenset(vocabulary.words) - frozenset(lists["name"])
        self.filler = Filler(lists, rng, {"gib": lambda: made_up(rng), "name": self._some_name})
        self.intents = joined(read_paragraphs(INTENTS))
        self._read_conversation()
        told = {kind: lists[name] for kind, name in LISTS.items()} | {"quote": self.intents["quote"]["a"]}
        self.requests = Requests(Subjects(told, others=frozenset(lists["noun"])), self.filler, rng, self.phrase)
        self.answer_classes = read_answers()
        self.excerpts = Excerpts(read_talks(), rng, held_out)
        self.weights = {name: sum(map(float, intent["share"] or ["1"])) for name, intent in self.intents.items()}

    def dialogue(self) -> tuple[str, list[Message]]:
        """The first turn's topic and the messages of one dialogue; it may begin in the middle of a talk."""
        talk = Talk(self)
        n_turns = self.rng.choice(LONG_TURNS if self.rng.random() < LONG_SHARE else USUAL_TURNS)
        if self.rng.random() < RECALL_SHARE:
            n_turns = self.rng.choice((2, 2, 3, 4, 4, 5, 6, 6, 7))
            talk.recall(n_turns)
        elif n_turns >= PLAN_TURNS and self.rng.random() < PLAN_SHARE:
            talk.plan(n_turns)
        if self.rng.random() < GREET_SHARE:
            talk.greet()
        turns = [talk.turn() for _ in range(n_turns)]
        messages: list[Message] = []
        if self.rng.random() < 0.35:
            messages.append(_message("system", " ".join(self.rng.sample(SYSTEM_PROMPTS, self.rng.randint(1, 3)))))
        for index, turn in enumerate(turns):
            answer = written(turn.answer).split()
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

    def answer_sentences(self) -> list[str]:
        """Every sentence the answers are made of, with its places for the user's words; those told together in one."""
        paragraphs = (
            self.intents, self.questions, self.after, self.memories, self.moods, self.better, self.recall,
            self.answer_classes,
        )  # fmt: skip
        sentences = {*JUST_A_JOKE, *NONE_ABOUT, *sum_answers()}
        for paragraph in (p for group in paragraphs for p in group.values()):
            templates = [part for key in ANSWER_KEYS for part in paragraph[key]]
            templates += [part for _, answers in paragraph.replies for part in answers]
            sentences.update(line for template in templates for line in with_places(template, paragraph))
        for name in ANSWER_LISTS:
            sentences.update(self.grammar.lists[name])
        return sorted(written(sentence) for sentence in sentences if "{" not in sentence)

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
        if draw >= self.odd_names:
            return self.rng.choice(self.grammar.lists["name"])
        if draw >= self.odd_names / 4:
            return self.rng.choice(self.grammar.lists["first name" if draw > self.odd_names * 0.6 else "person proper"])
        while (name := made_up(self.rng)) in self.common or len(name) < 3:
            pass
        return name

    def _read_conversation(self) -> None:
        self.questions: dict[str, Intent] = {}
        self.after: dict[str, Intent] = {}
        self.memories: dict[str, Intent] = {}
        self.moods: dict[str, Intent] = {}
        self.better: dict[str, Intent] = {}
        self.recall: dict[str, Intent] = {}
        for paragraph in read_paragraphs(CONVERSATION):
            kind, _, name = paragraph.name.partition(" ")
            if kind == "list:":
                self.grammar.lists[name] = paragraph["items"]
            else:
                kinds = {
                    "question": self.questions, "after": self.after, "memory": self.memories, "mood": self.moods,
                    "recall": self.recall,
                }  # fmt: skip
                kinds.get(kind, self.better)[name] = paragraph


class Talk:
    """One conversation as it goes on: what was asked, what the user told, which intent the last answer had."""

    def __init__(self, composer: Composer) -> None:
        self.composer, self.rng, self.filler = composer, composer.rng, composer.filler
        self.memory = Memory(composer.memories, composer.recall["everything"], composer.filler, composer.phrase)
        self.due: dict[int, Callable[[], Turn]] = {}
        self.n_turns = 0
        self.last: Turn | None = None
        self.question = self.mood = self.thing = ""
        self.aside, self.is_told = 0, False
        self.said: list[str] = []
        self.excerpt: list[Line] = []

    def turn(self) -> Turn:
        """The next exchange."""
        question, self.question = self.question, ""
        draw, due = self.rng.random(), self.due.get(self.n_turns)
        self.n_turns += 1
        if due:
            turn = due()
        elif self.means_thing() and self.is_told and self.rng.random() < AGAIN_SHARE:
            turn = self.another_one()
        elif self.last and self.last.topic in {"sum", "large sum"} and self.rng.random() < SUM_AGAIN_SHARE:
            turn = sum_turn(self.rng, again=True)
        elif self.excerpt and self.rng.random() < STAY_SHARE:
            turn = self.next_line()
        elif question and draw < REPLY_SHARE:
            turn = self._reply(self.composer.questions[question])
        elif self.last and draw > 1 - FOLLOW_SHARE:
            turn = self._follow_up(self.last)
        elif self.last and draw > 1 - FOLLOW_SHARE - self._remark_share(self.last):
            turn = self._remark(self.last)
        elif self.last and self.mood and draw > 1 - FOLLOW_SHARE - self._remark_share(self.last) - MOOD_SHARE:
            turn = self._go_on(self.composer.moods[self.mood], self.last)
        else:
            turn = self._fresh()
        self.last = turn
        if turn.topic not in {"known", "unknown"}:
            self.memory.notice(turn.user, own=turn.topic.startswith("memory "))
        self.note_thing(turn)
        self.mood = next(iter(self.composer.intents.get(turn.topic, Intent(""))["mood"]), "")
        return turn

    def note_thing(self, turn: Turn) -> None:
        """Which kind of thing "tell me one" and "another one" mean now: what was told last, or spoken of since."""
        intent = self.composer.intents.get(turn.topic, Intent(""))
        in_answer, in_words = _things_in(turn.answer), _things_in(turn.user)
        if self.is_told and self.means_thing() and not _OFFERS.search(turn.answer):
            in_answer = in_words = []
        self.aside += 1
        if intent["n"] and turn.topic in THINGS_TOLD:
            self.thing, self.aside, self.is_told = turn.topic, 1, True
        elif intent["thing"] or len(in_answer) == 1 or (not in_answer and len(in_words) == 1):
            self.thing, self.aside = (intent["thing"] or [*in_answer, *in_words])[0], 1
            self.is_told = False

    def means_thing(self) -> bool:
        """Whether "another one" still means what was told, or spoken of, some turns before."""
        return bool(self.thing) and self.aside <= ASIDE_TURNS

    def another_one(self) -> Turn:
        """Another one of what was told last, now and then about a subject."""
        requests = self.composer.requests
        if self.thing in requests.subjects.told and self.rng.random() < AGAIN_ABOUT_SHARE:
            bound = requests.subject(self.thing)
            return self.intent(self.thing, requests.say("again", "u", bound), bound["subject"])
        return self.intent(self.thing, self.composer.phrase(self.composer.after["another"]["u"]))

    def ask_about(self) -> Turn:
        """A request for something about a subject, which may have been named in the same turn or the turn before."""
        requests, kind = self.composer.requests, self.rng.choice(Requests.KINDS)
        bound, draw = requests.subject(kind), self.rng.random()
        if draw < 0.6:
            return self.intent(kind, requests.say(kind, "u", bound), bound["subject"])
        told, asked = requests.say("told", "u", bound), requests.say(kind, "them", bound)
        if draw < 0.85:
            return self.intent(
                kind, f"{told}{self.rng.choice((', ', '. ', ' ', ', and ', ', so '))}{asked}", bound["subject"]
            )
        self.due.setdefault(self.n_turns, lambda: self.intent(kind, asked, bound["subject"]))
        return Turn("told about", told, self.rng.choice(requests.paragraphs["told"]["a"]))

    @staticmethod
    def _remark_share(last: Turn) -> float:
        return REMARK_AFTER_SHARE if last.topic in REMARKS else GENERAL_REMARK_SHARE

    def plan(self, n_turns: int) -> None:
        """Have things told in the first quarter of so many turns and asked for in the last quarter."""
        quarter = n_turns // 4
        for _ in range(self.rng.randint(1, 5)):
            self.due[self.rng.randrange(quarter)] = self._tell
        for _ in range(self.rng.randint(2, 6)):
            self.due[self.rng.randrange(n_turns - quarter, n_turns)] = lambda: self._ask(oldest=True)

    def recall(self, n_turns: int) -> None:
        """Have something told first of so many turns, most often a name, and asked for last; now and then several."""
        kind = "name" if self.rng.random() < 0.4 else self.rng.choice(NAMES_TOLD) if self.rng.random() < 0.6 else None
        self.due = {0: lambda: self._tell(kind), n_turns - 1: lambda: self._ask(oldest=True)}
        for n_before in (2, 4):
            if n_turns > n_before and self.rng.random() < SEVERAL_SHARE:
                self.due[n_before // 2] = self._tell_another
        if n_turns > 3 and self.rng.random() < SEVERAL_SHARE:
            self.due[n_turns - 2] = lambda: self._ask(oldest=True)

    def greet(self) -> None:
        """Have the user greet first, where nothing else is due."""
        self.due.setdefault(0, lambda: self.intent("greeting"))

    def _remark(self, last: Turn) -> Turn:
        """What the user says to the answer: praise, thanks, surprise, disappointment, or that one shall be told."""
        name = self.rng.choice(REMARKS.get(last.topic, GENERAL_REMARKS))
        if name == "tell one":
            user = self.filler.fill(self.composer.phrase(self.composer.after[name]["u"]), {})
            return self.intent(self.thing, user)
        if name == "unclear":
            unclear = self.composer.after[name]
            answers = self.composer.intents[last.topic][name] or unclear["a"]
            return Turn("unclear", self.filler.fill(self.composer.phrase(unclear["u"]), {}), self.rng.choice(answers))
        return self.intent(name)

    def _go_on(self, mood: Intent, last: Turn) -> Turn:
        """More about what was sad or happy; the topic stays."""
        better = self.composer.better.get(self.mood)
        if better and self.rng.random() < BETTER_SHARE:
            return Turn("better", self.filler.fill(self.composer.phrase(better["u"]), {}), self.rng.choice(better["a"]))
        user = self.filler.fill(self.composer.phrase(mood["u"]), {})
        return Turn(last.topic, user, self.rng.choice(mood["a"]))

    def next_line(self) -> Turn:
        """The next line of the written talk."""
        line = self.excerpt.pop(0)
        answers = self.composer.answer_classes[line.answer]
        if line.answer == "more" and self.thing and self.aside <= ASIDE_TURNS:
            return self.intent(self.thing, line.phrasing)
        if answers["go"]:
            return self.intent(answers["go"][0], line.phrasing)
        if answers["or"] and self.rng.random() < float((answers["share"] or [NEUTRAL_SHARE])[0]):
            answers = self.composer.answer_classes[answers["or"][0]]
        return Turn(f"talk {line.answer}", line.phrasing, self._new(answers["a"], {}))

    def _fresh(self) -> Turn:
        if not self.excerpt and self.rng.random() < TALK_SHARE:
            self.excerpt = self.composer.excerpts.draw()
            return self.next_line()
        draw = self.rng.random()
        for share, make in (
            (0.21, self._tell), (0.41, self._ask), (0.49, lambda: sum_turn(self.rng)),
            (0.5, lambda: count_turn(self.rng)), (0.51, lambda: day_turn(self.rng, DAYS)), (0.57, self.ask_about),
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
        elif draw < LEAD_SHARE + TWICE_SHARE + TOLD_BEFORE_SHARE and ASKS.match(phrasing):
            told = self.composer.phrase(self.composer.intents[self.rng.choice(TOLD_BEFORE)]["u"])
            phrasing = f"{self.filler.fill(told, {})}{self.rng.choice(('. ', ', ', '! '))}{phrasing}"
        elif draw > 1 - AND_YOU_SHARE and self.composer.intents[name]["y"] and _TELLS.match(phrasing):
            user = self.filler.fill(phrasing, {}) + self.rng.choice(AND_YOU)
            return Turn(name, user, self.rng.choice(self.composer.intents[name]["y"]))
        return self.intent(name, phrasing)

    def intent(self, name: str, user: str | None = None, subject: str | None = None) -> Turn:
        """An exchange on an intent; ``user`` is a phrasing from elsewhere, ``subject`` what it asks something about."""
        intent, bound = self.composer.intents[name], dict[str, str]()
        user = self.filler.fill(user or self.composer.phrase(intent["u"]), bound)
        subjects = self.composer.requests.subjects
        if name in subjects.told and (subject := subject or subjects.asked(user)):
            return Turn(name, user, self._told_about(name, subject))
        if name in {"know about", "fact question"} and (known := subjects.known_fact(user)):
            return Turn("fact", user, self._new(known, {}))
        fitting = [answer for answer in intent["a"] if slots_of(answer) <= set(bound)]
        answer = self._new(fitting, bound)
        if intent["o"] and self.rng.random() < 0.5:
            answer = f"{self.rng.choice(intent['o'])} {answer}"
        return Turn(name, user, self._ending(intent, answer))

    def _told_about(self, kind: str, subject: str) -> str:
        """What is known of a kind about a subject; else that nothing is, and often something else of the kind."""
        lines = self.composer.requests.subjects.lines(kind, subject)
        if lines:
            return self._new(lines, {})
        none, other = NONE_ABOUT
        return none if self.rng.random() < 0.35 else f"{other} {self._new(self.composer.intents[kind]['a'], {})}"

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
        if self.rng.random() < NO_REPLY_SHARE:
            return self.intent(self.rng.choice(("why ask", "will not tell")))
        if question["memory"]:
            return self._tell(question["memory"][0], reply=True)
        options: list[tuple[list[str], list[str]]] = [*question.replies]
        if question["go"] and (not options or self.rng.random() < 0.35):
            return self.intent(self.rng.choice(question["go"]))
        users, answers = self.rng.choice(options)
        user = self.composer.phrase(users)
        if answers[0].startswith("> "):
            return self.intent(self.rng.choice(answers)[2:], user)
        bound: dict[str, str] = {}
        return Turn(question.name, self.filler.fill(user, bound), self.filler.fill(self.rng.choice(answers), bound))

    def _follow_up(self, last: Turn) -> Turn:
        intent = self.composer.intents.get(last.topic, Intent(last.topic))
        kinds = ["why", "why", "and you", "more", "repeat", "really", "doubt", "opinion", "unclear"] * 2 + ["said"]
        thing = self.thing if self.aside <= ASIDE_TURNS else ""
        if thing and not self.is_told:
            kinds += ["tell one"] * 10
        elif intent["n"] or thing:
            kinds += ["another"] * (10 if intent["n"] else 20)
        kind = self.rng.choice(kinds)
        after = self.composer.after[kind]
        user = self.filler.fill(self.composer.phrase(after["u"]), {})
        if kind == "more" and last.topic in THINGS_TOLD and _GOES_ON.match(user):
            kind = "another"
        match kind:
            case "another":
                return self.intent(thing or intent["n"][0], user)
            case "tell one":
                return self.intent(thing, user)
            case "repeat":
                return Turn(last.topic, user, last.answer)
            case "why" if intent["w"] == ["joke"]:
                return Turn(
                    last.topic, user, self.rng.choice(("it's only a joke.", "it's only a joke, don't think too hard."))
                )
        own = intent[{"why": "w", "and you": "y", "more": "m"}.get(kind, kind)]
        return Turn(last.topic, user, self.rng.choice(own or after["a"]))

    def _tell(self, kind: str | None = None, reply: bool = False) -> Turn:
        turn = self.memory.tell(kind, reply)
        self._await_reply(turn)
        return turn

    def _tell_another(self) -> Turn:
        """A name of somebody else, or what else users tell often."""
        told = self.memory.told
        return self._tell(self.rng.choice([kind for kind in NAMES_TOLD if (kind, "") not in told]))

    def _ask(self, oldest: bool = False) -> Turn:
        turn = self.memory.ask(oldest)
        self._await_reply(turn)
        return turn

    def _await_reply(self, turn: Turn) -> None:
        """Have the user answer the question that a turn ends with."""
        if turn.answer.endswith("do you like it?"):
            self.question = "likeit"
        elif turn.answer.endswith("?"):
            self.question = "name"


def _things_in(text: str) -> list[str]:
    """The different kinds of things to tell that a text names."""
    return [*dict.fromkeys(_THING_WORDS[word] for word in re.findall("[a-z]+", text) if word in _THING_WORDS)]


def _message(role: str, content: str, learn: bool = False) -> Message:
    return {"role": role, "content": content, "learn": learn}
