"""Write the tables of docs/metrics.md from the dictionary of columns.

    python -m experiments.columns [--check]

Between ``<!-- columns -->`` and ``<!-- end -->`` comes one table a section, of `csmkit.lab.analysis.columns`.
"""

from __future__ import annotations

import argparse
import re
from itertools import groupby
from pathlib import Path

from csmkit.lab.analysis.columns import Column, columns

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
PLACE = re.compile(r"(<!-- columns -->\n).*(<!-- end -->)", re.DOTALL)
WHERE = {"turn": "turn", "trial": "trial", "both": "turn, trial", "report": "report"}


def filled(text: str) -> str:
    """The page with its tables as the dictionary has them."""
    sections = groupby(columns().values(), key=lambda column: column.section)
    tables = "\n".join(_table(title, list(members)) for title, members in sections)
    return PLACE.sub(lambda found: f"{found[1]}\n{tables}\n{found[2]}", text)


def _table(title: str, members: list[Column]) -> str:
    lines = [
        f"| `{column.column}` | {_unit(column)} | {WHERE[column.rows]} | {_summary(column)} | {column.definition} |"
        for column in members
    ]
    header = ["| column | unit | rows | summed up as | definition |", "|---|---|---|---|---|"]
    return "\n".join([f"### {title}", "", *header, *lines, ""])


def _unit(column: Column) -> str:
    found = re.search(r"\((.*)\)$", column.label)
    return found[1] if found else ""


def _summary(column: Column) -> str:
    if not _unit(column):
        return ""
    margin = "" if column.margin is None else f"; margin {column.margin:g}"
    return f"{column.statistic}{margin}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where the page differs")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    if check and text != filled(text):
        raise SystemExit(f"error: {PAGE.name} differs from the dictionary: run python -m experiments.columns")
    if not check:
        PAGE.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main()
