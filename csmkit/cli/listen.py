"""csmkit listen: a listening test over the sound that a sweep kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def listen(
    folder: Annotated[Path, typer.Argument(help="Of the results of a sweep with keep = 'audio'.")],
    axis: Annotated[str, typer.Option(help="What differs between the sounds, such as temperature.")],
    values: Annotated[str, typer.Option(help="Of the axis, such as 0.3,0.9; for mushra the reference first.")],
    listener: Annotated[str, typer.Option(help="Name or number of the listener; it determines the order.")],
    kind: Annotated[str, typer.Option(help="ab, abx or mushra.")] = "ab",
    n_items: Annotated[int | None, typer.Option(help="At most so many questions.")] = None,
    question: Annotated[str | None, typer.Option(help="In place of the usual one.")] = None,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
) -> None:
    """Ask a listening test on a page of this machine; it may be stopped and gone on with."""
    import webbrowser

    from csmkit.lab.listen import ListeningServer, listening_sentences, plan_test, read_answers

    test = plan_test(folder, kind, axis, values.split(","), listener, n_items=n_items, question=question)
    with ListeningServer(folder, test, port) as server:
        typer.echo(f"Listening test of {len(test.items)} questions for {listener}: {server.address} (Ctrl-C stops)")
        if browser:
            webbrowser.open(server.address)
        try:
            while not server.finished.wait(0.5):
                pass
        except KeyboardInterrupt:
            typer.echo("Stopped; answers are kept, the same command goes on.", err=True)
    for line in listening_sentences(read_answers(folder)):
        typer.echo(line)
