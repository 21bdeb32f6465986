"""What a seed determines, in each dtype: how many utterances get other codes when something beside them changes.

Run ``python -m experiments.benchmarks.reproducibility [--save results/benchmarks/reproducibility.json]``. Every
utterance is spoken once alone by a fresh generator; then again with one thing changed: the execution mode, the rows
beside it in a batch, the chunk size, what was spoken before, the number of threads. A row says how many of the
utterances differ, and at which frame the first of them does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from csmkit.speech.generator import Generator, Segment
from experiments.benchmarks.report import add_save, print_json, print_table

TEXTS = (
    "good morning, how are you?",
    "the train leaves at ten.",
    "I think it will rain today.",
    "would you like some more tea?",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Codes = list[Tensor]


class Trial:
    """A generator in one dtype, and the utterances it speaks.

    Args:
        voice: as `Generator.load` takes it.
        device: likewise.
        dtype: likewise.
        n_seeds: utterances of each text.
        length_ms: the most of each.
    """

    def __init__(self, voice: str, device: str, dtype: torch.dtype, n_seeds: int, length_ms: float) -> None:
        self._voice, self._device, self._dtype, self._length_ms = voice, device, dtype, length_ms
        self.asked = [(text, seed) for text in TEXTS for seed in range(n_seeds)]
        self.context = self._turns()

    def load(self, execution: str) -> Generator:
        """A fresh generator."""
        return Generator.load(self._voice, device=self._device, dtype=self._dtype, execution=execution)

    def alone(self, generator: Generator) -> Codes:
        """Each utterance after the context, one after the other, by a generator that has spoken nothing else."""
        return [self._speak(generator, text, seed, self.context) for text, seed in self.asked]

    def in_company(self, generator: Generator) -> Codes:
        """The same, all rows of one batch."""
        streams = generator.run_batch([self._request(generator, *one, self.context) for one in self.asked])
        for stream in streams:
            for _ in stream:
                pass
        return [stream.codes for stream in streams]

    def in_chunks(self, generator: Generator) -> Codes:
        """The same, with its sound, in chunks of 1, 2, 4 and then 6 frames."""
        found = []
        for text, seed in self.asked:
            with generator.speak(self._request(generator, text, seed, self.context), (1, 2, 4, 6)) as stream:
                for _ in stream:
                    pass
            found.append(stream.codes)
        return found

    def after_its_context(self, generator: Generator) -> Codes:
        """The same, each right after the generator has spoken the last turn of the context itself."""
        found = []
        *before, last = self.context
        for text, seed in self.asked:
            again = self._speak(generator, last.text, 0, before)
            same = Segment(last.speaker, last.text, codes=again)
            found.append(self._speak(generator, text, seed, [*before, same]))
        return found

    def _turns(self) -> list[Segment]:
        turns: list[Segment] = []
        generator = self.load("auto")
        for text in TEXTS[:3]:
            turns.append(Segment(0, text, codes=self._speak(generator, text, 0, turns)))
        return turns

    def _request(self, generator: Generator, text: str, seed: int, context: Sequence[Segment]) -> Any:
        return generator.request(text, 0, context, seed=seed, guards=None, max_audio_length_ms=self._length_ms)

    def _speak(self, generator: Generator, text: str, seed: int, context: Sequence[Segment]) -> Tensor:
        stream = generator.run(self._request(generator, text, seed, context))
        for _ in stream:
            pass
        return stream.codes


def difference(expected: Codes, found: Codes) -> dict[str, Any]:
    """How many utterances differ, of how many, and the first frame in which one does, from 1; None where none."""
    firsts = [first for pair in zip(expected, found, strict=True) if (first := first_difference(*pair)) is not None]
    return {"differ": len(firsts), "utterances": len(expected), "first frame": min(firsts, default=None)}


def first_difference(expected: Tensor, found: Tensor) -> int | None:
    """The first frame, from 1, that differs or is missing in one of two utterances; None if all are equal."""
    n_frames = min(expected.shape[1], found.shape[1])
    unequal = (expected[:, :n_frames] != found[:, :n_frames]).any(dim=0).nonzero()
    if len(unequal):
        return int(unequal[0]) + 1
    return None if expected.shape[1] == found.shape[1] else n_frames + 1


def changes(trial: Trial, modes: Sequence[str], threads: int) -> Iterator[tuple[str, Callable[[], Codes]]]:
    """What is changed, and how."""
    first, *others = modes
    yield f"nothing ({first}, a fresh generator)", lambda: trial.alone(trial.load(first))
    for mode in others:
        yield f"mode: {mode}", lambda mode=mode: trial.alone(trial.load(mode))
    yield f"company: rows of a batch of {len(trial.asked)}", lambda: trial.in_company(trial.load(first))
    yield "chunk size: 1, 2, 4, 6, with sound", lambda: trial.in_chunks(trial.load(first))
    yield "history: the context was spoken, not given", lambda: trial.after_its_context(trial.load(first))
    yield f"threads: {threads}", lambda: with_threads(threads, lambda: trial.alone(trial.load(first)))


def with_threads(n_threads: int, call: Callable[[], Codes]) -> Codes:
    """A call with another number of threads in torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return call()
    finally:
        torch.set_num_threads(before)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for every dtype and change."""
    rows = []
    for name in options.dtypes:
        trial = Trial(options.voice, options.device, DTYPES[name], options.seeds, options.length_ms)
        expected = trial.alone(trial.load(options.modes[0]))
        for change, call in changes(trial, options.modes, options.other_threads):
            rows.append({"dtype": name, "changed": change, **difference(expected, call())})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", default="pocket")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", default=["eager", "static"], help="the first is what others are held to")
    parser.add_argument("--seeds", type=int, default=3, help="utterances of each text")
    parser.add_argument("--length-ms", type=float, default=2_400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--other-threads", type=int, default=2)
    add_save(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = measure(options)
    print_table(rows)
    print_json("reproducibility", rows, options.save, voice=options.voice, device=options.device)


if __name__ == "__main__":
    main()
