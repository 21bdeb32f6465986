"""Hold the conversations of ``text/small_talk.txt`` with a language model, and count what a reader says of its answers.

    python -m experiments.pocket.converse [--model pocket] [--seed 0] [--save results/pocket/conversation_50.jsonl]

Each conversation is one talk, whose history is cut as the chatbot cuts it. A row of the file is a turn:
``conversation``, ``turn``, ``prompt``, ``answer``, ``fits``. A person reads the file and sets ``fits`` to true where
the answer is a whole sentence that fits what was said or says honestly that it does not know, else to false; the same
command keeps the marks of answers that stay the same, and counts them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from csmkit.llm.transformers import Message, TransformersLLM
from experiments.pocket.text.grammar import HERE

SAVED = Path("results/pocket/conversation_50.jsonl")


def read_conversations(path: Path) -> list[list[str]]:
    """The prompts of each conversation; an empty line is between two, and lines that begin with ``#`` are remarks."""
    blocks = path.read_text().split("\n\n")
    return [[line for line in block.splitlines() if line and not line.startswith("#")] for block in blocks]


def converse(llm: TransformersLLM, prompts: list[str]) -> list[str]:
    """The answers of one conversation."""
    history: list[Message] = []
    answers = []
    for prompt in prompts:
        history.append({"role": "user", "content": prompt})
        answers.append("".join(llm.stream(history)).strip())
        history.append({"role": "assistant", "content": answers[-1]})
    return answers


def read_marks(path: Path) -> dict[tuple[str, str], bool | None]:
    """What a reader said of each (prompt, answer) of an earlier file; empty if there is none."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {(row["prompt"], row["answer"]): row["fits"] for row in rows}


def main() -> None:
    """Parse the arguments, hold the conversations, print, save and count."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="pocket", help="pocket, or a checkpoint directory")
    parser.add_argument("--prompts", type=Path, default=HERE / "small_talk.txt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=SAVED)
    args = parser.parse_args()
    marks, rows = read_marks(args.save), list[dict[str, Any]]()
    for number, prompts in enumerate(read_conversations(args.prompts), start=1):
        answers = converse(TransformersLLM(args.model, seed=args.seed), prompts)
        for turn, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
            fits = marks.get((prompt, answer))
            rows.append({"conversation": number, "turn": turn, "prompt": prompt, "answer": answer, "fits": fits})
            print(f"{number}.{turn:02} {'?' if fits is None else '+' if fits else '-'} {prompt} -> {answer}")
    args.save.parent.mkdir(parents=True, exist_ok=True)
    args.save.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for number in sorted({row["conversation"] for row in rows}):
        marked = [row["fits"] for row in rows if row["conversation"] == number]
        fit, unfit, unread = (marked.count(mark) for mark in (True, False, None))
        print(f"conversation {number}: {fit} fit, {unfit} do not, {unread} unread")


if __name__ == "__main__":
    main()
