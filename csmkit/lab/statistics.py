"""The former place of `csmkit.lab.analysis.statistics`, kept for old imports."""

from csmkit.lab.analysis.significance import paired_rows
from csmkit.lab.analysis.statistics import UNITS, Interval, central, crossed_interval, median_interval, summary_rows

__all__ = ["UNITS", "Interval", "central", "crossed_interval", "median_interval", "paired_rows", "summary_rows"]
