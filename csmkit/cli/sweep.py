"""csmkit sweep and csmkit report: many trials, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csmkit.cli.options import EngineChoice, takes_options

Against = Annotated[Path | None, typer.Option(help="Folder of a former sweep to compare with.")]


@takes_options
def sweep(
    where: EngineChoice,
    recipe: Annotated[Path, typer.Argument(help="A TOML file, such as experiments/chunk_size.toml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="In place of what the recipe says: chunk_frames=2,4,6 seeds=0,1")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(help="Folder of the results, default results/RECIPE; or s3://... and alike, a copy at the end."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the rows that are there.")] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Forget the rows that are of other models, metrics or settings.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            "--dry-run",
            help="Run nothing: say how many trials, how long, and what they will be able to show.",
        ),
    ] = False,
    track: Annotated[str | None, typer.Option(help="A tracker plugin that is told at the end, such as mlflow.")] = None,
    against: Against = None,
) -> None:
    """Run a recipe; what is done already is skipped, so it may be killed and called again. Ends with the report."""
    from csmkit import plugins
    from csmkit.lab.report import build_report
    from csmkit.lab.report.folder import copy_results, results_folder
    from csmkit.lab.sweep import EngineOptions, load_recipe, run_sweep

    loaded = load_recipe(recipe, overrides or ())
    if plan:
        from csmkit.lab.report.forecast import forecast

        for line in forecast(loaded, results_folder(results, loaded.name)).lines():
            typer.echo(line)
        return
    chosen = EngineOptions(where.engine, where.workers, where.address, where.cpus, where.gpus)
    tracker = None if track is None else plugins.load("tracker", track)()
    folder = results_folder(results, loaded.name)
    try:
        done = run_sweep(loaded, folder, engine=chosen, retry_failed=retry_failed, fresh=fresh, renew=renew)
    except KeyboardInterrupt:
        typer.echo(f"Stopped; what is done is kept in {folder}, the same command goes on.", err=True)
        raise
    typer.echo(f"{done.n_run} trials run, {done.n_skipped} were there, {done.n_failed} of {done.n_trials} failed")
    command = " ".join(["csmkit sweep", str(recipe), *(overrides or ())])
    report_page = build_report(folder, against=against, command=command)
    typer.echo(f"Report: {report_page}")
    if tracker is not None:
        typer.echo(f"Tracked: {tracker.track(folder)}")
    if results is not None and "://" in results:
        typer.echo(f"Copied to {copy_results(folder, results)}")
    if done.n_failed:
        typer.echo("error: some trials failed: see the report, and run again with --retry-failed", err=True)
        raise SystemExit(1)


def report(
    folder: Annotated[Path, typer.Argument(help="Of the results, such as results/chunk_size.")],
    against: Against = None,
) -> None:
    """Make table, figures and page of a sweep again, from its rows."""
    from csmkit.lab.report import build_report

    typer.echo(f"Report: {build_report(folder, against=against)}")
