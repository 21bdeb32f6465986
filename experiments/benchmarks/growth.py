"""How cost grows: a frame late in the context, the first audio after a long conversation, many rows at once.

Run ``python -m experiments.benchmarks.growth [--voice pocket] [--save results/benchmarks/growth.json]``. Ratios are
within one run; the contestants of each comparison take turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from csmkit.csm.eager import EagerStep
from csmkit.csm.model import CsmState
from csmkit.csm.sampling import Noise
from csmkit.generator import Generator, Segment
from experiments.benchmarks.report import add_save, milliseconds, peak_memory_mib, print_json, print_table

TEXT = "would you like to hear how long it takes, when we have talked for a while?"


def frame_state(generator: Generator, position: int) -> CsmState:
    """A state of one stream that has room to go on from ``position``; what it holds before does not matter."""
    noise = Noise(generator.config, [generator.sampling], [0], generator.model.device)
    state = generator.model.new_state(generator.config.backbone.max_positions, noise)
    state.backbone.lengths = [position]
    return state


def positions(generator: Generator, places: list[int], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of a frame at several positions, by turns."""
    step = EagerStep(generator.model)
    states = {place: frame_state(generator, place) for place in places}
    times: dict[int, list[float]] = {place: [] for place in places}
    for state in states.values():
        step.next(state)
    for _ in range(repeats):
        for place, state in states.items():
            state.backbone.lengths = [place]
            times[place] += milliseconds(lambda state=state: step.next(state), 5, n_warm_up=0)
    first = statistics.median(times[places[0]])
    return [
        {"figure": f"frame at position {place}", "ms": (ms := statistics.median(values)), "ratio": ms / first}
        for place, values in times.items()
    ]


def history(generator: Generator, turns: list[int], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds from the call to the first frame of 80 ms sound after some turns, the last of which is new."""
    spoken = [generator.generate_streaming("yes, I think so too.", i % 2, seed=i) for i in range(max(turns))]
    segments = []
    for i, stream in enumerate(spoken):
        sound = torch.cat(list(stream))
        segments.append(Segment(i % 2, "yes, I think so too.", sound, codes=stream.codes))
    times: dict[int, list[float]] = {n: [] for n in turns}
    for repeat in range(repeats):
        for n in turns:
            if n > 1:  # the turns before the last were read for the answer before
                generator.generate(TEXT, 0, segments[: n - 1], max_audio_length_ms=80, seed=repeat)
            start = time.perf_counter()
            with generator.generate_streaming(TEXT, 0, segments[:n], chunk_frames=1, seed=repeat) as stream:
                next(stream)
                times[n].append(1e3 * (time.perf_counter() - start))
    first = statistics.median(times[turns[0]])
    return [
        {"figure": f"first audio after {n} turns", "ms": (ms := statistics.median(values)), "ratio": ms / first}
        for n, values in times.items()
    ]


def batches(generator: Generator, sizes: list[int], n_frames: int) -> list[dict[str, Any]]:
    """Seconds of sound made in a second, language model and codec, for several rows at once."""
    rows = []
    for size in sizes:
        asked = [
            generator.request(TEXT, i % 2, seed=i, max_audio_length_ms=80 * n_frames, temperature=1.0)
            for i in range(size)
        ]
        start = time.perf_counter()
        samples = sum(len(chunk) for _, chunk in generator.generate_streaming_batch(asked))
        seconds = time.perf_counter() - start
        rows.append({"figure": f"batch of {size}", "ms": 1e3 * seconds, "ratio": samples / 24_000 / seconds})
    return rows


def main() -> None:
    """Run all three and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", default="pocket")
    parser.add_argument("--positions", type=int, nargs="+", default=[100, 400, 900, 1800])
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
        *positions(generator, options.positions, options.repeats),
        *history(generator, options.turns, options.repeats),
    ]
    print_table(growth)
    throughput = batches(generator, options.batches, options.frames)
    print()
    print_table([{"figure": row["figure"], "ms": row["ms"], "x real time": row["ratio"]} for row in throughput])
    print_json("growth", growth, options.save, throughput=throughput, peak_memory_mib=round(peak_memory_mib()))


if __name__ == "__main__":
    main()
