"""Measures how often the miniature Llama says a name as it was told, at once and some turns later.

    python -m experiments.pocket.evaluate_names [--model pocket] [--save results/pocket/names]

``--save`` writes SAVE.jsonl, a row a talk: ``name``, ``turns_between``, ``greeting``, ``recall``, ``greeted`` (true,
false, or null where the greeting has no name) and ``recalled``; and SAVE.json with the shares.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from csmkit.llm.transformers import TransformersLLM
from experiments.pocket.converse import converse
from experiments.pocket.evaluate import save
from experiments.pocket.text.grammar import HERE

NAMES = (HERE / "names.txt").read_text().split()
TOLD = ("my name is {}", "hi, i'm {}", "I'm {} by the way", "call me {}", "{} is my name")
BETWEEN = (
    "i had soup for lunch", "it's raining", "do you like music", "my sister is coming over", "tell me a joke", "haha",
    "i work in an office", "i'm a bit tired", "what's the capital of peru", "thanks",
)  # fmt: skip
ASKED = ("what's my name?", "do you remember my name?", "what am I called?", "can you tell me my name")
_NAME = re.compile(r"(?<=[a-z,.] )(?!I\b|Pocket\b)[A-Z]\w+")


def talk_about(name: str, llm: TransformersLLM, rng: random.Random) -> dict[str, object]:
    """Tell a name, speak of one, four or eight other things, and ask for it."""
    between = rng.sample(BETWEEN, rng.choice((1, 4, 8)))
    prompts = ["hello", rng.choice(TOLD).format(name), *between, rng.choice(ASKED)]
    answers = converse(llm, prompts)
    named = _NAME.findall(answers[1])
    return {
        "name": name, "turns_between": len(between), "greeting": answers[1], "recall": answers[-1],
        "greeted": name in named if named else None, "recalled": name in answers[-1],
    }  # fmt: skip


def main() -> None:
    """Parse the arguments, hold the talks, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="pocket", help="pocket, or a checkpoint directory")
    parser.add_argument("--times", type=int, default=2, help="talks for each of the 50 names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=None, help="where the rows and the figures are written")
    args = parser.parse_args()
    rng, llm = random.Random(args.seed), TransformersLLM(args.model, seed=args.seed)
    rows = [talk_about(name, llm, rng) for _ in range(args.times) for name in NAMES]
    greeted = [row["greeted"] for row in rows if row["greeted"] is not None]
    figures = {
        "talks": len(rows), "greetings_with_a_name": len(greeted), "greeted_rightly": sum(map(bool, greeted)),
        "recalled": sum(bool(row["recalled"]) for row in rows),
    }  # fmt: skip
    for row in rows:
        print(f"{'+' if row['recalled'] else '-'} {row['name']}: {row['greeting']} … {row['recall']}")
    print(json.dumps(figures))
    if args.save is not None:
        save(args.save, rows, figures)


if __name__ == "__main__":
    main()
