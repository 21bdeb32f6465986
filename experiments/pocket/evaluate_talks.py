"""Measures how often the miniature Llama's answer is one that fits the class of a line of a held-out talk.

    python -m experiments.pocket.evaluate_talks [--model pocket] [--talks 20] [--save results/pocket/talks]

The talks are those of ``text/talks`` that training never shows. Each is one conversation with the answers the model
gave; a turn of which an intent's answer is asked (a joke, a greeting) is held but not counted. ``--save`` writes
SAVE.jsonl, a row a turn, and SAVE.json with the share and its 95 % interval over talks.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from csmkit.lab.analysis.statistics import crossed_interval
from csmkit.llm.transformers import TransformersLLM
from experiments.pocket.converse import converse
from experiments.pocket.evaluate import save
from experiments.pocket.text.intents import choose, sentences_of
from experiments.pocket.text.talks import Line, fitting, is_held_out_talk, read_answers, read_talks


def rows_of(title: str, lines: list[Line], llm: TransformersLLM, rng: random.Random) -> list[dict[str, object]]:
    """A row for each counted turn of a talk: ``talk``, ``prompt``, ``asked``, ``answer``, ``of_class``."""
    classes = read_answers()
    prompts = [choose(line.phrasing, rng) for line in lines]
    rows = []
    for line, prompt, answer in zip(lines, prompts, converse(llm, prompts), strict=True):
        allowed = {sentence for given in fitting(classes, line.answer) for sentence in sentences_of(given)}
        if allowed:
            of_class = set(sentences_of(answer)) <= allowed
            rows.append({"talk": title, "prompt": prompt, "asked": line.answer, "answer": answer, "of_class": of_class})
    return rows


def main() -> None:
    """Parse the arguments, hold the talks, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="pocket", help="pocket, or a checkpoint directory")
    parser.add_argument("--talks", type=int, default=20, help="how many of the held-out talks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=None, help="where the rows and the figures are written")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    talks = read_talks()
    titles = rng.sample([title for title in talks if is_held_out_talk(title)], args.talks)
    rows = [
        row
        for title in titles
        for row in rows_of(title, talks[title], TransformersLLM(args.model, seed=args.seed), rng)
    ]
    for row in rows:
        print(f"{'+' if row['of_class'] else '-'} {row['asked']}: {row['prompt']} -> {row['answer']}")
    weighted = [{**row, "turns": 1, "of_class": float(bool(row["of_class"]))} for row in rows]
    share = crossed_interval(weighted, "of_class", units=("talk",), weight="turns")
    figures = {"talks": len(titles), "turns": len(rows), "of_class": share.median, "low": share.low, "high": share.high}
    print(json.dumps(figures))
    if args.save is not None:
        save(args.save, rows, figures)


if __name__ == "__main__":
    main()
