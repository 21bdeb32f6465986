"""Replicas of the server on a Ray cluster of two nodes on this machine, one of which is killed under load.

ray_replicas.py FOLDER: prints one JSON object with what became of each request, and on which node it was.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import ray
from ray_cluster import start_cluster
from serving import PATIENCE_S, fake_models
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from csmkit.llm.transformers import Message
from csmkit.serve import ServedModels, ServeOptions
from csmkit.serve.replicas import ReplicaOptions, ReplicatedServer

N_WORDS = 600  # of a request: it is not over when the node dies
FRAME_S = 0.02
WANTED = 2  # requests, and conversations, on each of the nodes
LETTERS = "abcdefghijklmnopqrstuvwxyz"  # number the names: a digit would be spoken as a word of its own


class Repeating:
    """A language model that answers with what it was asked."""

    def stream(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        yield messages[-1]["content"]


def load(folder: str) -> ServedModels:
    """Models that note, of each text, on which node it is spoken."""
    models = fake_models(frame_s=FRAME_S)
    node, begin = ray.get_runtime_context().get_node_id(), models.voice.start

    def start(requests: Any, schedules: Any, codec: Any) -> Any:
        with open(Path(folder) / f"{os.getpid()}.jsonl", "a") as file:
            file.writelines(json.dumps([request.text.split()[0], node]) + "\n" for request in requests)
        return begin(requests, schedules, codec)

    models.voice.start = start  # type: ignore[method-assign]
    return replace(models, llm=Repeating())


def nodes_of(folder: Path) -> dict[str, str]:
    """The node of each text, by its first word."""
    return dict(json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines())


def wait_for(holds: Callable[[], Any], what: str) -> None:
    deadline = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < deadline, f"still not: {what}"
        sleep(0.05)


def n_replicas() -> int:
    """How many replicas answer requests."""
    from ray import serve

    return serve.status().applications["csmkit"].deployments["Replica"].replica_states.get("RUNNING", 0)


@contextmanager
def asking(port: int, name: str, n_words: int = N_WORDS) -> Iterator[HTTPConnection]:
    """A connection that has asked for a text whose first word is a name."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    body = json.dumps({"input": f"{name} " + "word " * n_words, "response_format": "pcm"})
    connection.request("POST", "/v1/audio/speech", body)
    try:
        yield connection
    finally:
        connection.close()


def speak(port: int, name: str, n_words: int = N_WORDS) -> str:
    """Ask for a text and read its sound; ``whole``, ``broken`` or the status."""
    try:
        with asking(port, name, n_words) as connection:
            answer = connection.getresponse()
            sound = answer.read()
            return "whole" if answer.status == 200 and sound else str(answer.status)
    except (IncompleteRead, ConnectionError, OSError):
        return "broken"


def say(conversation: ClientConnection, name: str) -> str:
    """One turn of a conversation; how it ended."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"{name} is here."}]}
    try:
        conversation.send(json.dumps({"type": "conversation.item.create", "item": item}))
        conversation.send(json.dumps({"type": "response.create"}))
        while (event := json.loads(conversation.recv(PATIENCE_S)))["type"] != "response.done":
            pass
        return event["response"]["status"]
    except (ConnectionClosed, OSError):
        return "closed"


def grow(port: int) -> tuple[int, int]:
    """How many replicas there are before any load, and while there are more streams than one replica should have."""
    before = n_replicas()
    with asking(port, "first"), asking(port, "second"), asking(port, "third"):
        wait_for(lambda: n_replicas() > before, "there is another replica")
        return before, n_replicas()


def fill(folder: Path, make: Callable[[str], Any], kind: str) -> dict[str, Any]:
    """Make requests or conversations until both nodes have some."""
    made: dict[str, Any] = {}
    while True:
        held = list(nodes_of(folder).items())
        counts = [sum(node == one and name.startswith(kind) for name, node in held) for one in {n for _, n in held}]
        if len(counts) == 2 and min(counts) >= WANTED:
            return made
        assert len(made) < 12 * WANTED, f"one node gets no {kind}: {counts}"
        name = kind + LETTERS[len(made)]
        made[name] = make(name)
        wait_for(lambda name=name: name in nodes_of(folder), f"{name} is spoken")


def main() -> None:
    folder = Path(sys.argv[1])
    cluster, second = start_cluster()
    ray.init(address=cluster.address, log_to_driver=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wanted = ReplicaOptions(replicas=1, most_replicas=2, streams_a_replica=2)
    server = ReplicatedServer(ServeOptions(port=port), partial(load, str(folder)), wanted)
    print("starting", monotonic(), flush=True)
    with server, ThreadPoolExecutor(64) as pool:
        print("started", monotonic(), flush=True)
        replicas = grow(port)
        print("grown", monotonic(), flush=True)
        talks: dict[str, ClientConnection] = {}

        def talk(name: str) -> str:
            talks[name] = connect(f"ws://127.0.0.1:{port}/v1/realtime")
            return say(talks[name], name)

        firsts = fill(folder, talk, "talk")
        asked: dict[str, Future[str]] = fill(folder, lambda name: pool.submit(speak, port, name), "speech")
        before = nodes_of(folder)
        n_over = sum(future.done() for future in asked.values())
        cluster.remove_node(second, allow_graceful=False)
        print("killed", monotonic(), flush=True)
        ends = {name: future.result(PATIENCE_S) for name, future in asked.items()}
        seconds = {name: say(conversation, f"again{name}") for name, conversation in talks.items()}
        wait_for(lambda: speak(port, "after", 3) == "whole", "the replica that is left answers")
        print(json.dumps({
            "replicas": replicas, "firsts": firsts, "n_over": n_over, "nodes": before, "dead": second.node_id,
            "ends": ends, "seconds": seconds, "again": nodes_of(folder),
        }), flush=True)  # fmt: skip
        print("done", monotonic(), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
