"""CSM-1B's real size on a CPU: a frame of codes, a frame with its sound, the first sound, loading and memory.

    python -m experiments.benchmarks.full_size [--engines transformers:bfloat16@2 eager:bfloat16@2 int8@2 int4@2 int4@1]

Random weights, the codec at its full size. An engine is transformers or an execution mode of csmkit, its dtype, and its
threads; "int8" and "int4" load a folder that `csmkit convert` has written. Each engine runs in a process of its own,
beside transformers with as many threads, and the two take turns of one utterance, so that a busy machine slows both:
the ratios are more reliable than the milliseconds. ``floor_ms`` is the time to read the weights of a frame at this
machine's read bandwidth, each as often as it is multiplied; a large shared cache goes below it. Where memory is short
the default size is "width", CSM-1B's widths with few layers. ``--folder`` keeps the checkpoints for the next run.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from csmkit.convert import convert
from csmkit.csm.config import CsmConfig
from csmkit.csm.quantization import ROUNDINGS
from csmkit.errors import InputError
from csmkit.files.tensors import read_json
from csmkit.kernels import packed, project
from csmkit.speech.generator import Generator
from experiments.benchmarks.report import add_save, peak_memory_mib, print_json, print_table
from experiments.benchmarks.sizes import SIZES, write_random_voice

NAMES = ("engine", "dtype", "n_threads")  # of an engine's row
TEXT = "hello there, how are you today?"
MEMORY_GIB = 10  # transformers and one engine in bfloat16
ENGINES = ("eager:bfloat16@2", "int8@2", "int4@2", "int4@1")


class Engine(NamedTuple):
    """What is measured: an engine, its dtype and its threads.

    Attributes:
        mode: "transformers", or an execution mode.
        dtype: of its weights; of what is not rounded for "int8" and "int4".
        threads: of its process.
    """

    mode: str
    dtype: str
    threads: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``mode[:dtype][@threads]``."""
        rest, _, threads = text.partition("@")
        mode, _, dtype = rest.partition(":")
        if not (threads or "1").isdecimal() or dtype not in ("", "bfloat16", "float32"):
            raise InputError(f"engine {text!r}: give MODE[:bfloat16|float32][@THREADS], such as int4@2")
        return cls(mode, dtype or "bfloat16", int(threads or torch.get_num_threads()))

    def folder(self, voice: Path) -> Path:
        """Where its checkpoint is."""
        return voice.with_name(f"{voice.name}-{self.mode}") if self.mode in ROUNDINGS else voice

    @property
    def reference(self) -> Engine:
        """Transformers with as many threads."""
        return Engine("transformers", self.dtype, self.threads)

    @property
    def bytes_per_weight(self) -> float:
        """Read for each weight that a frame multiplies by; scales included."""
        if self.mode in ROUNDINGS:
            rounding = ROUNDINGS[self.mode]
            return rounding.bits / 8 + 4 / rounding.block
        return 2 if self.dtype == "bfloat16" else 4


def work(connection: Connection, engine: Engine, voice: Path) -> None:
    """Run one engine in this process: load it, then speak whenever a number of frames is received, until None is."""
    torch.set_num_threads(engine.threads)
    os.environ["CSMKIT_THREADS"] = str(engine.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    folder, dtype = engine.folder(voice), getattr(torch, engine.dtype)
    began = time.perf_counter()
    if engine.mode == "transformers":
        from transformers import CsmForConditionalGeneration

        model = CsmForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        speak = lambda n_frames: transformers_figures(model, n_frames)  # noqa: E731
    else:
        generator = Generator.load(folder, device="cpu", dtype=dtype, execution=engine.mode)
        speak = lambda n_frames: csmkit_figures(generator, n_frames)  # noqa: E731
    connection.send({"load_s": time.perf_counter() - began})
    while (n_frames := connection.recv()) is not None:
        connection.send(speak(n_frames) | {"peak_mib": peak_memory_mib()})


def transformers_figures(model: Any, n_frames: int) -> dict[str, float]:
    """Milliseconds of a frame of codes, the prompt left out."""
    ids = torch.arange(3, 3 + len(TEXT))[None]
    spent = []
    for count in (1, n_frames):
        began = time.perf_counter()
        how = {"do_sample": True, "temperature": 0.9, "top_k": 50}
        depth = {f"depth_decoder_{name}": value for name, value in how.items()}
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, **how, **depth)
        spent.append(1e3 * (time.perf_counter() - began))
    return {"frame_ms": (spent[1] - spent[0]) / (n_frames - 1)}


def csmkit_figures(generator: Generator, n_frames: int) -> dict[str, float]:
    """Milliseconds of a frame of codes and of one with its sound, after the first, and from the call to the first."""
    figures = {}
    how = {"seed": 0, "guards": None, "max_audio_length_ms": 80 * n_frames}
    for name, first, frames in (
        ("frame_ms", "first_codes_ms", lambda: generator.frames(TEXT, **how)),
        ("with_sound_ms", "first_sound_ms", lambda: generator.generate_streaming(TEXT, chunk_frames=1, **how)),
    ):
        began = time.perf_counter()
        arrivals = [1e3 * (time.perf_counter() - began) for _ in frames()]
        figures[first], figures[name] = arrivals[0], (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1)
    return figures


