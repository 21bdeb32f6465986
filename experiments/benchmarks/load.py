"""Many listeners of one model: how many it serves in real time, and how soon each has sound.

Run ``python -m experiments.benchmarks.load [--save results/benchmarks/load.json]``. Three measurements, each with
streams that join while others speak (`csmkit.speech.shared.SharedGenerator`):

- "speed": streams that are read as fast as they are made, always as many at once: seconds of sound a second.
- "listeners": listeners in real time, always as many at once. Each takes the next chunk when the last begins to play,
  as a player does; a chunk that comes after the ones before it have played is an underrun.
- "arrivals": requests that arrive at random (a Poisson process of a given rate), whether or not those before them have
  been served. Times count from the moment of arrival. A rate with an underrun is tried once more with other arrivals;
  rates rise until one fails twice. The highest one without any underrun is the load that the machine carries; at 80 %
  of it the times to first sound are measured once more, for twice as long.

"audible" is the first moment that is louder than -40 dBFS for 50 ms, as `csmkit.timing` has it: it includes the silence
that the voice itself begins with. On a GPU: ``--device cuda --sizes full``, random weights of CSM-1B's geometry, whose
speech always lasts ``--speech-s`` seconds. The defaults take about five minutes.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csmkit.audio import ONSET_MS, SAMPLE_RATE, audible_windows, first_audible
from csmkit.errors import CapacityError, CsmkitError
from csmkit.speech.generator import Generator
from csmkit.speech.settings import Request
from csmkit.speech.shared import SharedGenerator
from csmkit.timing import Arrivals
from experiments.benchmarks.report import add_save, print_json, print_table
from experiments.benchmarks.sizes import SIZES, save_voice

SCHEDULE = (1, 1, 1, 2, 2, 3, 4, 6)  # frames of each chunk: each is made while the one before it plays
SHARE = 0.8  # of the highest load without underruns
WARM_UP_S = 4.0

_log = logging.getLogger(__name__)


@dataclass
class Listener:
    """One request and what its listener got.

    Attributes:
        due_s: when the request arrived, by `time.perf_counter`.
        arrivals: its chunks, in seconds since then.
        chunks: their sound.
        refused: whether there was no room for it.
        failed: whether its stream ended with an error.
    """

    due_s: float
    arrivals: Arrivals = field(default_factory=Arrivals)
    chunks: list[np.ndarray] = field(default_factory=list)
    refused: bool = False
    failed: bool = False

    def listen(self, shared: SharedGenerator, request: Request, plays: bool) -> None:
        """Read a stream to its end: as fast as it is made, or as a player does."""
        try:
            self._read(shared.speak(request, SCHEDULE), plays)
        except CapacityError:
            self.refused = True
        except CsmkitError as error:
            self.failed = True
            _log.warning("a stream failed: %s", error)

    def _read(self, stream: Iterable[Tensor], plays: bool) -> None:
        free_s = 0.0
        for chunk in stream:
            now_s = time.perf_counter() - self.due_s
            self.arrivals.add(now_s, len(chunk) / SAMPLE_RATE)
            self.chunks.append(chunk.numpy())
            starts_s = max(free_s, now_s)
            free_s = starts_s + len(chunk) / SAMPLE_RATE
            if plays:
                time.sleep(starts_s - now_s)

    @property
    def n_underruns(self) -> int:
        """Chunks that came after those before them had played."""
        return int((self.arrivals.slack_s() > 0).sum())

    @property
    def audible_s(self) -> float | None:
        """Seconds from the request to the first audible sound; None if there is none."""
        if not self.chunks:
            return None
        window = first_audible(audible_windows(np.concatenate(self.chunks)))
        if window is None:
            return None
        return self.arrivals.heard_at_s(window * ONSET_MS / 1000)


class Bench:
    """Requests of one voice, one after another, and the loads that are made of them."""

    def __init__(self, generator: Generator, options: argparse.Namespace) -> None:
        self.generator, self.options = generator, options
        texts = (files("csmkit.lab") / "texts" / "harvard.txt").read_text().split("\n")
        self._texts = [text for text in texts if text and not text.startswith("#")]
        self._seeds = itertools.count()  # many threads take the next one

    def _next_request(self) -> Request:
        seed = next(self._seeds)
        text, how = self._texts[seed % len(self._texts)], {}
        if self.options.sizes != "trained":
            text, how = text.lower(), {"guards": None, "max_audio_length_ms": 1_000 * self.options.speech_s}
        return self.generator.request(text, seed % 2, seed=seed, **how)

    def shared(self, n_streams: int) -> SharedGenerator:
        return SharedGenerator(self.generator, n_streams=n_streams, n_waiting=4 * n_streams)

    def at_once(self, n_listeners: int, plays: bool, seconds: float) -> dict[str, Any]:
        """The same number of streams at any time, for some seconds; those that speak then finish."""
        listeners: list[Listener] = []
        until_s = time.perf_counter() + seconds

        def go_on(index: int) -> None:
            time.sleep(0.02 * index if plays else 0)  # nobody starts with everybody else
            while time.perf_counter() < until_s:
                listeners.append(listener := Listener(time.perf_counter()))
                listener.listen(shared, self._next_request(), plays)

        with self.shared(n_listeners) as shared:
            threads = [threading.Thread(target=go_on, args=(index,)) for index in range(n_listeners)]
            row = self._row(listeners, threads)
        kind = "listeners" if plays else "speed"
        return {"load": kind, "listeners": n_listeners, "requests_per_s": None} | row

    def arriving(self, rate: float, seed: int, seconds: float) -> dict[str, Any]:
        """Requests that arrive at random, ``rate`` a second on average, for some seconds."""
        dice, listeners = random.Random(seed), []
        due_s = time.perf_counter() + 0.1
        gaps = [dice.expovariate(rate) for _ in range(max(8, round(rate * seconds)))]
        with self.shared(self.options.streams) as shared:
            threads = []
            for gap in gaps:
                due_s += gap
                listeners.append(listener := Listener(due_s))
                threads.append(threading.Thread(target=self._listen_later, args=(listener, shared)))
            row = self._row(listeners, threads)
        n_mean = row["audio_s"] / row["seconds"]
        return {"load": "arrivals", "listeners": round(n_mean, 1), "requests_per_s": rate} | row

    def _listen_later(self, listener: Listener, shared: SharedGenerator) -> None:
        time.sleep(max(0.0, listener.due_s - time.perf_counter()))
        listener.listen(shared, self._next_request(), plays=True)

    def _row(self, listeners: list[Listener], threads: Sequence[threading.Thread]) -> dict[str, Any]:
        """Run the listeners' threads and put their figures together."""
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        served = [listener for listener in listeners if len(listener.arrivals)]
        audio_s = sum(listener.arrivals.audio_s for listener in served)
        return {
            "n_requests": len(listeners),
            "n_refused": sum(listener.refused for listener in listeners),
            "n_failed": sum(listener.failed for listener in listeners),
            "n_underruns": sum(listener.n_underruns for listener in served),
            "n_streams_late": sum(listener.n_underruns > 0 for listener in served),
            **percentiles("first_ms", [listener.arrivals.times_s[0] for listener in served]),
            **percentiles("audible_ms", [at for listener in served if (at := listener.audible_s) is not None]),
            "times_real_time": round(audio_s / seconds, 2),
            "audio_s": round(audio_s, 1),
            "seconds": round(seconds, 1),
            "cores_busy": round(cpu_s / seconds, 2),
        }


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    """Columns of p50, p95 and p99 in milliseconds; None without values."""
    values = 1e3 * np.percentile(seconds, (50, 95, 99)) if seconds else (None,) * 3
    return {
        f"{name}_p{share}": None if value is None else round(float(value), 1)
        for share, value in zip((50, 95, 99), values, strict=True)
    }


