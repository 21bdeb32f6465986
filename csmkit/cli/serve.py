"""csmkit serve: the voice behind a web API."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from csmkit.cli.options import ModelOptions, takes_options
from csmkit.errors import MissingDependencyError

TOKEN = "CSMKIT_SERVE_TOKEN"


@takes_options
def serve(
    load: ModelOptions,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all, with a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for a free one.")] = 8000,
    whisper: Annotated[str | None, typer.Option(help="tiny.en, base.en, small.en, a directory or a hub id.")] = None,
    voices: Annotated[Path | None, typer.Option(help="Folder of recordings: NAME.wav beside NAME.txt.")] = None,
    max_streams: Annotated[int, typer.Option(help="Largest number of utterances generated at once.")] = 16,
    max_waiting: Annotated[int, typer.Option(help="Largest number of requests that wait; more are refused.")] = 32,
    max_sessions: Annotated[int, typer.Option(help="Largest number of open conversations.")] = 64,
    max_audio_s: Annotated[float, typer.Option(help="Longest audio to transcribe, in seconds.")] = 120.0,
    allow_host: Annotated[list[str] | None, typer.Option(help="Another host name of the server.")] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of a page that may use the server: https://example.org")
    ] = None,
    without_token: Annotated[
        bool,
        typer.Option("--without-token", help="Answer every client: another program controls access."),
    ] = False,
) -> None:
    """Serve the voice: OpenAI's speech, transcription and realtime APIs, and a page to talk at /.

    Clients send the token that the variable CSMKIT_SERVE_TOKEN has when the server starts.
    """
    _need("starlette", "uvicorn", "websockets")
    logging.getLogger("csmkit").setLevel(logging.INFO)
    from csmkit.serve import Limits, ServeOptions, Server
    from csmkit.serve.models import ModelChoice
    from csmkit.serve.recordings import read_speakers

    limits = Limits(
        max_streams=max_streams, max_waiting=max_waiting, max_sessions=max_sessions, max_audio_s=max_audio_s
    )
    options = ServeOptions(
        host, port, os.environ.get(TOKEN) or None, without_token, allow_host or (), allow_origin or (), limits
    )
    choice = ModelChoice(
        load.preset,
        load.device,
        load.mode(),
        whisper,
        max_audio_s,
        max_streams,
        () if voices is None else read_speakers(voices),
    )
    server = Server(options, choice)
    typer.echo(f"csmkit serves {server.address} (Ctrl-C ends it); docs/serve.md lists its requests")
    server.run()


def _need(*packages: str) -> None:
    """Raise MissingDependencyError for a package of the extra ``serve`` that is not installed."""
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError.for_extra(package, "serve")
