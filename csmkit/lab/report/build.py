"""Everything in a folder of results but the rows, made from the rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csmkit.errors import ResultsError
from csmkit.files.writer import write_whole
from csmkit.lab.analysis.columns import in_words
from csmkit.lab.analysis.findings import Findings, analyse
from csmkit.lab.analysis.pairs import setting, shown
from csmkit.lab.analysis.rows import Row, recogniser_name
from csmkit.lab.analysis.sentences import choice_rule, choice_table, interaction_rows, sentences
from csmkit.lab.listen import listening_sentences, read_answers
from csmkit.lab.plots.paper import DARK
from csmkit.lab.report.figures import Picture, draw_figures
from csmkit.lab.report.folder import MANIFEST, MODELS, write_manifest, write_table
from csmkit.lab.report.latex import BIBLIOGRAPHY, PAPER, REFERENCES, paper_text
from csmkit.lab.report.timeline import page_of
from csmkit.lab.sweep.row_file import read_rows
from csmkit.lab.sweep.runner import RECIPE

REPORT, PAGE = "report.html", Path(__file__).with_name("page.html")
MOST_CLIPS = 12
_MACHINE = ("cpu", "cores", "threads", "gpu", "device")
_ENVIRONMENT = (*_MACHINE, "python", "version_torch", "version_transformers", "version_numpy")
_ABOUT = ("version_csmkit", "commit", *MODELS)


def build_report(folder: Path, *, against: Path | None = None, command: str | None = None) -> Path:
    """Write table, figures, page and manifest of a sweep.

    Args:
        folder: results with ``rows.jsonl``; ``recipe.json`` and ``clips`` are used where they exist.
        against: folder of a former sweep to compare with.
        command: command that made the rows, for the page; None takes the one that the last report states.

    Returns:
        The page.

    Raises:
        ResultsError: no rows, only failures, or a folder that cannot be written.
        MissingDependencyError: matplotlib, pandas or jinja2 are not installed.
    """
    rows = read_rows(folder)
    recipe = _json(folder / RECIPE)
    former = None if against is None else read_rows(against)
    command = command or _json(folder / MANIFEST).get("command") or f"csmkit sweep experiments/{folder.name}.toml"
    findings = analyse(rows, recipe.get("baseline"), former, margins=recipe.get("margins"))
    if not findings.rows:
        error = f"{findings.failed[0]['error_type']}: {findings.failed[0]['error']}"
        raise ResultsError(
            f"all {len(rows)} trials in {str(folder)!r} failed, the first by {error}: "
            "correct that and run the sweep again with --retry-failed"
        )
    try:
        same = write_table(folder, rows)
        pictures = draw_figures(findings, folder)
        answers = read_answers(folder)
        parts: dict[str, Any] = {"listening": listening_sentences(answers)}
        parts |= {"against": against, "command": command, "environment": _listed(rows, _ENVIRONMENT)}
        page = _render(folder, findings, recipe, pictures, parts | {"about": _listed(rows, _ABOUT)})
        write_whole(folder / REPORT, page.encode())
        write_whole(folder / PAPER, paper_text(findings, recipe.get("title") or folder.name).encode())
        write_whole(folder / BIBLIOGRAPHY, REFERENCES.encode())
        write_manifest(folder, rows, recipe or {"name": folder.name}, command, same)
    except OSError as error:
        remedy = "make room or get write access, then run `csmkit report` again; rows are kept"
        raise ResultsError(
            f"cannot write the report in {str(folder)!r} ({error.strerror or error}): {remedy}"
        ) from error
    return folder / REPORT


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _render(
    folder: Path, findings: Findings, recipe: Mapping[str, Any], pictures: Sequence[Picture], parts: Mapping[str, Any]
) -> str:
    rows = findings.rows
    first = _answering(findings, pictures)
    return page_of(
        PAGE,
        {"shown": shown, "words": in_words},
        title=recipe.get("title") or folder.name.replace("_", " ").capitalize(),
        name=folder.name,
        question=recipe.get("question", ""),
        found=findings,
        sections=sentences(findings),
        rule=choice_rule(findings),
        n_texts=len({row["text"] for row in rows}),
        n_seeds=len({row["seed"] for row in rows}),
        answer=None if first is None else _figure(first),
        figures=[_figure(picture) for picture in pictures if picture is not first],
        clips=_clips(folder, findings),
        started=min(row["started"] for row in rows),
        ended=max(row["started"] for row in rows),
        choice_rows=choice_table(findings),
        interaction_rows=interaction_rows(findings),
        dark=DARK,
        n_comparisons=len(findings.comparisons) + len(findings.interactions),
        **parts,
    )


def _answering(findings: Findings, pictures: Sequence[Picture]) -> Picture | None:
    """The picture beside the answer: of the figure that left settings out, else the first of a single figure."""
    if findings.choice is None:
        return None
    decided = [item.headline.column for item in findings.choice.worse]
    found = {picture.path.stem.partition("_by_")[0]: picture for picture in reversed(pictures)}
    columns = [*decided, *(item.column for item in findings.headlines)]
    return next((found[column] for column in columns if column in found), None)


def _figure(picture: Picture) -> tuple[str, str, str]:
    return picture.caption, picture.alt, _embedded(picture.path, "image/png")


def _listed(rows: Sequence[Row], names: Sequence[str]) -> dict[str, str]:
    """What the rows that succeeded have of some columns: all values, where they differ."""
    done = [{**row, "whisper": recogniser_name(row)} for row in rows if not row.get("error")]
    values = {name: dict.fromkeys(str(row[name]) for row in done if row.get(name) is not None) for name in names}
    return {name: ", ".join(found) for name, found in values.items() if found}


def _clips(folder: Path, findings: Findings) -> list[tuple[str, str, str]]:
    """The settings, what was spoken, and the sound as a data address: once where settings do not change the sound."""
    kept: dict[str, list[Row]] = {}
    for row in findings.rows:
        if row.get("clip") and (folder / row["clip"]).is_file():
            kept.setdefault(row["clip"], []).append(row)
    step = max(1, -(-len(kept) // MOST_CLIPS))
    return [
        (
            "; ".join(dict.fromkeys(setting({name: row[name] for name in findings.axes}) for row in kept[clip])),
            kept[clip][0]["text"],
            _embedded(folder / clip, "audio/flac"),
        )
        for clip in list(kept)[::step]
    ]


def _embedded(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
