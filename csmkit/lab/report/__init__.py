"""From the rows of a sweep to tables, figures and a page to hand on."""

from csmkit.lab.report.build import build_report
from csmkit.lab.report.coverage import coverage_rows, missing_of
from csmkit.lab.report.figures import draw_figure
from csmkit.lab.report.findings import Findings, analyse
from csmkit.lab.report.sentences import choice_rule, difference_table, interval_rows, sentences

__all__ = [
    "Findings",
    "analyse",
    "build_report",
    "choice_rule",
    "coverage_rows",
    "difference_table",
    "draw_figure",
    "interval_rows",
    "missing_of",
    "sentences",
]
