"""The command line: csmkit chat | say | serve | sweep | report | convert | doctor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import typer

from csmkit.cli import chat, convert, doctor, listen, say, serve, sweep
from csmkit.errors import CsmkitError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
SWEEPS = (sweep.sweep, sweep.report, listen.listen)
for command in (chat.chat, say.say, serve.serve, *SWEEPS, convert.convert, doctor.doctor):
    app.command()(command)


def run(command: Callable[[], Any] = app) -> None:
    """The entry point: an error of ours is one line and exit status 1, Ctrl-C is 130."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        command()
    except CsmkitError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
