"""The server under load, with its clients on the same machine: Poisson arrivals of listeners who hear in real time.

Run ``python -m experiments.benchmarks.serve``; ``--save results/benchmarks/serve.json`` keeps it. Speech and
conversations (WS /v1/realtime) at several rates, each listener playing at the speed of sound, some of whom leave; how
long a stream stays taken after its client has left; more requests at once than the server takes, each of which must be
answered; then many short requests, during which memory, threads and files are noted ten times.

The clients run in a process of their own, as those of a server do. A listener plays each chunk when it comes, or when
the one before it has been played; it underruns where a sample comes later than that, counted from the first audible
sample on. The time to the first audible sound ends when that sample is played.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

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
LONG_TEXT = " ".join(TEXTS)
UNDERRUN_S = 0.02  # later than that would be heard
LEAVES_S = 0.5  # of sound after which a listener leaves
AHEAD_S = 1.0  # of sound that a player has in hand before it reads on
SHORT_MS = 320  # of sound in each of many requests
N_SHORT_AT_ONCE = 16
N_LOOKS = 10  # at memory, threads and files during them


@dataclass
class Listener:
    """What one listener met.

    Attributes:
        status: of the answer; 0 where the connection failed.
        first_audible_s: from the request until the first sample above -40 dBFS is played; None without one.
        late_s: the longest that a sample came too late to be played.
        audio_s: sound received.
        left: the listener went away in the middle.
    """

    status: int = 0
    first_audible_s: float | None = None
    late_s: float = 0.0
    audio_s: float = 0.0
    left: bool = False
    begun: float = field(default_factory=time.perf_counter)
    plays_until: float | None = None

    async def hear(self, samples: np.ndarray, leaves: bool) -> bool:
        """Play what came, at the speed of sound; whether the listener leaves now."""
        now = time.perf_counter()
        starts = now if self.plays_until is None else self.plays_until
        if self.first_audible_s is None:
            starts = max(starts, now)  # a gap between two silences is not heard
            loud = np.flatnonzero(np.abs(samples) > 10 ** (AUDIBLE_DBFS / 20))
            if len(loud):
                self.first_audible_s = starts + loud[0] / SAMPLE_RATE - self.begun
        else:
            self.late_s = max(self.late_s, now - starts)
        self.plays_until = starts + len(samples) / SAMPLE_RATE
        self.audio_s += len(samples) / SAMPLE_RATE
        self.left = leaves and self.audio_s > LEAVES_S
        if not self.left:
            await asyncio.sleep(max(0.0, self.plays_until - AHEAD_S - time.perf_counter()))
        return self.left


Client = Callable[[int, str, bool], Awaitable[Listener]]


async def listen(port: int, text: str, leaves: bool, **fields: Any) -> Listener:
    """Ask for a text and hear it in real time, or leave after the first sound; ``fields`` are more of the request."""
    heard = Listener()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps({"input": text, "response_format": "pcm"} | fields).encode()
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        heard.status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        if heard.status == 200:
            while size := int(await reader.readline(), 16):
                samples = from_pcm16(await reader.readexactly(size))
                await reader.readexactly(2)
                if await heard.hear(samples, leaves):
                    break
    finally:
        writer.close()
    return heard


async def talk(port: int, text: str, leaves: bool) -> Listener:
    """Write a text in a conversation and hear the answer in real time, or leave after the first sound."""
    heard = Listener()
    try:
        async with connect(f"ws://127.0.0.1:{port}/v1/realtime", proxy=None, max_size=None) as conversation:
            await _say(conversation, text)
            heard.status, heard.begun = 200, time.perf_counter()
            async for message in conversation:
                event = json.loads(message)
                if event["type"] == "response.output_audio.delta":
                    if await heard.hear(from_pcm16(base64.b64decode(event["delta"])), leaves):
                        break
                elif event["type"] == "response.done":
                    error = (event["response"]["status_details"] or {}).get("error")
                    heard.status = heard.status if error is None else 429 if error["code"] == "busy" else 500
                    break
    except InvalidStatus as refused:
        heard.status = refused.response.status_code
    return heard


async def _say(conversation: ClientConnection, text: str) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await conversation.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await conversation.send(json.dumps({"type": "response.create"}))


@dataclass(frozen=True)
class Met:
    """What the clients of one rate met, and the seconds from the first arrival until the last was served."""

    listeners: list[Listener]
    seconds: float


@dataclass(frozen=True)
class Arrivals:
    """Clients who come at random.

    Attributes:
        client: what each of them does.
        rate: of clients a second, on average.
        seconds: for which they come.
        leaving: share of them who leave in the middle.
    """

    client: Client
    rate: float
    seconds: float
    leaving: float


async def arrive(port: int, wanted: Arrivals, seed: int) -> Met:
    """What clients met who came at random."""
    draw, tasks, begun = random.Random(seed), [], time.perf_counter()
    while time.perf_counter() < begun + wanted.seconds:
        tasks.append(asyncio.create_task(wanted.client(port, draw.choice(TEXTS), draw.random() < wanted.leaving)))
        await asyncio.sleep(draw.expovariate(wanted.rate))
    return Met(await asyncio.gather(*tasks), time.perf_counter() - begun)


def row_of(what: str, rate: float, met: Met) -> dict[str, Any]:
    """A row of the table; ``what`` is speech or conversation."""
    listeners, seconds = met.listeners, met.seconds
    served = [one for one in listeners if one.status == 200]
    firsts = [1000 * one.first_audible_s for one in served if one.first_audible_s is not None] or [float("nan")]
    audio_s = sum(one.audio_s for one in served)
    return {
        "what": what,
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


async def freed_after(server: Server, client: Client, n_times: int) -> list[float]:
    """Milliseconds from the moment a client leaves until its stream is free again, one client after the other."""
    port, admission, found = _port(server), server.service.admission, []
    for _ in range(n_times):
        assert (await client(port, LONG_TEXT, True)).left, "the answer was over before its listener left"
        left = time.perf_counter()
        while not admission.idle:
            await asyncio.sleep(0.001)
        found.append(1000 * (time.perf_counter() - left))
    return found


def _port(server: Server) -> int:
    return int(server.address.rsplit(":", 1)[1])


def held() -> dict[str, int]:
    """What the process holds now: memory, threads and open files."""
    files = len(os.listdir("/proc/self/fd"))
    return {"memory_mib": round(_memory_mib()), "threads": threading.active_count(), "files": files}


async def many(port: int, n_requests: int, n_at_once: int) -> dict[str, int]:
    """Requests for a third of a second of sound, so many at a time; how often each status came."""
    statuses: dict[str, int] = {}
    left = iter(range(n_requests))

    async def client() -> None:
        for _ in left:
            one = await listen(port, "hello.", leaves=False, max_audio_length_ms=SHORT_MS)
            statuses[str(one.status)] = statuses.get(str(one.status), 0) + 1

    await asyncio.gather(*(client() for _ in range(n_at_once)))
    return statuses


def main() -> None:
    """Measure, print the table, and one JSON object at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 2, 3, 4], help="requests a second")
    parser.add_argument("--seconds", type=float, default=20, help="of arrivals at each rate")
    parser.add_argument("--leaving", type=float, default=0.1, help="share of listeners who leave")
    parser.add_argument("--leavers", type=int, default=20, help="clients whose leaving is timed, of each kind")
    parser.add_argument("--burst", type=int, default=200, help="requests that come at once")
    parser.add_argument("--requests", type=int, default=1_000, help="short ones at the end; 10000 for a final run")
    parser.add_argument("--max-streams", type=int, default=16)
    add_save(parser)
    asked = parser.parse_args()
    limits = Limits(max_streams=asked.max_streams)
    choice = ModelChoice(preset="pocket", whisper="tiny.en", max_streams=asked.max_streams)
    with Server(ServeOptions(port=0, limits=limits), choice) as server:
        rows, more = measure(server, asked)
    print_table(rows)
    print_json("serve", rows, asked.save, **more)


