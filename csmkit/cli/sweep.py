"""csmkit sweep, report and listen: run many trials, write their report, hold a listening test with their sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.lab.sweep import Recipe


@dataclass(frozen=True)
class EngineChoice:
    """The engine that runs the trials of a sweep."""

    engine: Annotated[str, "local, processes or ray."] = "local"
    workers: Annotated[int | None, "Trials at once; default as many as the memory and the cores allow."] = None
    address: Annotated[str | None, "Address of the Ray cluster, such as auto or ray://host:10001."] = None
    cpus: Annotated[int, "Number of CPU cores of one trial on Ray."] = 1
    gpus: Annotated[float, "Number of GPUs of one trial on Ray, such as 0.5."] = 0
    timeout: Annotated[float | None, "Seconds after which a trial has failed."] = None
    most_failures: Annotated[int, "Number of failures in a row that stop the sweep."] = 20


@dataclass(frozen=True)
class AgainOptions:
    """Which trials are run again although they have a row."""

    retry_failed: Annotated[bool, "Run failed trials again."] = False
    fresh: Annotated[bool, "Discard the rows and run every trial."] = False
    renew: Annotated[bool, "Run the trials of other models, metrics or settings again."] = False


@dataclass(frozen=True)
class ResultOptions:
    """Where the results go, and what they are compared with."""

    results: Annotated[str | None, "Results folder, default runs/RECIPE; or s3://..., copied during the run."] = None
    shard: Annotated[str | None, "Part of the trials, such as 1/4; report --merge joins."] = None
    track: Annotated[str | None, "Tracker plugin that gets the results, such as mlflow."] = None
    against: Annotated[Path | None, "Folder of an earlier sweep to compare with."] = None

    @property
    def address(self) -> str | None:
        """The address that the results are copied to; None where they stay in a folder."""
        return self.results if self.results is not None and "://" in self.results else None


def sweep(
    where: EngineChoice,
    again: AgainOptions,
    output: ResultOptions,
    recipe: Annotated[Path, "A TOML file, such as experiments/chunk_size.toml."],
    overrides: Annotated[list[str] | None, "Values in place of the recipe's: chunk_frames=2,4,6 seeds=0,1"] = None,
    *,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            "--dry-run",
            help="Run nothing: print the number of trials, their time, and the differences that they can show.",
        ),
    ] = False,
) -> None:
    """Run the trials of a recipe that have no row yet, and write the report; may be stopped and called again."""
    from csmkit import plugins
    from csmkit.lab.analysis.search import run_search
    from csmkit.lab.report import build_report
    from csmkit.lab.report.folder import copy_results, results_folder
    from csmkit.lab.sweep import EngineOptions, load_recipe, run_sweep

    loaded = load_recipe(recipe, overrides or ())
    if plan:
        from csmkit.lab.report.forecast import forecast

        for line in forecast(loaded, results_folder(output.results, loaded.name)):
            typer.echo(line)
        return
    tracker = None if output.track is None else plugins.load("tracker", output.track)()
    part = parse_shard(output.shard)
    folder = results_folder(output.results, loaded.name if part is None else f"{loaded.name}-{part[0]}-of-{part[1]}")
    on_row = _follow(folder, loaded, tracker, output.address, again.fresh)
    try:
        run = run_search if loaded.search else run_sweep
        done = run(loaded, folder, engine=EngineOptions(*astuple(where)), shard=part, on_row=on_row, **asdict(again))
    except KeyboardInterrupt:
        typer.echo(f"Stopped; the rows are in {folder}, and the same command continues.", err=True)
        raise
    typer.echo(f"{done.n_run} trials run, {done.n_skipped} were there, {done.n_failed} of {done.n_trials} failed")
    command = " ".join(["csmkit sweep", str(recipe), *(overrides or ())])
    typer.echo(f"Report: {build_report(folder, against=output.against, command=command)}")
    if tracker is not None:
        typer.echo(f"Tracked: {tracker.track(folder)}")
    if output.address is not None:
        typer.echo(f"Copied to {copy_results(folder, output.address)}")
    if done.n_failed:
        typer.echo("error: some trials failed: see the report, and run again with --retry-failed", err=True)
        raise SystemExit(1)


def _follow(
    folder: Path, recipe: Recipe, tracker: Any, address: str | None, fresh: bool
) -> Callable[[Mapping[str, Any]], None]:
    """A function to call with each row, for the copy at an address and for a tracker; fetches the rows of the copy."""
    from csmkit.lab.report.folder import RowsMirror

    receivers: list[Callable[[Mapping[str, Any]], None]] = []
    if address is not None:
        mirror = RowsMirror(address, folder)
        receivers.append(mirror)
        if not fresh:
            mirror.pull()
    if hasattr(tracker, "start"):
        tracker.start(folder, recipe)
        receivers.append(tracker.row)

    def on_row(row: Mapping[str, Any]) -> None:
        for receive in receivers:
            receive(row)

    return on_row


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Part and number of parts of a text such as ``"1/4"``; raises InputError for another text."""
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit()):
        raise InputError(f"--shard {text!r}: give a part and the number of parts, such as 1/4")
    return int(number), int(of)


def report(
    folder: Annotated[Path, "Folder of the results, such as results/chunk_size."],
    *,
    against: Annotated[Path | None, "Folder of an earlier sweep to compare with."] = None,
    merge: Annotated[list[Path] | None, "Folder whose rows are first copied into FOLDER; may be repeated."] = None,
) -> None:
    """Write the table, figures and page of a sweep again, from its rows."""
    from csmkit.lab.report import build_report
    from csmkit.lab.sweep import merge_rows

    if merge:
        typer.echo(f"{merge_rows(merge, folder)} rows in {folder}")
    typer.echo(f"Report: {build_report(folder, against=against)}")


def listen(
    folder: Annotated[Path, "Folder of the results of a sweep with keep = 'audio'."],
    *,
    axis: Annotated[str, "Setting in which the sounds differ, such as temperature."],
    values: Annotated[str, "Values of it, such as 0.3,0.9; for mushra the reference first."],
    listener: Annotated[str, "Name or number of the listener; it determines the order."],
    kind: Annotated[str, "ab, abx or mushra."] = "ab",
    n_items: Annotated[int | None, "Largest number of questions."] = None,
    question: Annotated[str | None, "Question to ask in place of the usual one."] = None,
    port: Annotated[int, "Port of the page; 0 for a free one."] = 0,
    browser: Annotated[bool, "Open the page."] = True,
) -> None:
    """Run a listening test on a page of this machine; may be stopped and continued."""
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
            typer.echo("Stopped; the answers are kept, and the same command continues.", err=True)
    for line in listening_sentences(read_answers(folder)):
        typer.echo(line)
