"""What one frame of codes costs the language model: random weights, greedy and sampled, transformers against csmkit.

Run ``python -m experiments.benchmarks.frame [--sizes pocket depth] [--modes eager] [--frames 25] [--repeats 5]``; on a
GPU, ``--device cuda --dtype bfloat16 --sizes full --modes eager graph compiled``. The sizes: the bundled voice's;
CSM-1B's layers, heads and codebooks with small widths, which is all overhead; "width", CSM-1B's widths with few layers,
which is all weights; and "full", CSM-1B. The contestants take turns of one utterance, so that a busy machine slows all
alike; its prompt counts, the codec does not. ``cpu_ms`` leaves out the time that other processes had the core. The
greedy codes are compared with transformers' on the way.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CsmForConditionalGeneration

from csmkit.csm.checkpoint import load_model, read_json
from csmkit.csm.tokenizer import load_tokenizer
from csmkit.mimi.codecs import FakeCodec
from csmkit.speech.generator import Generator
from experiments.benchmarks.report import add_save, print_json, print_table
from experiments.benchmarks.sizes import SIZES, save_voice

TEXT = "hello there, how are you today?"
HOW = {"greedy": {"temperature": 0.0}, "top-k 50": {"temperature": 0.9, "topk": 50}}
THEIRS = {"greedy": {"do_sample": False}, "top-k 50": {"do_sample": True, "temperature": 0.9, "top_k": 50}}
Speak = Callable[[], Tensor]


def contestants(
    size: str, modes: Sequence[str], n_frames: int, device: torch.device, dtype: torch.dtype
) -> dict[tuple[str, str], Speak]:
    """The engines by name and sampling, over the same weights; transformers first."""
    speakers: dict[tuple[str, str], Speak] = {}
    with tempfile.TemporaryDirectory() as folder:
        save_voice(size, Path(folder))
        theirs = CsmForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        config = read_json(Path(folder) / "config.json")
        ours = []
        for mode in modes:
            model = load_model(folder, device=device, dtype=dtype)
            tokenizer = load_tokenizer(folder, model.config, config)
            codec = FakeCodec(model.config.n_codebooks, model.config.codebook_size)
            ours.append(Generator(model, tokenizer, codec, execution=mode))
    theirs.to(device)
    ids = torch.tensor([ours[0].tokenizer.ids(0, TEXT)], device=device)

    def transformers(how: dict[str, Any]) -> Tensor:
        depth = {f"depth_decoder_{name}": value for name, value in how.items()}
        return theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_frames, **how, **depth)[0]

    def csmkit(generator: Generator, how: dict[str, Any]) -> Tensor:
        # Random weights say the same over and over, and here all frames count.
        frames = generator.frames(TEXT, seed=0, max_audio_length_ms=80 * n_frames, guards=None, **how)
        return torch.stack(list(frames))

    for sampling, how in HOW.items():
        speakers["transformers", sampling] = lambda how=THEIRS[sampling]: transformers(how)
        for generator in ours:
            speakers[f"csmkit {generator.execution}", sampling] = lambda g=generator, how=how: csmkit(g, how)
    return speakers


def compare(
    size: str, speakers: dict[tuple[str, str], Speak], repeats: int, device: torch.device
) -> list[dict[str, Any]]:
    """Rows of all contestants; ``speedup`` is over transformers, by processor time, on CUDA by the clock."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    codes = {key: speak().cpu() for key, speak in speakers.items()}  # the first utterance warms up
    wall: dict[tuple[str, str], list[float]] = {key: [] for key in speakers}
    cpu: dict[tuple[str, str], list[float]] = {key: [] for key in speakers}
    for _ in range(repeats):
        for key, speak in speakers.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            n_made = len(speak())
            wait()
            wall[key].append(1e3 * (time.perf_counter() - began) / n_made)
            cpu[key].append(1e3 * (time.process_time() - began_cpu) / n_made)
    decides = wall if device.type == "cuda" else cpu
    rows = []
    for engine, sampling in speakers:
        key, theirs = (engine, sampling), ("transformers", sampling)
        equal = torch.equal(codes[key], codes[theirs]) if sampling == "greedy" else None
        row = {
            "size": size,
            "engine": engine,
            "sampling": sampling,
            "median_ms": statistics.median(wall[key]),
            "min_ms": min(wall[key]),
            "cpu_ms": statistics.median(cpu[key]),
            "speedup": statistics.median(decides[theirs]) / statistics.median(decides[key]),
        }
        row = {name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()}
        rows.append(row | {"codes_equal": equal})
    return rows


def main() -> None:
    """Run the comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["pocket", "depth"])
    parser.add_argument("--modes", nargs="+", default=["eager"], help="of csmkit: eager, graph, compiled, int8, static")
    parser.add_argument("--frames", type=int, default=25, help="frames of an utterance")
    parser.add_argument("--repeats", type=int, default=5, help="utterances of each contestant that count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    rows = []
    for size in options.sizes:
        speakers = contestants(size, options.modes, options.frames, device, dtype)
        rows += compare(size, speakers, options.repeats, device)
    print_table(rows)
    print_json("frame", rows, options.save, device=options.device, dtype=options.dtype)


if __name__ == "__main__":
    main()
