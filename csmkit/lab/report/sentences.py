"""Findings in words and as rows of text: each number in them comes from the rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from csmkit.lab.report.choice import IMPORTANCE, Choice
from csmkit.lab.report.findings import Findings
from csmkit.lab.report.interactions import Interaction
from csmkit.lab.report.pairs import HIGHER, LOWER, NOT_SHOWN, SAME, TOO_FEW, Comparison, shown
from csmkit.lab.statistics import LEAST_TRIALS, LEAST_UNITS

NEEDED = f"at least {LEAST_TRIALS} pairs of at least {LEAST_UNITS} texts and {LEAST_UNITS} seeds are needed"


def sentences(findings: Findings) -> dict[str, list[str]]:
    """What to choose, what the data shows, what it does not, and what there were too few trials for.

    Returns:
        Lists under ``choice``, ``shown``, ``not shown`` and ``too few``.
    """
    told: dict[str, list[str]] = {"choice": _chosen(findings.choice) if findings.choice else []}
    told |= {"shown": [], "not shown": [], "too few": []}
    for axis in findings.axes:
        for item in findings.headlines:
            found = [c for c in findings.comparisons if c.axis == axis and c.headline == item]
            told["shown"] += [_difference(c) for c in found if c.verdict in (LOWER, HIGHER)]
            told["shown"] += _of_all(found, SAME, "the same in every pair, {}")
            told["not shown"] += _of_all(found, NOT_SHOWN, "no difference is shown of {}")
            told["too few"] += _of_all(found, TOO_FEW, f"nothing can be said of {{}}: {NEEDED}")
    for one, other in dict.fromkeys((i.axis, i.beside.axis) for i in findings.interactions):
        found = [i for i in findings.interactions if (i.axis, i.beside.axis) == (one, other)]
        told["shown"] += [_interaction(i) for i in found if i.beside.verdict in (LOWER, HIGHER)]
        silent = dict.fromkeys(i.beside.headline.label for i in found if i.beside.verdict == NOT_SHOWN)
        if silent:
            told["not shown"].append(f"that what {one} does depends on {other}, or the reverse: {', '.join(silent)}")
    return told


def choice_rule(findings: Findings) -> str:
    """How `csmkit.lab.report.choice` came to its choice, with the figures that it weighed."""
    labels = {item.column: item.label for item in findings.headlines}
    weighed = [labels[column] for column in IMPORTANCE if column in labels]
    return (
        "A setting is left out where it is clearly worse than the best one in the first of these figures that tells "
        f"them apart: {', '.join(weighed)}."
    )


def _chosen(choice: Choice) -> list[str]:
    """The settings that are left, then why the others are not, a sentence each figure."""
    if not choice.worse:
        reason = f"too few trials, {NEEDED}" if choice.too_few else "none is clearly worse than another"
        return [f"the data does not choose: {reason}"]
    reasons: dict[str, list[str]] = {}
    for item in choice.worse:
        reason = f"not, by {item.headline.label}, clearly worse than at {item.baseline}"
        reasons.setdefault(reason, []).append(f"{item.value} by {_amount(item)}")
    return ["; or ".join(choice.settings), *(f"{reason}: {'; '.join(parts)}" for reason, parts in reasons.items())]


def _either(values: Iterable[Any]) -> str:
    return " or ".join(map(shown, values))


def _of_all(found: list[Comparison], verdict: str, form: str) -> list[str]:
    """One sentence of all values of an axis that have the same verdict."""
    these = [c for c in found if c.verdict == verdict]
    if not these:
        return []
    named = f"{these[0].axis} {_either(c.value for c in these)} against {shown(these[0].baseline)}"
    counted = sorted({c.difference.n for c in these})
    n_pairs = "–".join(map(str, dict.fromkeys((counted[0], counted[-1]))))
    return [f"{these[0].headline.label}: {form.format(f'{named} ({n_pairs} pairs)')}"]


def _amount(found: Comparison) -> str:
    item, gap = found.headline, found.difference
    assert gap.median is not None and gap.low is not None and gap.high is not None
    bounds = sorted(abs(bound) for bound in (gap.low, gap.high))
    return f"{item.text(abs(gap.median))} [{item.text(bounds[0])}, {item.text(bounds[1])}]"


def _difference(found: Comparison) -> str:
    where = f"at {found.axis} {shown(found.value)} than at {shown(found.baseline)}"
    return f"{found.headline.label}: {found.verdict} {where} by {_amount(found)}, {found.difference.n} pairs"


def _interaction(found: Interaction) -> str:
    beside = found.beside
    return (
        f"{beside.headline.label}: what {found.axis} {shown(found.value)} adds to {shown(found.baseline)} is "
        f"{beside.verdict} at {beside.axis} {shown(beside.value)} than at {shown(beside.baseline)} by "
        f"{_amount(beside)}, {beside.difference.n} fours of trials"
    )


def interval_rows(findings: Findings) -> list[dict[str, Any]]:
    """The table as text: a row each combination of settings, a figure with its interval in each column."""
    return [
        {
            **{name: shown(row[name]) for name in findings.axes},
            "trials": row["n"],
            **{item.label: item.with_interval(row[item.column]) for item in findings.headlines},
        }
        for row in findings.table
    ]


def difference_table(findings: Findings, axis: str) -> list[dict[str, Any]]:
    """The comparisons along one axis, short: a row a figure, and in a column for each value the difference there."""
    table: dict[str, dict[str, Any]] = {}
    for found in findings.comparisons:
        if found.axis == axis:
            row = table.setdefault(found.headline.label, {"figure": found.headline.label})
            row[f"{shown(found.value)} against {shown(found.baseline)}"] = found.headline.with_interval(
                found.difference, signed=True
            )
    return list(table.values())
