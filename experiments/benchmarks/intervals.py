"""How often intervals hold what they should and find what is there: the table in docs/statistics.md.

    python -m experiments.benchmarks.intervals [--sweeps 400] [--docs docs/statistics.md]

Sweeps of word errors are simulated: each text has an error rate of its own, each seed of it another, and each word is
wrong or not. The two settings of a sweep share the texts, as real ones do.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.lab.analysis import pairs, statistics
from csmkit.lab.analysis.columns import column_of
from csmkit.lab.analysis.pairs import CLEAR, compared_rows
from experiments.benchmarks.report import fill_between, print_table

SIZES = (3, 4, 8, 12, 16, 30, 60)
SEEDS = 3
DIFFERENCE = 0.062
RATE, BETWEEN, WITHIN = 0.12, 0.9, 4.0  # mean, and the concentrations of two beta distributions


def error_rates(random: np.random.Generator, n_texts: int, mean: float) -> np.ndarray:
    """``(texts, seeds)`` chances that a word is wrong."""
    texts = random.beta(mean * BETWEEN, (1 - mean) * BETWEEN, n_texts)
    within = np.clip(texts, 1e-3, 1 - 1e-3)[:, None]
    return random.beta(within * WITHIN, (1 - within) * WITHIN, (n_texts, SEEDS))


def rows_of(random: np.random.Generator, rates: np.ndarray, n_words: np.ndarray) -> list[dict[str, Any]]:
    """A row a text and seed, whose words are wrong by chance."""
    wrong = random.binomial(n_words[:, None], rates)
    return [
        {"text": f"t{text}", "seed": seed, "wer": wrong[text, seed] / n_words[text], "n_words": int(n_words[text])}
        for text in range(len(n_words))
        for seed in range(SEEDS)
    ]


def simulated(n_texts: int, n_sweeps: int) -> dict[str, Any]:
    """A row of the table."""
    random, item = np.random.default_rng(n_texts), column_of("wer")
    held = false = found = 0
    for _ in range(n_sweeps):
        n_words = random.integers(4, 13, n_texts)
        base = error_rates(random, n_texts, RATE)
        first = rows_of(random, base, n_words)
        interval = statistics.crossed_interval(first, "wer", weight="n_words", resamples=1000)
        # The mean by words of other texts: rate and length are independent here.
        held += interval.low is not None and interval.low <= RATE <= interval.high
        again = np.clip(base, 1e-3, 1 - 1e-3)
        again = random.beta(again * WITHIN, (1 - again) * WITHIN)
        worse = np.clip(again + DIFFERENCE / (1 - RATE) * (1 - again), 0, 1)
        for rates, worse_here in ((again, False), (worse, True)):
            difference = compared_rows(rows_of(random, rates, n_words), first, "a", (1, 0), item)
            clear = difference.verdict in CLEAR
            found += clear and worse_here
            false += clear and not worse_here
    return {
        "texts": n_texts,
        "coverage of 95 %": f"{held / n_sweeps:.3f}",
        "false": f"{false / n_sweeps:.3f}",
        f"power for {DIFFERENCE}": f"{found / n_sweeps:.2f}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=400, help="simulated for each number of texts")
    parser.add_argument("--docs", type=Path, default=None, help="file whose table is filled in")
    options = parser.parse_args(arguments)
    statistics.LEAST_TEXTS = pairs.LEAST_TEXTS = min(SIZES)  # the floor is what the table is to judge
    rows = [simulated(n_texts, options.sweeps) for n_texts in SIZES]
    print_table(rows)
    if options.docs is not None:
        fill_between(options.docs, "intervals", rows)


if __name__ == "__main__":
    main()
