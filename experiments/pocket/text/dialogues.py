"""Composes the dialogues of the miniature assistant: topics, memory of names, small sums, and honest not-knowing."""

import random
from collections.abc import Iterator
from typing import TypedDict

from experiments.pocket.text.grammar import HERE, Grammar, read_lines
from experiments.pocket.text.sums import DAYS, count_turn, day_turn, sum_turn
from experiments.pocket.text.topics import Topic, Turn, as_typed, compose_turn, read_topics, sentences_of, written

SYSTEM_PROMPTS = (
    "You are a friendly voice assistant.", "You are a helpful assistant.", "You are a friendly conversational partner.",
    "Answer briefly, as if you were speaking.", "Speak naturally and keep it short.", "Keep your answers short.",
    "Answer in one or two short sentences.", "You are a voice.", "You talk with people.", "Be concise.", "Be kind.",
    "Your answers are spoken aloud.", "Write numbers in words.", "Do not use lists, markdown or emoji.",
    "You are having a spoken conversation.", "Use plain sentences.", "You are an assistant that speaks.",
    "Your name is Pocket.", "Answer like a friend.", "Your replies will be read aloud by a text to speech system.",
)  # fmt: skip
CUT_SHARE = 0.08
"""How many earlier answers end in the middle, as after an interruption; they are context, not something to learn."""
CHAT_SHARE = 0.17
"""How many turns are about what people say every day, beside the topics."""
FOLLOW_UPS = {
    "joke": ("another joke", "haha", "bad joke", "thanks", "another joke"),
    "another joke": ("another joke", "haha", "thanks", "bad joke"),
    "how are you": ("fine and you", "i am sad", "i am happy", "i am tired", "fine and you"),
    "greeting": ("how are you", "name", "who are you", "how are you", "what can you do"),
    "fact": ("haha", "why", "thanks", "fact"),
    "who are you": ("what can you do", "age", "where are you", "name"),
    "weather": ("weather talk", "why", "season", "thanks"),
    "unknown": ("why", "joke", "yes", "no", "what can you do"),
}
_NAME_ASKED = ("what's my name", "do you know my name", "what is my name", "who am i", "do you remember my name",
               "say my name", "can you tell me my name")  # fmt: skip


class Message(TypedDict):
    """One message of a dialogue; ``learn`` says whether a model shall learn to write it."""

    role: str
    content: str
    learn: bool


