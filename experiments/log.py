"""Fill the figures in experiments/LOG.md from the rows of the reference sweeps.

    python -m experiments.log [--results results] [--log experiments/LOG.md] [--recipes experiments]

Between ``<!-- figures: NAME -->`` and ``<!-- end -->`` of each sweep comes what its rows say: how many trials, the
figures by setting, what to choose by the one rule, what is shown and what is not. The words around, written by people,
conclude nothing. Where the rows are not those of the recipe and the models as they are, the log says so in place of
figures, and the command ends with status 1.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from csmkit.errors import ResultsError
from csmkit.files.writer import write_whole
from csmkit.lab.analysis.columns import in_words
from csmkit.lab.report import Findings, analyse, choice_rule, interval_rows, sentences
from csmkit.lab.sweep import Recipe, load_recipe, read_rows
from csmkit.lab.sweep.plan import plan
from csmkit.lab.sweep.worker import model_checksums

EXPERIMENTS = Path(__file__).parent
SECTION = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
ORIGIN = ("version_csmkit", "commit", "device", "cpu", "voice_sha256")
NOT_MEASURED = "Not measured with the recipe and the models as they are: `make results` measures it."


def is_current(rows: Iterable[Mapping[str, Any]], recipe: Recipe) -> bool:
    """Whether rows are those of each trial of a recipe, with the models as they are now, and no others."""
    return {row["trial_id"] for row in rows} == {trial.trial_id for trial in plan(recipe, model_checksums(recipe))}


def section(experiment: str, results: Path, recipes: Path = EXPERIMENTS) -> str:
    """What the rows of an experiment say, as Markdown; `NOT_MEASURED` where they are of other models or settings.

    Raises:
        ResultsError: no rows, or only failures.
    """
    recipe = load_recipe(recipes / f"{experiment}.toml")
    rows = read_rows(results / experiment)
    if not is_current(rows, recipe):
        return f"{NOT_MEASURED}\n"
    findings = analyse(rows, recipe.baseline, margins=recipe.margins)
    if not findings.rows:
        raise ResultsError(f"all {len(rows)} trials of {experiment} failed: run them again with --retry-failed")
    told = sentences(findings)
    return "\n".join(
        [
            _origin(findings, rows),
            "",
            *_table([{name: str(value) for name, value in row.items()} for row in interval_rows(findings)]),
            "",
            *_listed("To choose:", told["choice"], "there is one setting"),
            choice_rule(findings),
            "",
            *_listed("Shown:", told["shown"], "nothing"),
            *_listed("Not shown:", told["not shown"] + told["too few"], "nothing is left open"),
            "",
        ]
    ).replace("\n\n\n", "\n\n")


def _origin(findings: Findings, rows: Sequence[Mapping[str, Any]]) -> str:
    texts, seeds = ({row[name] for row in findings.rows} for name in ("text", "seed"))
    measured = [row for row in rows if not row.get("error")]
    told = [f"{in_words(name)} {', '.join(_all_values(measured, name))}" for name in ORIGIN]
    n_trials = f"{len(findings.rows)} trials, {len(findings.failed)} failed"
    return f"{n_trials}: {len(texts)} texts, {len(seeds)} seeds; {'; '.join(told)}."


def _all_values(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Every value of a column: rows of several machines or commits do not pass for those of one."""
    return sorted({str(row[name]) for row in rows if row.get(name) is not None}) or ["unknown"]


def _listed(title: str, lines: Sequence[str], none: str) -> list[str]:
    return [title, "", *(f"- {line}" for line in lines or [none]), ""]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[name] for name in header] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def filled(text: str, results: Path, recipes: Path = EXPERIMENTS) -> str:
    """The log with the figures of each experiment in their place, as the rows in a folder of results have them."""

    def figures(found: re.Match[str]) -> str:
        try:
            return f"{found[1]}{section(found[2], results, recipes)}{found[3]}"
        except ResultsError:
            return f"{found[1]}{NOT_MEASURED}\n{found[3]}"

    return SECTION.sub(figures, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--log", type=Path, default=EXPERIMENTS / "LOG.md")
    parser.add_argument("--recipes", type=Path, default=EXPERIMENTS)
    args = parser.parse_args()
    text = filled(args.log.read_text(encoding="utf-8"), args.results, args.recipes)
    write_whole(args.log, text.encode())
    missing = [found[2] for found in SECTION.finditer(text) if NOT_MEASURED in found[0]]
    if missing:
        raise SystemExit(f"error: {', '.join(missing)}: no rows of the recipe and models as they are; make results")


if __name__ == "__main__":
    main()
