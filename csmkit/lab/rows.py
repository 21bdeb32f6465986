"""The former place of `csmkit.lab.analysis.rows`, kept for old imports."""

from csmkit.lab.analysis.rows import is_number, measured, records

__all__ = ["is_number", "measured", "records"]
