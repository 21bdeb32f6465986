"""Fill the figures in experiments/LOG.md from the rows of the reference sweeps.

    python -m experiments.log [--results results] [--log experiments/LOG.md]

Between ``<!-- figures: NAME -->`` and ``<!-- end -->`` of each sweep comes what its rows say: how many trials, the
figures by setting, what is clear and what is not. The words around are written by people.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from csmkit.lab.report import analyse, interval_rows, sentences
from csmkit.lab.sweep import load_recipe, read_rows

EXPERIMENTS = Path(__file__).parent
SECTION = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def section(experiment: str, results: Path) -> str:
    """What the rows of an experiment say, as Markdown."""
    rows = read_rows(results / experiment)
    findings = analyse(rows, load_recipe(EXPERIMENTS / f"{experiment}.toml").baseline)
    texts, seeds = ({row[name] for row in findings.rows} for name in ("text", "seed"))
    first = findings.rows[0]
    where = f"csmkit {first['csmkit']}, {first['device']}, {first['cpu']}, voice {first['voice_sha256']}"
    n_trials = f"{len(findings.rows)} trials, {len(findings.failed)} failed"
    told = sentences(findings)
    return "\n".join(
        [
            f"{n_trials}: {len(texts)} texts, {len(seeds)} seeds; {where}.",
            "",
            *_table([{name: str(value) for name, value in row.items()} for row in interval_rows(findings)]),
            "",
            "Clear:",
            "",
            *([f"- {text}" for text in told["shown"]] or ["- nothing"]),
            "",
            "Not supported:",
            "",
            *([f"- {text}" for text in told["not shown"] + told["too few"]] or ["- nothing"]),
            "",
        ]
    )


def _table(rows: list[dict[str, str]]) -> list[str]:
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[name] for name in header] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--log", type=Path, default=EXPERIMENTS / "LOG.md")
    args = parser.parse_args()
    text = args.log.read_text(encoding="utf-8")
    filled = SECTION.sub(lambda found: f"{found[1]}{section(found[2], args.results)}{found[3]}", text)
    args.log.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
