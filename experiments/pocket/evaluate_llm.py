"""Measures the miniature Llama on phrasings it was never trained on; the last line printed is one JSON object.

python -m experiments.pocket.evaluate_llm --model DIR --text DIR [--save results/pocket/llm]

``--save`` writes SAVE.jsonl, a row for each answer in the middle of a held-out talk, given without the checkpoint's
list of sentences: the last words of the user, the answer, and whether all its sentences stand in the list. SAVE.json
has the figures.
"""

import argparse
import json
import random
import re
from collections import defaultdict
from pathlib import Path

from csmkit.llm.transformers import Message, TransformersLLM
from experiments.pocket.evaluate import save
from experiments.pocket.text.sentences import words_of
from experiments.pocket.text.sums import NUMBERS, result_of

UNKNOWING = re.compile(
    r"don't know|do not know|no idea|can't answer|not sure|too hard|too small|never learned|more than i know|"
    r"wish i knew|outside my little world|nobody told me|can't tell|know simple things|i can't do that|can only talk|"
    r"only a voice|just a voice"
)
UNKNOWN = ("fact question", "how to", "large sum")
KNOWN = ("joke", "greeting", "how are you", "thanks")
"""Topics of which the texts' answers say that they do not know, and some of which they never say it."""
_SUM = re.compile(r"(\w+) (plus|minus|times) (\w+) (?:is|makes) (\w+)")


def answers_of(model: Path, conversations: list[list[Message]], seed: int, anything: bool = False) -> list[str]:
    """What csmkit answers to each conversation, with the checkpoint's own sampling; ``anything``: without its list."""
    llm = TransformersLLM(model, seed=seed, prefix_caching=False)
    if anything:
        llm.answer_sentences = None
    return ["".join(llm.stream(conversation)).strip() for conversation in conversations]


def read_prompts(path: Path, per_topic: int) -> dict[str, list[list[Message]]]:
    """The first user turn (with its system prompt) of held-out dialogues, by topic."""
    prompts: dict[str, list[list[Message]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        dialogue = json.loads(line)
        messages = [{"role": m["role"], "content": m["content"]} for m in dialogue["messages"]]
        asked = messages[: 1 + next(i for i, m in enumerate(messages) if m["role"] == "user")]
        if len(prompts[dialogue["topic"]]) < per_topic:
            prompts[dialogue["topic"]].append(asked)
    return dict(prompts)


def read_talks(path: Path, seed: int = 0, most_turns: int = 13) -> list[list[Message]]:
    """Held-out dialogues, each up to a turn of the user at random, with at most so many turns."""
    rng, talks = random.Random(seed), []
    for line in path.read_text().splitlines():
        messages = [{"role": m["role"], "content": m["content"]} for m in json.loads(line)["messages"]]
        asked = [number for number, message in enumerate(messages) if message["role"] == "user"]
        last = rng.choice(asked)
        talks.append(messages[max(asked[0], last - 2 * (most_turns - 1)) : last + 1])
    return talks


def answer_talks(model: Path, talks: Path, seeds: int) -> list[dict[str, object]]:
    """A row for each held-out talk and seed: what the model answers in the middle of it when it may say anything."""
    asked, rows = read_talks(talks), list[dict[str, object]]()
    listed = TransformersLLM(model).answer_sentences
    for seed in range(seeds):
        for talk, answer in zip(asked, answers_of(model, asked, seed, anything=True), strict=True):
            row = {"turn": len(talk) // 2 + 1, "seed": seed, "prompt": talk[-1]["content"], "answer": answer}
            rows.append(row | {"of_the_texts": listed is None or listed.hold(talk, answer)})
    return rows


def is_well_formed(answer: str) -> bool:
    """Whether an answer ends a sentence and is short enough to be said in one turn."""
    return answer.endswith((".", "?", "!")) and 1 <= len(words_of(answer.lower())) <= 30


def is_correct_sum(answer: str) -> bool:
    """Whether an answer states a sum, a difference or a product that holds."""
    found = _SUM.search(answer.lower())
    if not found or not {found[1], found[3], found[4]} <= set(NUMBERS):
        return False
    first, second, result = (NUMBERS.index(found[i]) for i in (1, 3, 4))
    return result == result_of(found[2], first, second)


def measure(answers: dict[str, list[list[str]]], vocabulary: set[str]) -> dict[str, object]:
    """Figures of the answers by topic; ``answers[topic][prompt]`` are the answers of all seeds."""
    flat = {topic: [answer for seeds in prompts for answer in seeds] for topic, prompts in answers.items()}
    return {
        "answers": sum(map(len, flat.values())),
        "well_formed": _share([is_well_formed(a) for group in flat.values() for a in group]),
        "in_vocabulary": _share([set(words_of(a.lower())) <= vocabulary for group in flat.values() for a in group]),
        "in_vocabulary_by_topic": {
            topic: _share([set(words_of(a.lower())) <= vocabulary for a in group]) for topic, group in flat.items()
        },
        "distinct_of_seeds_by_topic": {
            topic: round(sum(len(set(seeds)) for seeds in prompts) / len(prompts), 1)
            for topic, prompts in answers.items()
        },
        "unknown_says_so": _share([bool(UNKNOWING.search(a.lower())) for t in UNKNOWN for a in flat.get(t, [])]),
        "known_says_unknown": _share(
            [
                bool(UNKNOWING.search(a.lower()))
                for t in ("joke", "greeting", "how are you", "thanks")
                for a in flat.get(t, [])
            ]
        ),
        "sums_correct": _share([is_correct_sum(a) for a in flat.get("sum", [])]),
        "mean_words": round(_mean([len(words_of(a.lower())) for group in flat.values() for a in group]), 1),
    }


def _mean(values: list[int] | list[bool]) -> float:
    return sum(values) / max(len(values), 1)


def _share(values: list[bool]) -> float:
    return round(_mean(values), 3)


def main() -> None:
    """Parse the arguments, answer every prompt with every seed, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="where dialogues_held_out.jsonl and train.txt are")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--per-topic", type=int, default=4)
    parser.add_argument("--talk-seeds", type=int, default=1, help="answers to each of the held-out talks")
    parser.add_argument("--save", type=Path, default=None, help="where the rows and the figures are written")
    parser.add_argument("--show", type=int, default=1, help="answers printed for each prompt")
    arguments = parser.parse_args()
    prompts = read_prompts(arguments.text / "dialogues_held_out.jsonl", arguments.per_topic)
    vocabulary = set(words_of((arguments.text / "train.txt").read_text()))
    conversations = [conversation for group in prompts.values() for conversation in group]
    seeds = [answers_of(arguments.model, conversations, seed) for seed in range(arguments.seeds)]
    every = iter(zip(*seeds, strict=True))
    answers = {topic: [list(next(every)) for _ in group] for topic, group in prompts.items()}
    for topic, group in prompts.items():
        for conversation, given in zip(group, answers[topic], strict=True):
            for answer in given[: arguments.show]:
                print(f"{topic}: {conversation[-1]['content']} -> {answer}")
    figures = measure(answers, vocabulary)
    rows = answer_talks(arguments.model, arguments.text / "dialogues_held_out.jsonl", arguments.talk_seeds)
    others = [row for row in rows if not row["of_the_texts"]]
    for row in others:
        print(f"other sentence: {row['prompt']} -> {row['answer']}")
    figures |= {"talk_answers": len(rows), "talk_answers_with_other_sentences": len(others)}
    if arguments.save is not None:
        save(arguments.save, rows, figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