def is_carried(row: dict[str, Any]) -> bool:
    """Whether everybody was served without a gap."""
    return not (row["n_underruns"] or row["n_refused"] or row["n_failed"])


def measure(bench: Bench) -> list[dict[str, Any]]:
    """All rows; rates are raised until one is not carried, and the times at 80 % of the highest that was come last."""
    options, seconds = bench.options, bench.options.seconds
    bench.at_once(max(options.speed, default=1), False, min(seconds, WARM_UP_S))  # all shapes are met, some recorded
    rows = [bench.at_once(n, False, seconds) for n in options.speed]
    rows += [bench.at_once(n, True, seconds) for n in options.listeners]
    carried = None
    for step, rate in enumerate(sorted(options.rates)):
        rows.append(bench.arriving(rate, 2 * step, seconds))
        if not is_carried(rows[-1]):
            rows.append(bench.arriving(rate, 2 * step + 1, seconds))
        if not is_carried(rows[-1]):
            break
        carried = rate
    if carried is not None:
        rows.append(bench.arriving(SHARE * carried, 2 * len(options.rates), 2 * seconds) | {"load": "arrivals at 80 %"})
    return rows


def load_generator(options: argparse.Namespace, directory: Path) -> Generator:
    """The bundled voice, or one of random weights."""
    how: dict[str, Any] = {"device": options.device, "execution": options.execution}
    if options.sizes == "trained":
        return Generator.load(options.voice, **how)
    return Generator.load(save_voice(options.sizes, directory), **how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=["trained", *SIZES], default="trained", help="trained: a real checkpoint")
    parser.add_argument("--voice", default="pocket", help="the checkpoint with --sizes trained")
    parser.add_argument("--device", default=None)
    parser.add_argument("--execution", default="auto")
    parser.add_argument("--threads", type=int, default=None, help="of torch; default as many as it takes by itself")
    parser.add_argument("--seconds", type=float, default=12.0, help="of a step")
    parser.add_argument("--speech-s", type=float, default=4.0, help="of each request to random weights")
    parser.add_argument("--streams", type=int, default=64, help="places of the arrivals")
    parser.add_argument("--speed", type=int, nargs="*", default=[1, 4, 8, 16])
    parser.add_argument("--listeners", type=int, nargs="*", default=[8, 16, 24, 32])
    parser.add_argument("--rates", type=float, nargs="*", default=[3, 4, 5, 6, 7, 8, 10, 12])
    add_save(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generator = load_generator(options, Path(folder))
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        generator.warm_up(n_streams=max([*options.speed, *options.listeners, 1]))
        rows = measure(Bench(generator, options))
    print_table(rows)
    more = {"size": options.sizes, "execution": generator.execution, "device": generator.device, "schedule": SCHEDULE}
    print_json("load", rows, options.save, seconds_a_step=options.seconds, **more)


if __name__ == "__main__":
    main()
