"""Checks of the numbers that a user gives: Python's and numpy's numbers count, booleans do not."""

from __future__ import annotations

import math
import numbers
from typing import Any

from csmkit.errors import InputError


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a value is a real number, neither infinite nor NaN."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def check_integer(name: str, value: Any, least: int = 1, optional: bool = False) -> Any:
    """A whole number of at least so many, or None where it is optional; raises InputError for anything else."""
    if value is None and optional:
        return None
    if not is_integer(value) or value < least:
        raise InputError(f"{name}={value!r}: give a whole number of at least {least}{' or None' * optional}")
    return int(value)


def check_number(name: str, value: Any, least: float, most: float = math.inf) -> None:
    """Raise InputError unless a value is a finite number from ``least`` to ``most``, bounds included."""
    if not is_finite(value) or not least <= value <= most:
        allowed = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise InputError(f"{name}={value!r}: give a number {allowed}")


def check_positive(name: str, value: Any) -> None:
    """Raise InputError unless a value is a finite number above 0."""
    if not is_finite(value) or value <= 0:
        raise InputError(f"{name}={value!r}: give a number above 0")
