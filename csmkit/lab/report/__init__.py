"""From the rows of a sweep to tables, figures and a page to hand on."""

from csmkit.lab.analysis.findings import Findings, analyse
from csmkit.lab.analysis.sentences import (
    choice_rule,
    choice_table,
    difference_table,
    interaction_rows,
    interval_rows,
    sentences,
)
from csmkit.lab.report.build import build_report
from csmkit.lab.report.figures import draw_figure, draw_forest
from csmkit.lab.report.forecast import coverage_rows, missing_of
