"""Rows as tables and figures take them: a list of flat dicts or a DataFrame, one row a trial, a chunk or a span."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from operator import itemgetter, le
from typing import TYPE_CHECKING, Any, TypeAlias

from csmkit.asr.directory import NAMES
from csmkit.errors import InputError

if TYPE_CHECKING:
    import pandas

Row = Mapping[str, Any]
Rows: TypeAlias = "Iterable[Row] | pandas.DataFrame"


def records(rows: Rows, columns: Iterable[str] = ()) -> list[Row]:
    """The rows as a list of dicts, in which a bundled recogniser is called "pocket base.en".

    Args:
        columns: names that each row must have; a value of None is fine.

    Raises:
        InputError: no rows, something else than dicts, or a column that is missing.
    """
    to_dict: Any = getattr(rows, "to_dict", None)
    found = to_dict("records") if to_dict and not isinstance(rows, Mapping) else list(rows)
    if not found or not all(isinstance(row, Mapping) for row in found):
        raise InputError(f"rows of {type(rows).__name__}: give at least one dict, or a DataFrame with a row")
    for column in columns:
        if not all(column in row for row in found):
            known = ", ".join(sorted({str(key) for row in found for key in row}))
            raise InputError(f"a row has no column {column!r}: choose among {known}")
    return [{**row, "whisper": recogniser_name(row)} if "whisper" in row else row for row in found]


def hashable(value: Any) -> Any:
    """A value as a key: a chunk schedule, which JSON has as a list, is a tuple."""
    return tuple(value) if isinstance(value, list) else value


def grouped(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by their values of some columns, in the order in which these first occur."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple([hashable(row[name]) for name in names]), []).append(row)
    return groups


def recogniser_name(row: Row) -> Any:
    """How tables and figures call the recogniser of a row: "pocket base.en" is the bundled model, not OpenAI's."""
    name = row.get("whisper")
    return f"pocket {name}" if row.get("preset") == "pocket" and name in NAMES else name


def is_number(value: Any) -> bool:
    """Whether a value has a place on a scale; True and False are names."""
    return isinstance(value, Real) and not isinstance(value, bool)


def measured(value: Any) -> float | None:
    """A value as a number, or None for None and NaN, which were not measured; InputError for what is no number."""
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"value {value!r} is no number: give a column that was measured") from error
    return None if math.isnan(number) else number


def pareto_front(rows: Sequence[Row], aims: Mapping[str, str]) -> list[Row]:
    """The rows that no other row beats: none is as good in every aim and better in one.

    Args:
        aims: column to "lower" or "higher".
    """
    signs = {name: 1 if way == "lower" else -1 for name, way in aims.items()}
    different = {repr(sorted(row.items())): row for row in rows}.values()
    costed = [(tuple(sign * row[name] for name, sign in signs.items()), row) for row in different]

    def beaten(costs: tuple[float, ...]) -> bool:
        return any(other != costs and all(map(le, other, costs)) for other, _ in costed)

    return [row for costs, row in sorted(costed, key=itemgetter(0)) if not beaten(costs)]
