"""csmkit convert: a checkpoint of one layout in the other, or with rounded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint directory, pocket or a hub id.")],
    target: Annotated[Path, typer.Argument(help="A directory that is empty or not there yet.")],
    to: Annotated[
        str | None, typer.Option(help="transformers, sesame, int4 or int8; default the layout SOURCE is not in.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="A Mimi directory, moshi's file, a hub id, or none; default SOURCE's own."),
    ] = None,
) -> None:
    """Turn a checkpoint in Sesame's layout into transformers', or back; or round its weights to 4 or 8 bits."""
    from csmkit.convert import convert as convert_checkpoint

    done = convert_checkpoint(source, target, to=to, codec=codec)
    print(f"{' -> '.join(done.layouts)}: {done.n_tensors} tensors, {done.n_bytes / 1e6:.1f} MB in {done.target}")
    for note in done.notes:
        print(f"  {note}")
