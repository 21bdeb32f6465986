"""Findings in words and as rows of text: each number in them comes from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from csmkit.errors import InputError
from csmkit.lab.analysis.choice import IMPORTANCE, Choice
from csmkit.lab.analysis.columns import axis_label, in_words
from csmkit.lab.analysis.findings import Findings, analyse
from csmkit.lab.analysis.pairs import CLEAR, EQUAL, NOT_SHOWN, SAME, TOO_FEW, Comparison, Interaction, setting, shown
from csmkit.lab.analysis.rows import Rows
from csmkit.lab.analysis.statistics import LEAST_TEXTS, Interval, most_unseen

NEEDED = f"at least {LEAST_TEXTS} texts are needed"


def sentences(findings: Findings) -> dict[str, list[str]]:
    """What to choose, what the data shows, what it does not, and what there were too few texts for.

    Returns:
        Lists under ``choice``, ``shown``, ``not shown`` and ``too few``.
    """
    sections: dict[str, list[str]] = {"choice": _chosen(findings.choice) if findings.choice else []}
    sections |= {"shown": [], "not shown": [], "too few": []}
    for axis in findings.axes:
        for item in findings.headlines:
            found = [c for c in findings.comparisons if c.axis == axis and c.headline == item]
            sections["shown"] += [_difference(c) for c in found if c.verdict in CLEAR]
            sections["shown"] += _of_all(found, SAME, "the same in every pair, {}{}")
            sections["shown"] += _of_all(found, EQUAL, "no difference that matters, {}{}")
            sections["not shown"] += _of_all(found, NOT_SHOWN, "neither a difference nor its absence is shown, {}{}")
            sections["too few"] += _of_all(found, TOO_FEW, f"nothing can be said, {NEEDED}, {{}}{{}}")
    for comparison in findings.borders:
        sections[_section(comparison)].append(border_sentence(comparison))
    for interaction in findings.interactions:
        if interaction.beside.verdict not in (SAME, EQUAL, TOO_FEW):
            sections[_section(interaction.beside)].append(_interaction(interaction))
    sections["shown"] += _no_interactions(findings.interactions)
    return sections


def _section(found: Comparison) -> str:
    return {TOO_FEW: "too few", NOT_SHOWN: "not shown"}.get(found.verdict, "shown")


def choice_rule(findings: Findings) -> str:
    """How `csmkit.lab.analysis.choice` came to its choice, with the figures that it weighed and their margins."""
    known = {item.column: item for item in findings.headlines if item.margin is not None}
    weighed = [f"{known[name].label} by more than {known[name].margin:g}" for name in IMPORTANCE if name in known]
    return (
        "A setting is left out where it is clearly worse than the best one, by more than the margin, in the first of "
        f"these figures that tells them apart: {', '.join(weighed)}."
    )


def _chosen(choice: Choice) -> list[str]:
    """The settings that are left, then why the others are not, a sentence each figure."""
    if not choice.worse:
        reason = f"too few texts, {NEEDED}" if choice.too_few else "none is clearly worse than another, beyond a margin"
        return [f"the data does not choose: {reason}"]
    reasons: dict[str, list[str]] = {}
    for item in choice.worse:
        reason = f"left out by {item.headline.label}, as clearly worse than {item.baseline}"
        reasons.setdefault(reason, []).append(f"{item.value} by {_amount(item)}")
    return ["; or ".join(choice.settings), *(f"{reason}: {'; '.join(parts)}" for reason, parts in reasons.items())]


def choice_table(findings: Findings) -> list[dict[str, str]]:
    """What to choose as rows: each ``setting``, whether to ``take`` it, and the figure that decided against it."""
    if findings.choice is None or not findings.choice.worse:
        return []
    against = {item.value: item for item in findings.choice.worse}
    rows = []
    for row in findings.table:
        name = setting({axis: row[axis] for axis in findings.axes})
        found = against.get(name)
        reason = "" if found is None else f"{found.headline.label}: worse by {_amount(found)} than {found.baseline}"
        rows.append({"setting": name, "take": "no" if found else "yes", "because": reason})
    return rows


def _of_all(found: Sequence[Comparison], verdict: str, form: str) -> list[str]:
    """One sentence of all values of an axis that have the same verdict."""
    these = [c for c in found if c.verdict == verdict]
    if not these:
        return []
    named = f"{in_words(these[0].axis)} {' or '.join(shown(c.value) for c in these)} against {shown(these[0].baseline)}"
    counted = sorted({c.difference.n for c in these})
    n_pairs = "–".join(map(str, dict.fromkeys((counted[0], counted[-1]))))
    return [f"{these[0].headline.label}: {form.format(f'{named} ({n_pairs} pairs)', _limit(these))}"]


def _limit(found: Sequence[Comparison]) -> str:
    """How large a difference may still be that was not seen."""
    item, verdict = found[0].headline, found[0].verdict
    if verdict == SAME:
        n_texts = min(c.difference.n_texts for c in found)
        return f": at most {100 * most_unseen(n_texts):.1f} % of texts differ"
    if verdict == TOO_FEW:
        return ""
    most = max(c.at_most or 0.0 for c in found)
    margin = "" if item.margin is None else f", the margin is {item.margin:g}"
    return f": at most {item.text(most)}{margin}"


def _amount(found: Comparison) -> str:
    item, gap = found.headline, found.difference
    assert gap.median is not None and gap.low is not None and gap.high is not None
    return item.with_interval(Interval(abs(gap.median), *sorted((abs(gap.low), abs(gap.high))), gap.n))


def _difference(found: Comparison) -> str:
    where = f"at {setting({found.axis: found.value})} than at {shown(found.baseline)}"
    size = f"by {_amount(found)}, {found.difference.n} pairs{below_margin(found)}"
    return f"{found.headline.label}: {found.verdict} {where} {size}"


def below_margin(found: Comparison) -> str:
    """What is to be added where a difference is clear and yet too small to choose by."""
    return "" if found.matters or found.headline.margin is None else f"; below the margin of {found.headline.margin:g}"


def border_sentence(found: Comparison) -> str:
    """Whether borders of chunks are worse than other places of the same sound."""
    item, gap = found.headline, found.difference
    if gap.median is None:
        return f"{item.label}: codec {found.value} has no border to judge"
    bounds = (None if bound is None else 0.5 + bound for bound in (gap.low, gap.high))
    level = item.with_interval(Interval(0.5 + gap.median, *bounds, gap.n))
    if found.verdict == TOO_FEW:
        return f"{item.label}: codec {found.value} has {level}; nothing can be said, {NEEDED}"
    verdict = {
        SAME: "like any other place",
        EQUAL: f"like any other place, within {item.margin or 0:g} of 0.5",
        NOT_SHOWN: f"shown to be neither worse nor equal: at most {item.text(found.at_most)} from 0.5",
    }.get(found.verdict, f"{'worse' if gap.median > 0 else 'better'} than other places{below_margin(found)}")
    return f"{item.label}: codec {found.value} has {level}, so borders are {verdict}"


def _interaction(found: Interaction) -> str:
    beside = found.beside
    acting = f"what {setting({found.axis: found.value})} adds to {shown(found.baseline)}"
    if beside.verdict in CLEAR:
        amount = f"is {beside.verdict} at {setting({beside.axis: beside.value})} than at {shown(beside.baseline)} by "
        return (
            f"{beside.headline.label}: {acting} {amount}{_amount(beside)}, {beside.difference.n} fours of trials"
            f"{below_margin(beside)}"
        )
    change = beside.headline.with_interval(beside.difference, signed=True)
    return (
        f"{beside.headline.label}: whether {acting} depends on {setting({beside.axis: beside.value})} or "
        f"{shown(beside.baseline)} is not shown either way: {change}{_limit([beside])}"
    )


def _no_interactions(found: Sequence[Interaction]) -> list[str]:
    """Which pairs of axes are shown to act alone, and in which figures."""
    lines = []
    for one, other in dict.fromkeys((i.axis, i.beside.axis) for i in found):
        these = [i.beside for i in found if (i.axis, i.beside.axis) == (one, other)]
        items = dict.fromkeys(c.headline for c in these)
        alone = [i for i in items if {c.verdict for c in these if c.headline == i} <= {SAME, EQUAL}]
        if alone:
            labels = ", ".join(item.label for item in alone)
            lines.append(f"{in_words(one)} and {in_words(other)} act alone, to within the margin: {labels}")
    return lines


def interval_rows(findings: Findings) -> list[dict[str, Any]]:
    """The table as text: a row each combination of settings, a figure with its interval in each column."""
    return [
        {
            **{axis_label(name): shown(row[name]) for name in findings.axes},
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


def interaction_rows(findings: Findings) -> list[dict[str, str]]:
    """The interactions as rows of text, each with its interval and what may be said of it."""
    return [
        {
            "figure": found.beside.headline.label,
            "what": f"{setting({found.axis: found.value})} against {shown(found.baseline)}",
            "at": f"{setting({found.beside.axis: found.beside.value})} against {shown(found.beside.baseline)}",
            "changes by": found.beside.headline.with_interval(found.beside.difference, signed=True),
            "verdict": found.beside.verdict,
        }
        for found in findings.interactions
    ]


def advice(rows: Rows, figures: Sequence[str]) -> str:
    """Which setting to choose and what the rows show, as Markdown: what a report would say of the same rows.

    Args:
        figures: names of metrics or columns, such as ``["latency", "wer"]``.

    Raises:
        InputError: no rows, or none of the figures was measured.
    """
    findings = analyse(rows, figures=figures)
    if not findings.headlines:
        raise InputError(f"none of {', '.join(figures)} was measured in these rows: choose other figures")
    sections = sentences(findings)
    parts = [
        ("What to choose", sections["choice"]),
        ("What the data shows", sections["shown"]),
        ("What it does not show", sections["not shown"] + sections["too few"]),
    ]
    listed = ["\n".join([f"**{title}**", "", *(f"- {line}" for line in lines)]) for title, lines in parts if lines]
    return "\n\n".join([*listed, choice_rule(findings)] if findings.axes else listed)
