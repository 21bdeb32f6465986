"""The server under load, its client included: Poisson arrivals of listeners who hear in real time.

Run ``python -m experiments.benchmarks.serve``; ``--save results/benchmarks/serve.json`` keeps it. Three parts: speech
at several rates of requests, each listener playing at the speed of sound, some of whom leave; then many short requests,
for memory and files. A listener underruns where a sample comes later than it would be played, counted from the first
audible one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.audio import AUDIBLE_DBFS, SAMPLE_RATE
from csmkit.serve import Limits, ServeOptions, Server
from csmkit.serve.models import ModelChoice
from csmkit.serve.sound_formats import from_pcm16
from experiments.benchmarks.report import add_save, print_json, print_table

TEXTS = (
    "Good morning, how are you today? I hope that you are well.",
    "The weather is nice today, and we can go to the park.",
    "I like to read books in the evening. What do you like?",
    "We can meet at the station in the morning, if you have time.",
)
UNDERRUN_S = 0.02  # later than that would be heard


@dataclass
class Listener:
    """What one listener met.

    Attributes:
        status: of the answer; 0 where the connection failed.
        first_audible_s: from the request to the first sample above -40 dBFS; None without one.
        late_s: the longest that a sample came too late to be played.
        audio_s: sound received.
        left: the listener went away in the middle.
    """

    status: int = 0
    first_audible_s: float | None = None
    late_s: float = 0.0
    audio_s: float = 0.0
    left: bool = False
    _arrived: list[tuple[float, int]] = field(default_factory=list)


async def listen(port: int, text: str, leaves: bool) -> Listener:
    """Ask for a text and hear it in real time, or leave after the first sound."""
    heard, begun = Listener(), time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps({"input": text, "response_format": "pcm"}).encode()
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        heard.status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        if heard.status == 200:
            await _hear(reader, heard, begun, leaves)
    finally:
        writer.close()
    return heard


async def _hear(reader: asyncio.StreamReader, heard: Listener, begun: float, leaves: bool) -> None:
    played_from: float | None = None
    while size := int(await reader.readline(), 16):
        samples = from_pcm16(await reader.readexactly(size))
        await reader.readexactly(2)
        now = time.perf_counter()
        loud = np.flatnonzero(np.abs(samples) > 10 ** (AUDIBLE_DBFS / 20))
        if heard.first_audible_s is None and len(loud):
            heard.first_audible_s = now - begun
            played_from = now - heard.audio_s  # as if everything so far had been played until now
        if played_from is not None:
            heard.late_s = max(heard.late_s, now - (played_from + heard.audio_s))
        heard.audio_s += len(samples) / SAMPLE_RATE
        if leaves and heard.audio_s > 0.5:
            heard.left = True
            return
        if played_from is not None:  # a player that has a second in hand reads no further
            await asyncio.sleep(max(0.0, played_from + heard.audio_s - 1.0 - time.perf_counter()))


async def arrive(port: int, rate: float, seconds: float, leaving: float, draw: random.Random) -> list[Listener]:
    """Listeners who come at random, ``rate`` a second on average."""
    tasks, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        tasks.append(asyncio.create_task(listen(port, draw.choice(TEXTS), draw.random() < leaving)))
        await asyncio.sleep(draw.expovariate(rate))
    return await asyncio.gather(*tasks)


def row_of(rate: float, listeners: list[Listener], seconds: float) -> dict[str, Any]:
    """A row of the table."""
    served = [one for one in listeners if one.status == 200]
    firsts = [1000 * one.first_audible_s for one in served if one.first_audible_s is not None] or [float("nan")]
    audio_s = sum(one.audio_s for one in served)
    return {
        "requests_per_s": rate,
        "listeners": round(audio_s / seconds, 1),
        "requests": len(listeners),
        "refused": sum(one.status in (429, 503) for one in listeners),
        "failed": sum(one.status not in (200, 429, 503) for one in listeners),
        "p50_ms": round(float(np.percentile(firsts, 50))),
        "p95_ms": round(float(np.percentile(firsts, 95))),
        "p99_ms": round(float(np.percentile(firsts, 99))),
        "underruns": sum(one.late_s > UNDERRUN_S for one in served),
        "late_p95_ms": round(1000 * float(np.percentile([one.late_s for one in served] or [0.0], 95))),
        "left": sum(one.left for one in served),
        "memory_mib": round(_memory_mib()),
    }


def _memory_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def many(port: int, n_requests: int, n_at_once: int) -> dict[str, int]:
    """Short requests one after another; how often each status came."""
    statuses: dict[str, int] = {}
    left = iter(range(n_requests))

    async def client() -> None:
        for _ in left:
            one = await listen(port, "hello.", leaves=False)
            statuses[str(one.status)] = statuses.get(str(one.status), 0) + 1

    await asyncio.gather(*(client() for _ in range(n_at_once)))
    return statuses


def main() -> None:
    """Measure, print the table, and one JSON object at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 2, 3, 4], help="requests a second")
    parser.add_argument("--seconds", type=float, default=20, help="of arrivals at each rate")
    parser.add_argument("--leaving", type=float, default=0.1, help="share of listeners who leave")
    parser.add_argument("--requests", type=int, default=1_000, help="short ones at the end; 10000 for a final run")
    parser.add_argument("--max-streams", type=int, default=16)
    add_save(parser)
    asked = parser.parse_args()
    limits = Limits(max_streams=asked.max_streams)
    choice = ModelChoice(preset="pocket", whisper="tiny.en", max_streams=asked.max_streams)
    rows, draw = [], random.Random(0)
    with Server(ServeOptions(port=0, limits=limits), choice) as server:
        port = int(server.address.rsplit(":", 1)[1])
        asyncio.run(many(port, 8, 2))  # warm
        for rate in asked.rates:
            begun = time.perf_counter()
            found = asyncio.run(arrive(port, rate, asked.seconds, asked.leaving, draw))
            rows.append(row_of(rate, found, time.perf_counter() - begun))
        before = {"memory_mib": round(_memory_mib()), "files": len(os.listdir("/proc/self/fd"))}
        statuses = asyncio.run(many(port, asked.requests, 8))
        after = {"memory_mib": round(_memory_mib()), "files": len(os.listdir("/proc/self/fd"))}
    print_table(rows)
    print_json("serve", rows, asked.save, statuses=statuses, before=before, after=after)


if __name__ == "__main__":
    main()
