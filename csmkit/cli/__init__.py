"""The command line: csmkit chat | talk | say | serve | sweep | report | listen | convert | doctor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from csmkit.cli.options import takes_options
from csmkit.errors import CsmkitError

# These modules import neither torch nor a model library, so that --help is quick; tests/test_layers.py checks that.
COMMANDS = {
    "csmkit.cli.chat": ("chat",),
    "csmkit.cli.talk": ("talk",),
    "csmkit.cli.say": ("say",),
    "csmkit.cli.serve": ("serve",),
    "csmkit.cli.sweep": ("sweep", "report", "listen"),
    "csmkit.cli.tools": ("convert", "doctor"),
}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for module, commands in COMMANDS.items():
    for command in commands:
        app.command()(takes_options(getattr(import_module(module), command)))


def run(command: Callable[[], Any] = app) -> None:
    """Run a command line: a `CsmkitError` is printed as one line and exits with status 1, Ctrl-C with 130."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        command()
    except CsmkitError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
