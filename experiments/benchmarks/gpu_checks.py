"""What only a GPU can show about recorded frames, in one command: every check says "ok" or what it found.

Run ``python -m experiments.benchmarks.gpu_checks [--save results/benchmarks/gpu_checks.json]``: random weights of
CSM-1B's geometry in bfloat16. Without a GPU, ``--size tiny --device cpu --mode static`` runs the same code, which
proves that it runs and nothing else. The exit status is 1 where a check failed.

- parity: the frames of the mode, run, recorded and launched, are the same codes every time; how many are those of eager
  stands beside it, since bfloat16 rounds differently where attention spans another length.
- noise: the bits that the device draws are those of the CPU.
- fresh thread: frames are recorded in a thread that never multiplied.
- refusal: an operation that cannot be recorded leaves the thread on its stream, and the voice speaks on.
- dropped: a second generator that is dropped while the first speaks disturbs nothing, and its memory comes back.
- two streams: generations under two current streams, in two threads, say what they say alone.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csmkit.csm.execution.static import StaticStep
from csmkit.csm.sampling import Noise
from csmkit.errors import DeviceError
from csmkit.speech.generator import Generator
from experiments.benchmarks.report import add_save, print_json, print_table
from experiments.benchmarks.sizes import SIZES, save_voice

TEXT = "a" * 20


@dataclass
class Bench:
    """Where the checks load their generators from."""

    directory: Path
    device: torch.device
    mode: str
    dtype: torch.dtype
    n_frames: int

    def load(self, mode: str | None = None) -> Generator:
        """A generator of its own; raises DeviceError where the device does not have the mode."""
        mode = mode or self.mode
        generator = Generator.load(self.directory, device=self.device, dtype=self.dtype, execution=mode)
        if generator.execution != mode:
            raise DeviceError(f"mode {mode!r} is not available on {self.device}: give --mode static on a CPU")
        return generator

    def speak(self, generator: Generator, seed: int = 0) -> Tensor:
        """Codes of one utterance, ``(n_codebooks, n_frames)``; made with their sound."""
        request = generator.request(TEXT, seed=seed, guards=None, max_audio_length_ms=80 * self.n_frames)
        with generator.speak(request, (1,)) as stream:
            for _ in stream:
                pass
        return stream.codes


def parity(bench: Bench) -> str:
    """Run, recorded and launched frames are the same."""
    eager, generator = bench.speak(bench.load("eager")), bench.load()
    found = [bench.speak(generator) for _ in range(4)]
    if any(not torch.equal(codes, found[0]) for codes in found):
        return "the same utterance has other codes once it is recorded or launched"
    n_frames = min(eager.shape[1], found[0].shape[1])
    equal = (eager[:, :n_frames] == found[0][:, :n_frames]).all(dim=0)
    return f"ok; {int(equal.long().cumprod(0).sum())} of {bench.n_frames} frames before the first unlike eager's"


def noise(bench: Bench) -> str:
    """The same bits, but for the last place of a logarithm."""
    generator = bench.load("eager")
    devices = (bench.device, torch.device("cpu"))
    there, here = (Noise(generator.config, [generator.sampling], [2**40 + 1], device) for device in devices)
    for _ in range(8):
        if not torch.allclose(there.draw_in_place().cpu(), here.draw(), atol=1e-5, rtol=1e-5):
            return "the noise of the device is not that of the CPU"
    return "ok" if torch.equal(there.counter.cpu(), here.counter) else "the counters differ"


def fresh_thread(bench: Bench) -> str:
    """Each utterance in a thread of its own: the second one records."""
    generator = bench.load()
    found = [in_threads([lambda: bench.speak(generator)])[0] for _ in range(3)]
    return "ok" if all(torch.equal(codes, found[0]) for codes in found) else "other codes in another thread"


def refusal(bench: Bench) -> str:
    """A body that reads a number back."""
    generator = bench.load()
    expected, before = bench.speak(generator), current_stream(bench.device)
    step, kept = generator.step, {}
    if not isinstance(step, StaticStep):
        return f"mode {bench.mode!r} has nothing to record"
    number = torch.ones(4, device=bench.device)
    for _ in range(3):
        step.recorder.run(kept, "refused", lambda: float(number.sum()))
        if current_stream(bench.device) != before:
            return "the thread is left on the stream of the recording"
    again = [bench.speak(generator) for _ in range(3)]
    return "ok" if all(torch.equal(codes, expected) for codes in again) else "other codes after a refusal"


def dropped(bench: Bench) -> str:
    """One generator speaks while another is loaded, recorded and dropped."""
    generator = bench.load()
    expected = [bench.speak(generator) for _ in range(3)][-1]
    before = allocated(bench.device)
    request = generator.request(TEXT, seed=0, guards=None, max_audio_length_ms=80 * bench.n_frames)
    with generator.speak(request, (1,)) as stream:
        next(stream)
        other = bench.load()
        for _ in range(3):
            bench.speak(other)
        del other
        gc.collect()
        for _ in stream:
            pass
    if not torch.equal(stream.codes, expected):
        return "other codes beside a generator that was dropped"
    left = allocated(bench.device) - before
    return "ok" if left < 64 * 2**20 else f"{left / 2**20:.0f} MiB stay allocated"


def two_streams(bench: Bench) -> str:
    """Two threads, each with a current stream of its own, one generator."""
    generator = bench.load()
    expected = [bench.speak(generator, seed) for seed in (1, 2) for _ in range(3)][2::3]

    def speak(seed: int) -> list[Tensor]:
        with own_stream(bench.device):
            return [bench.speak(generator, seed) for _ in range(4)]

    found = in_threads([lambda seed=seed: speak(seed) for seed in (1, 2)])
    right = all(torch.equal(codes, one) for one, several in zip(expected, found, strict=True) for codes in several)
    return "ok" if right else "other codes beside another stream"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "parity": parity,
    "noise": noise,
    "fresh thread": fresh_thread,
    "refusal": refusal,
    "dropped": dropped,
    "two streams": two_streams,
}


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call gives, in a new thread; raises the first error of any."""
    found: dict[int, Any] = {}
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            found[index] = calls[index]()
        except BaseException as error:  # the top frame of a thread: raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [found[index] for index in range(len(calls))]


def current_stream(device: torch.device) -> object:
    """Of this thread; None where there are no streams."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def own_stream(device: torch.device) -> AbstractContextManager[object]:
    """A new current stream for this thread."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


def allocated(device: torch.device) -> int:
    """Bytes of the device that tensors take; 0 where nobody counts them."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    return torch.cuda.memory_allocated(device)


def check(bench: Bench, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for every check; an error is its finding."""
    rows = []
    for name in names:
        try:
            found = CHECKS[name](bench)
        except Exception as error:  # the others are still worth knowing
            found = f"{type(error).__name__}: {error}"
        rows.append({"check": name, "found": found.splitlines()[0]})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--mode", default="graph")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    add_save(parser)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device: give --device cpu --size tiny --mode static to see the checks run")
    with tempfile.TemporaryDirectory() as folder:
        directory = save_voice(options.size, Path(folder))
        bench = Bench(directory, device, options.mode, getattr(torch, options.dtype), options.frames)
        rows = check(bench, options.checks)
    print_table(rows)
    print_json("gpu_checks", rows, options.save, size=options.size, device=options.device, mode=options.mode)
    return int(any(not row["found"].startswith("ok") for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
