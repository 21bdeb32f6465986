"""How cost grows: a frame late in the context, the first audio after a long conversation, many rows at once.

Run ``python -m experiments.benchmarks.growth [--voice pocket] [--save results/benchmarks/growth.json]``. Ratios are
within one run, of processor time, and the contestants of each comparison take turns, so that a busy machine slows all
alike. The conversation is a real one: every turn is spoken after those before it, and what is asked is one clause.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from csmkit.csm.execution.eager import EagerStep
from csmkit.csm.model import CsmState
from csmkit.csm.sampling import Noise
from csmkit.speech.generator import Generator, Segment
from experiments.benchmarks.report import Clock, add_save, peak_memory_mib, print_json, print_table
from experiments.benchmarks.sizes import save_voice

CLAUSE = "yes, I think so too."
TURN_MS = 2_000  # the longest turn
LONG = "would you like to hear how long it takes, when we have talked for a while?"


def frame_state(generator: Generator, position: int) -> CsmState:
    """A state of one stream that has room to go on from ``position``; what it holds before does not matter."""
    noise = Noise(generator.config, [generator.sampling], [0], generator.model.device)
    state = generator.model.new_state(generator.config.backbone.max_positions, noise)
    state.backbone.lengths = [position]
    return state


def positions(
    generator: Generator, places: Sequence[int], repeats: int, label: str = "frame at position {}"
) -> list[dict[str, Any]]:
    """Milliseconds of a frame at several positions, by turns."""
    step, clock = EagerStep(generator.model), Clock(places)
    states = {place: frame_state(generator, place) for place in places}
    for state in states.values():
        step.next(state)
    for _ in range(repeats):
        for place, state in states.items():
            state.backbone.lengths = [place]
            clock.time(place, lambda state=state: step.next(state))
    return clock.rows(label)


def positions_at_full_width(places: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """The same for random weights of CSM-1B's widths in bfloat16, with few layers and codebooks.

    A layer attends to as much as one of CSM-1B, and fewer passes of the depth decoder stand beside it.
    """
    with tempfile.TemporaryDirectory() as folder:
        voice = save_voice("width", Path(folder))
        generator = Generator.load(voice, device="cpu", dtype=torch.bfloat16, execution="eager")
        return positions(generator, places, repeats, "frame at position {}, CSM-1B's widths")


def forget(generator: Generator) -> None:
    """Speak after another context, whose rows take the place of those that are kept."""
    with generator.frames(CLAUSE, 0, [Segment(1, "well.")], seed=0) as frames:
        next(frames)


def history(generator: Generator, turns: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds from the call to the first frame of sound, after the last of some turns was spoken.

    As raw calls do it, which read the last turn first, and as the chatbot does, which reads it while the language model
    writes its first words.
    """
    segments: list[Segment] = []
    labels = ("first audio after {} turns", "first audio after {} turns that were read ahead")
    contestants = [label.format(n) for label in labels for n in turns if n or label is labels[0]]
    clock = Clock(contestants)

    def speak(n_before: int) -> torch.Tensor:
        stream = generator.frames(CLAUSE, n_before % 2, segments[:n_before], seed=n_before, max_audio_length_ms=TURN_MS)
        for _ in stream:
            pass
        return stream.codes

    for i in range(max(turns)):
        segments.append(Segment(i % 2, CLAUSE, codes=speak(i)))
    for repeat in range(repeats + 1):
        if repeat == 1:
            clock = Clock(contestants)  # the first round warms up
        for n in turns:
            request = generator.request(CLAUSE, 0, segments[:n], seed=repeat, max_audio_length_ms=TURN_MS)

            def first_audio(request: Any = request) -> None:
                with generator.speak(request, (1,)) as stream:
                    next(stream)

            for label in labels[: 1 + bool(n)]:
                if n:
                    forget(generator)  # else the first turn would be known from the round before
                    speak(n - 1)
                if label is not labels[0]:
                    list(generator.read_ahead(segments[:n]))
                clock.time(label.format(n), first_audio)
    return clock.rows("{}")


def batches(generator: Generator, sizes: Sequence[int], n_frames: int) -> list[dict[str, Any]]:
    """Seconds of sound made in a second, language model and codec, for several rows at once."""
    rows = []
    for size in sizes:
        asked = [
            generator.request(LONG, i % 2, seed=i, max_audio_length_ms=80 * n_frames, temperature=1.0)
            for i in range(size)
        ]
        start, cpu = time.perf_counter(), time.process_time()
        samples = sum(len(chunk) for _, chunk in generator.generate_streaming_batch(asked))
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        audio_s = samples / 24_000
        figures = {"wall_s": seconds, "times_real_time": audio_s / seconds, "times_real_time_cpu": audio_s / cpu_s}
        rows.append({"figure": f"batch of {size}", **{name: round(value, 2) for name, value in figures.items()}})
    return rows


def main() -> None:
    """Run all three and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", default="pocket")
    parser.add_argument("--positions", type=int, nargs="+", default=[100, 400, 900, 1800])
    parser.add_argument("--full-width", action=argparse.BooleanOptionalAction, default=True, help="takes 1 GB")
    parser.add_argument("--turns", type=int, nargs="+", default=[0, 1, 4, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--frames", type=int, default=25, help="of each row of a batch")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = Generator.load(options.voice)
    generator.warm_up()
    growth = [
        *positions(generator, options.positions, 5 * options.repeats),
        *history(generator, options.turns, options.repeats),
    ]
    throughput = batches(generator, options.batches, options.frames)
    if options.full_width:  # last: a big voice takes all cores
        growth += positions_at_full_width(options.positions, options.repeats)
    print_table(growth)
    print()
    print_table(throughput)
    memory = round(peak_memory_mib())
    print_json("growth", growth, options.save, throughput=throughput, peak_memory_mib=memory)


if __name__ == "__main__":
    main()