CLIENTS: dict[str, Client] = {"speech": listen, "conversation": talk}


def measure(server: Server, asked: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All parts, one after the other: rows by kind and rate, and what is measured once."""
    more: dict[str, Any] = {}
    with ProcessPoolExecutor(1, get_context("spawn")) as clients:
        rows = rows_of(server, asked, clients)
        for what, client in CLIENTS.items():
            freed = asyncio.run(freed_after(server, client, asked.leavers))
            more[f"freed_after_{what}_ms"] = {str(p): round(float(np.percentile(freed, p)), 1) for p in (50, 95, 100)}
        more["burst"] = clients.submit(run_many, _port(server), asked.burst, asked.burst).result()
        more |= many_short(server, asked.requests, clients)
    return rows, more


def rows_of(server: Server, asked: argparse.Namespace, clients: ProcessPoolExecutor) -> list[dict[str, Any]]:
    """A row for each kind of client and rate."""
    port, rows = _port(server), []
    clients.submit(run_many, port, 8, 2).result()  # warm
    for what, client in CLIENTS.items():
        for seed, rate in enumerate(asked.rates):
            wanted = Arrivals(client, rate, asked.seconds, asked.leaving)
            rows.append(row_of(what, rate, clients.submit(run_arrivals, port, wanted, seed).result()))
    return rows


def many_short(server: Server, n_requests: int, clients: ProcessPoolExecutor) -> dict[str, Any]:
    """Many short requests in ten parts: how they were answered, and what the server held before and after each part."""
    statuses: Counter[str] = Counter()
    begun, looks = time.perf_counter(), [held()]
    for n_part in np.diff(np.linspace(0, n_requests, N_LOOKS + 1).round()).astype(int).tolist():
        statuses.update(clients.submit(run_many, _port(server), n_part, N_SHORT_AT_ONCE).result())
        looks.append(held())
    seconds = round(time.perf_counter() - begun, 1)
    return {"statuses": dict(statuses), "requests_s": seconds, "at_once": N_SHORT_AT_ONCE, "held": looks}


def run_arrivals(port: int, wanted: Arrivals, seed: int) -> Met:
    """As `arrive`, in the process of the clients."""
    return asyncio.run(arrive(port, wanted, seed))


def run_many(port: int, n_requests: int, n_at_once: int) -> dict[str, int]:
    """As `many`, in the process of the clients."""
    return asyncio.run(many(port, n_requests, n_at_once))


if __name__ == "__main__":
    main()
