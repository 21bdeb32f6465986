"""From the rows of a sweep to tables, figures and a page to hand on."""

from csmkit.lab.report.build import build_report
from csmkit.lab.report.findings import Findings, analyse
from csmkit.lab.report.sentences import choice_rule, difference_rows, interval_rows, sentences

__all__ = ["Findings", "analyse", "build_report", "choice_rule", "difference_rows", "interval_rows", "sentences"]
