"""csmkit serve: the voice behind a web API."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, astuple, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csmkit.cli.options import ModelOptions
from csmkit.errors import InputError, MissingDependencyError
from csmkit.serve.settings import Limits, ServeOptions

if TYPE_CHECKING:
    from csmkit.serve import Server
    from csmkit.serve.models import ModelChoice
    from csmkit.serve.replicas import ReplicatedServer

TOKEN = "CSMKIT_SERVE_TOKEN"
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class ReplicaChoice:
    """Where the server runs: in this process, or as replicas on a Ray cluster."""

    engine: Annotated[str, "local, in this process, or ray, as replicas on a cluster."] = "local"
    replicas: Annotated[int, "With ray: number of replicas."] = 1
    max_replicas: Annotated[int | None, "With ray: as many are started while there are enough streams."] = None
    streams_a_replica: Annotated[float, "With ray: requests in progress above which another replica is started."] = 8.0
    cpus: Annotated[int, "With ray: processors of a replica, and threads of its models."] = 1
    gpus: Annotated[float, "With ray: GPUs of a replica; a part of one is fine."] = 0.0
    ray_address: Annotated[str | None, "With ray: of the cluster, such as auto; default one on this machine."] = None


@dataclass(frozen=True)
class AccessOptions:
    """The address of the server, and who may use it."""

    host: Annotated[str, "Address to listen on; 0.0.0.0 for all, with a token."] = ServeOptions.host
    port: Annotated[int, "Port; 0 for a free one."] = ServeOptions.port
    allow_host: Annotated[list[str] | None, "Another host name of the server."] = None
    allow_origin: Annotated[list[str] | None, "Origin of a page that may use the server: https://example.org"] = None
    without_token: Annotated[bool, "Answer every client: another program controls access."] = False


def serve(
    load: ModelOptions,
    where: ReplicaChoice,
    access: AccessOptions,
    most: Limits,
    *,
    whisper: Annotated[str | None, "tiny.en, base.en, small.en, a directory or a hub id."] = None,
    voices: Annotated[Path | None, "Folder of recordings: NAME.wav beside NAME.txt."] = None,
) -> None:
    """Serve the voice: OpenAI's speech, transcription and realtime APIs, and a page to talk at /.

    Clients send the token that the variable CSMKIT_SERVE_TOKEN has when the server starts.
    """
    for package in ("starlette", "uvicorn", "websockets"):
        if find_spec(package) is None:
            raise MissingDependencyError.for_extra(package, "serve")
    logging.getLogger("csmkit").setLevel(logging.INFO)
    from csmkit.serve.models import ModelChoice, read_speakers

    options = ServeOptions(
        access.host,
        access.port,
        os.environ.get(TOKEN) or None,
        access.without_token,
        access.allow_host or (),
        access.allow_origin or (),
        most,
    )
    choice = ModelChoice(
        **asdict(load.loading()),
        preset=load.preset,
        speech=load.model,
        whisper=whisper,
        max_audio_s=most.max_audio_s,
        max_streams=most.max_streams,
        speakers=() if voices is None else read_speakers(voices),
    )
    server = _server(where, options, choice)
    typer.echo(f"csmkit serves {server.address} (Ctrl-C ends it); docs/serve.md lists its requests")
    server.run()


def _server(where: ReplicaChoice, options: ServeOptions, choice: ModelChoice) -> Server | ReplicatedServer:
    """The server on the engine that was asked for; raises InputError for another name."""
    if where.engine not in ENGINES:
        raise InputError(f"--engine {where.engine}: give one of {', '.join(ENGINES)}")
    if where.engine == "ray":
        from csmkit.serve.replicas import ReplicaOptions, ReplicatedServer

        return ReplicatedServer(options, choice, ReplicaOptions(*astuple(where)[1:]))
    changed = [name for name, default in vars(ReplicaChoice()).items() if getattr(where, name) != default]
    if changed:
        raise InputError(f"--{changed[0].replace('_', '-')} without --engine ray: one process serves, leave it out")
    from csmkit.serve import Server

    return Server(options, choice)
