"""Everything that a machine with a GPU is asked, in one command: random weights of CSM-1B's geometry, bfloat16.

Run ``python -m experiments.benchmarks.gpu [--save results/benchmarks/gpu.json]``. For each mode: a frame of 80 ms with
its sound, at the first and at a late position; from the call to the first 80 ms of audio after a prompt of 128 rows;
batches of 1 to 32 as seconds of sound a second; memory. Beside a frame's time stands what it reads from memory in a
second, next to what a plain copy moves on the same device. Inductor compiles CSM-1B for minutes: ``--modes compiled``
is for a run of its own. Without a GPU, ``--size tiny --device cpu`` runs the same code at a small size, which proves
that it runs and nothing else; "few" does so with CSM-1B's vocabularies, codebooks and codec.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from csmkit.csm.config import CsmConfig
from csmkit.errors import DeviceError
from csmkit.speech.generator import Generator
from experiments.benchmarks.report import add_save, peak_memory_mib, print_json, print_table
from experiments.benchmarks.sizes import SIZES, save_voice

AIMS = {  # on an H200
    "frame_ms": "<= 4",
    "first_audio_ms": "<= 30",
    "memory_gb": "<= 5, one stream",
    "times_real_time": ">= 200 at batch 32",
}


def copy_bandwidth(device: torch.device, n_bytes: int) -> float:
    """GB/s that a plain copy reads and writes on a device."""
    source = torch.zeros(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    durations = [elapsed(device, lambda: target.copy_(source)) for _ in range(10)]
    return 2 * n_bytes / min(durations) / 1e9


def elapsed(device: torch.device, call: Callable[[], object]) -> float:
    """Seconds of a call, to the end of what it launched."""
    wait(device)
    start = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """For all that was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bytes_a_frame(config: CsmConfig, itemsize: int) -> int:
    """Bytes of weights that a frame of one stream reads: the backbone once, the depth decoder for every other code."""

    def stack(sizes: Any) -> int:
        heads = 2 * (sizes.n_heads + sizes.n_kv_heads) * sizes.head_dim
        return sizes.n_layers * sizes.dim * (heads + 3 * sizes.ffn_dim)

    n_others = config.n_codebooks - 1
    heads = config.backbone.dim * config.codebook_size + n_others * config.depth.dim * config.codebook_size
    return itemsize * (stack(config.backbone) + n_others * stack(config.depth) + heads)


def frame_times(generator: Generator, text: str, n_frames: int) -> list[float]:
    """Milliseconds between the frames of one utterance as they are handed out, sound included; the first left out."""
    request = generator.request(text, seed=0, guards=None, max_audio_length_ms=80 * n_frames)
    times: list[float] = []
    with generator.speak(request, (1,)) as stream:
        next(stream)
        before = time.perf_counter()
        for _ in stream:
            now = time.perf_counter()
            times.append(1e3 * (now - before))
            before = now
    return times


def first_audio(generator: Generator, text: str, repeats: int) -> list[float]:
    """Milliseconds from the call to the first 80 ms of sound on the host; nothing is known of the prompt."""
    times: list[float] = []
    for seed in range(repeats):
        start = time.perf_counter()
        with generator.generate_streaming(text, seed=seed, chunk_frames=1, guards=None) as stream:
            next(stream)
            times.append(1e3 * (time.perf_counter() - start))
    return times


def throughput(generator: Generator, text: str, size: int, n_frames: int) -> float:
    """Seconds of sound made in a second; the first batch warms up."""
    seconds, n_samples = 0.0, 0
    for _ in range(3):
        asked = [
            generator.request(text, seed=row, guards=None, max_audio_length_ms=80 * n_frames) for row in range(size)
        ]
        start = time.perf_counter()
        n_samples = sum(len(chunk) for _, chunk in generator.generate_streaming_batch(asked, 1))
        seconds = time.perf_counter() - start
    return n_samples / 24_000 / seconds


def measure(directory: Path, mode: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All figures of one mode; a mode that this device does not have gives none."""
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    generator = Generator.load(directory, device=device, dtype=torch.bfloat16, execution=mode)
    loaded_s = time.perf_counter() - start
    if generator.execution != mode:
        print(f"{mode}: not on this device")
        return []
    generator.warm_up()
    text = "a" * (options.rows - 5)  # the brackets, the speaker and two ids make up the rest of the rows
    warm_s = time.perf_counter() - start - loaded_s
    for _ in range(3):  # this prompt's bucket, too, is run, recorded and launched
        first_audio(generator, text, 1)
    frames = frame_times(generator, text, options.frames)
    late = frame_times(generator, "a" * options.late, options.frames)
    frame_ms = statistics.median(frames)
    n_bytes = bytes_a_frame(generator.config, 2)
    row = {
        "mode": mode,
        "batch": 1,
        "frame_ms": frame_ms,
        "frame_p95_ms": statistics.quantiles(frames, n=20)[-1],
        "late_frame_ms": statistics.median(late),
        "first_audio_ms": statistics.median(first_audio(generator, text, options.repeats)),
        "gb_per_s": n_bytes / frame_ms / 1e6,
        "times_real_time": 80 / frame_ms,
        "memory_gb": memory_gb(device),
        "load_s": loaded_s,
        "warm_up_s": warm_s,
    }
    empty = dict.fromkeys(row)
    rows = [row]
    for size in options.batches:
        speed = throughput(generator, text, size, options.frames)
        more = {"mode": mode, "batch": size, "times_real_time": speed, "memory_gb": memory_gb(device)}
        rows.append(empty | more)
    return [{k: round(v, 2) if isinstance(v, float) else v for k, v in one.items()} for one in rows]


def memory_gb(device: torch.device) -> float:
    """The most memory taken so far: of the GPU, else of the process."""
    return torch.cuda.max_memory_reserved(device) / 1e9 if device.type == "cuda" else peak_memory_mib() * 2**20 / 1e9


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every mode; raises DeviceError where the device is not there."""
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device: give --device cpu --size tiny to see the benchmark run at a small size")
    with tempfile.TemporaryDirectory() as folder:
        directory = save_voice(options.size, Path(folder))
        return [row for mode in options.modes for row in measure(directory, mode, options)]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--modes", nargs="+", default=["eager", "graph"])
    parser.add_argument("--rows", type=int, default=128, help="of the prompt")
    parser.add_argument("--late", type=int, default=1_600, help="rows of a prompt whose frames come late")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--copy-mib", type=int, default=1_024, help="of the copy that measures the bandwidth")
    add_save(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    rows = run(options)
    device = torch.device(options.device)
    copied = round(copy_bandwidth(device, options.copy_mib * 2**20), 1)
    print_table(rows)
    print(f"a plain copy moves {copied} GB/s")
    more = {"size": options.size, "device": options.device, "copy_gb_per_s": copied, "aims_on_h200": AIMS}
    print_json("gpu", rows, options.save, **more)


if __name__ == "__main__":
    main()