class Processes:
    """The engines that take turns, each in a process of its own.

    Args:
        engines: what runs.
        voice: the folder of the unrounded checkpoint.

    Attributes:
        figures: of each engine, those of loading and then those of each utterance.
    """

    def __init__(self, engines: list[Engine], voice: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._workers = {}
        self.figures: dict[Engine, list[dict[str, float]]] = {}
        for engine in engines:  # one by one, so that none is slowed down by another's loading
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, engine, voice), daemon=True)
            process.start()
            theirs.close()
            self._workers[engine] = process, ours
            self.figures[engine] = [ours.recv()]

    def take_turns(self, n_frames: int, repeats: int) -> None:
        """An utterance of each, ``repeats`` times; the first one of each warms up and does not count."""
        for repeat in range(repeats + 1):
            for engine, (_, connection) in self._workers.items():
                connection.send(n_frames)
                figures = connection.recv()
                if repeat:
                    self.figures[engine].append(figures)

    def close(self) -> None:
        """End the processes."""
        for process, connection in self._workers.values():
            connection.send(None)
            process.join(10)


def compare(engine: Engine, voice: Path, n_frames: int, repeats: int) -> dict[Engine, list[dict[str, float]]]:
    """Figures of an engine and of its reference, by turns."""
    processes = Processes(list(dict.fromkeys((engine.reference, engine))), voice)
    try:
        processes.take_turns(n_frames, repeats)
    finally:
        processes.close()
    return processes.figures


def rows(figures: dict[Engine, list[dict[str, float]]], size: str, n_weights: int, read_gb_s: float) -> list[dict]:
    """One row for each engine; ``times_transformers`` compares it with its reference, turn by turn."""
    table = []
    for engine, (loading, *turns) in figures.items():
        pairs = zip(figures[engine.reference][1:], turns, strict=True)
        ratios = [reference["frame_ms"] / turn["frame_ms"] for reference, turn in pairs]

        def median(name: str, turns: list[dict[str, float]] = turns) -> float | None:
            values = [turn[name] for turn in turns if name in turn]
            return statistics.median(values) if values else None

        sound = median("with_sound_ms")
        row = {
            "size": size,
            "engine": engine.mode,
            "dtype": engine.dtype,
            "n_threads": engine.threads,
            "frame_ms": median("frame_ms"),
            "frame_min_ms": min(turn["frame_ms"] for turn in turns),
            "floor_ms": 1e3 * n_weights * engine.bytes_per_weight / (1e9 * read_gb_s),
            "times_transformers": statistics.median(ratios),
            "with_sound_ms": sound,
            "rtf": sound / 80 if sound else None,
            "first_sound_ms": median("first_sound_ms"),
            "load_s": loading["load_s"],
            "peak_mib": max(turn["peak_mib"] for turn in turns),
        }
        table.append({name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()})
    return table


def weights_of_a_frame(config: CsmConfig) -> int:
    """Weights that a frame multiplies by, each as often as it does."""

    def stack(sizes: Any) -> int:
        heads = 2 * (sizes.n_heads + sizes.n_kv_heads) * sizes.head_dim
        return sizes.n_layers * sizes.dim * (heads + 3 * sizes.ffn_dim)

    n, backbone, depth = config.n_codebooks, config.backbone, config.depth
    heads = config.codebook_size * (backbone.dim + (n - 1) * depth.dim)
    return stack(backbone) + (n - 1) * stack(depth) + heads


def read_bandwidth(n_bytes: int = 2**29) -> float:
    """GB/s of weights that a product of one row reads from memory: the best of several, plain and packed."""
    weight, x, best = torch.ones(n_bytes // 4 // 4096, 4096), torch.ones(1, 4096), 0.0
    for weights in (weight, packed(weight)):
        for _ in range(8):
            began = time.perf_counter()
            project(x, weights)
            best = max(best, n_bytes / (time.perf_counter() - began) / 1e9)
    return best


@contextmanager
def prepared(size: str, engines: list[Engine], folder: Path | None) -> Iterator[Path]:
    """The checkpoints, made where they are missing; thrown away at the end where no folder is given."""
    with tempfile.TemporaryDirectory() as temporary:
        voice = (folder or Path(temporary)) / size
        if not (voice / "tokenizer.json").is_file():
            write_random_voice(SIZES[size], voice)
        for engine in engines:
            if not engine.folder(voice).is_dir():
                convert(voice, engine.folder(voice), to=engine.mode)
        yield voice


def default_size() -> str:
    """Return "full" where the default engines fit into memory, else "width"."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return "full" if gib >= MEMORY_GIB else "width"


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default=default_size())
    parser.add_argument("--engines", nargs="+", type=Engine.parse, default=[Engine.parse(text) for text in ENGINES])
    parser.add_argument("--frames", type=int, default=8, help="of an utterance")
    parser.add_argument("--repeats", type=int, default=3, help="utterances of each engine that count")
    parser.add_argument("--folder", type=Path, default=None, help="where the checkpoints are kept")
    add_save(parser)
    options = parser.parse_args()
    with prepared(options.size, options.engines, options.folder) as voice:
        n_weights = weights_of_a_frame(CsmConfig.from_transformers(read_json(voice / "config.json")))
        bandwidth, table = read_bandwidth(), []
        for engine in options.engines:
            figures = compare(engine, voice, options.frames, options.repeats)
            reference, *others = rows(figures, options.size, n_weights, bandwidth)
            same = [row for row in table if [row[key] for key in NAMES] == [reference[key] for key in NAMES]]
            table += others if same else [reference, *others]
            print(f"{engine.mode} in {engine.dtype} on {engine.threads} threads: measured", flush=True)
    print_table(table)
    conditions = {"read_gb_s": round(bandwidth, 1), "load_average": round(os.getloadavg()[0], 1)}
    print_json("full_size", table, options.save, n_weights=n_weights, **conditions)


if __name__ == "__main__":
    main()