class Composer:
    """Composes dialogues.

    Args:
        rng: source of every choice.
        parts_of_speech: lists of the vocabulary (noun, verb, …) for questions outside the topics.
        held_out: compose the test's dialogues: phrasings and questions that training never shows.
    """

    def __init__(self, rng: random.Random, parts_of_speech: dict[str, list[str]], held_out: bool = False) -> None:
        self.rng = rng
        self.grammar = Grammar.load(rng)
        self.grammar.lists |= parts_of_speech
        self.grammar.lists["joke"] = read_lines(HERE / "jokes.txt")
        self.topics = _split(read_topics(), held_out)
        self.grammar.lists |= _everyday_users(held_out)
        lines = read_lines(HERE / "questions.txt")
        cut = lines.index("[held out]")
        self.questions = lines[cut + 1 :] if held_out else lines[:cut]

    def dialogue(self) -> tuple[str, list[Message]]:
        """The first turn's topic and the messages of one dialogue of one to four turns."""
        turns = [self._turn(self._draw_topic())]
        while len(turns) < 4 and self.rng.random() < 0.45:
            turns.append(self._turn(self._next_topic(turns[-1].topic)))
        if self.rng.random() < 0.06:
            turns = self._with_name(turns[:2])
        messages: list[Message] = []
        if self.rng.random() < 0.4:
            messages.append(_message("system", " ".join(self.rng.sample(SYSTEM_PROMPTS, self.rng.randint(1, 3)))))
        for index, turn in enumerate(turns):
            answer = written(turn.answer).split()
            cut = index + 1 < len(turns) and self.rng.random() < CUT_SHARE
            kept = answer[: self.rng.randint(1, len(answer))] if cut else answer
            messages.append(_message("user", as_typed(turn.user, self.rng)))
            messages.append(_message("assistant", " ".join(kept), learn=not cut))
        return turns[0].topic, messages

    def answers(self) -> Iterator[str]:
        """Endless answer sentences in the voice's spelling."""
        while True:
            yield from sentences_of(self._turn(self._draw_topic()).answer)

    def _draw_topic(self) -> str:
        draw = self.rng.random()
        for share, name in ((0.16, "unknown"), (0.28, "sum"), (0.30, "count"), (0.32, "days"), (0.33, "name")):
            if draw < share:
                return name
        chats = [name for name in self.topics if name.startswith("chat")]
        if draw < 0.33 + CHAT_SHARE:
            return self.rng.choice([*chats, "chat", "chat"])
        return self.rng.choice(
            [name for name in self.topics if name not in {"another joke", "haha", "bad joke", *chats}]
        )

    def _next_topic(self, last: str) -> str:
        options = FOLLOW_UPS.get(last)
        return self.rng.choice(options) if options and self.rng.random() < 0.7 else self._draw_topic()

    def _turn(self, name: str) -> Turn:
        match name:
            case "unknown":
                return self._unknown()
            case "sum":
                return sum_turn(self.rng)
            case "count":
                return count_turn(self.rng)
            case "days":
                return day_turn(self.rng, DAYS)
            case "name":
                return self._name_told(self._some_name())
        topic = self.topics[name]
        if topic.pairs and topic.users:
            topic = Topic(topic.name, pairs=topic.pairs)
        return compose_turn(topic, self.grammar)

    def _unknown(self) -> Turn:
        rng, lists = self.rng, self.grammar.lists
        lists["gibberish"] = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(4)]
        answer = rng.choice(lists["unknown"])
        if rng.random() < 0.65:
            answer = f"{answer} {rng.choice(lists['unknown tail'])}"
        user = self.grammar.expand(rng.choice(self.questions)).rstrip("?")
        return Turn("unknown", user, self.grammar.expand(answer))

    def _some_name(self) -> str:
        """Mostly a first name, now and then any noun, so that names are copied and not guessed."""
        return self.rng.choice(self.grammar.lists["name" if self.rng.random() < 0.7 else "noun"])

    def _name_told(self, name: str) -> Turn:
        said = self.rng.choice(
            ("my name is {}", "i'm {}", "i am {}", "call me {}", "hello, i'm {}", "hi, my name is {}")
        )
        hello = self.rng.choice(
            ("nice to meet you, {}.", "hello, {}, it's nice to meet you.", "hi {}, that's a lovely name.",
             "what a nice name, {}.", "hello {}, i will remember that.", "it's good to meet you, {}.")
        )  # fmt: skip
        tail = self.rng.choice(
            ("", " how are you today?", " what would you like to talk about?", " my name is pocket.")
        )
        return Turn("name", said.format(name), hello.format(name) + tail)

    def _with_name(self, turns: list[Turn]) -> list[Turn]:
        name = self._some_name()
        known = self.rng.choice(
            ("your name is {}.", "you are {}, of course.", "you told me that your name is {}.", "it's {}, i remember.",
             "of course i remember, you are {}.")
        )  # fmt: skip
        unknown = ("i don't know your name yet.", "you haven't told me your name.", "i'm not sure, what's your name?")
        asked = Turn("name asked", self.rng.choice(_NAME_ASKED), known.format(name))
        if self.rng.random() < 0.2:
            return [*turns[1:], Turn("name asked", asked.user, self.rng.choice(unknown))]
        return [self._name_told(name), *turns[1:], asked]


def _message(role: str, content: str, learn: bool = False) -> Message:
    return {"role": role, "content": content, "learn": learn}


def _everyday_users(held_out: bool) -> dict[str, list[str]]:
    """The everyday templates as things a user says, by the kind of answer they ask for."""
    starts = {
        "everyday ever": ("have you ever", "did you", "do you ever", "have you", "are you going"),
        "everyday invite": ("would you like to", "let's", "shall we", "why don't", "do you want to", "how about",
                            "what about"),
        "everyday please": ("can you", "could you", "please", "can i", "may i"),
        "everyday question": ("who", "what", "where", "when", "how", "which", "is ", "was ", "does ", "did ",
                              "has ", "why"),
        "everyday statement": ("i ", "i'", "we ", "we'", "they ", "my ", "the ", "it ", "it's ", "{third}",
                               "{first}", "{plural}"),
    }  # fmt: skip
    lists: dict[str, list[str]] = {name: [] for name in starts}
    for index, template in enumerate(read_lines(HERE / "templates.txt")):
        name = next((name for name, begin in starts.items() if template.startswith(begin)), None)
        covered = any(mark in template for mark in ("{feel}", "{weather adj}", "favorite"))
        if name and "{" in template and not covered and (index % 12 == 7) == held_out:
            lists[name].append(template.rstrip(".?!"))
    return lists


def _split(topics: dict[str, Topic], held_out: bool) -> dict[str, Topic]:
    """Every seventh phrasing of a topic is for the test."""
    for topic in topics.values():
        if len(topic.users) >= 6:
            topic.users = [user for index, user in enumerate(topic.users) if (index % 7 == 5) == held_out]
    return topics
