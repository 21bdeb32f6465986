"""A turn as a file to look at: who was busy when, on one time axis."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.chat.events import Event
from csmkit.errors import InputError
from csmkit.lab.analysis.columns import axis_label
from csmkit.lab.metrics.waveforms import wav_bytes
from csmkit.lab.plots.paper import DARK
from csmkit.lab.plots.timeline import turn_rows, turn_timeline
from csmkit.plugins import library

SUFFIXES = (".png", ".html")
_PAGE = Path(__file__).with_name("timeline.html")


def check_path(path: str | PathLike[str]) -> Path:
    """A path that `save_timeline` can write.

    Raises:
        InputError: another suffix than .png or .html, or a folder that is not there.
        MissingDependencyError: matplotlib is not installed.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(f"timeline {str(path)!r}: give a path that ends in {' or '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise InputError(f"timeline {str(path)!r}: the folder {str(target.parent)!r} is not there, make it first")
    return target


def save_timeline(events: Iterable[Event], path: str | PathLike[str], question: str | None = None) -> Path | None:
    """Draw a turn into a file.

    Args:
        events: all events of one turn, ``complete`` the last.
        path: ends in .png, the picture alone, or .html: one page without any other file, with the question, a player of
            the answer, picture, clauses, notes and metrics.
        question: what the user said; None takes what the recogniser heard of the user, where there is such an event.

    Returns:
        The path; None where the turn was over before anything happened, so that there is nothing to draw.

    Raises:
        InputError, MissingDependencyError: as `check_path`, and events of several turns or none.
    """
    target, turn = check_path(path), list(events)
    rows = turn_rows(turn)
    if not rows:
        return None
    figure = turn_timeline(rows, width_inches=7.0)
    try:
        if target.suffix.lower() == ".png":
            figure.savefig(target, dpi=200)
        else:
            picture = io.StringIO()
            figure.savefig(picture, format="svg", metadata={"Date": None})
            target.write_text(_page(turn, rows, picture.getvalue(), question), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the timeline {str(path)!r} ({error}): give another path") from error
    return target


def page_of(template: Path, filters: Mapping[str, Callable[..., Any]], **parts: Any) -> str:
    """A page of HTML by a template of jinja2, in which all parts are escaped."""
    pages = library("jinja2", "eval").Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= filters
    return pages.from_string(template.read_text(encoding="utf-8")).render(parts)


def _page(events: list[Any], rows: list[dict[str, Any]], picture: str, question: str | None) -> str:
    complete = next((event for event in events if event["type"] == "complete"), {"notes": [], "metrics": {}})
    heard = next((event["text"] for event in events if event["type"] == "heard"), None)
    chunks = [np.asarray(event["data"], np.float32) for event in events if event["type"] == "audio_chunk"]
    return page_of(
        _PAGE,
        {"label": axis_label},
        title=question or heard or f"Turn {events[0]['turn_id']}",
        notes=complete["notes"],
        metrics=complete["metrics"],
        sound=base64.b64encode(wav_bytes(np.concatenate(chunks))).decode() if chunks else "",
        picture=picture[picture.index("<svg") :],
        dark=DARK,
        clauses=[row for row in rows if row["lane"] == "clauses" and row["end_ms"] is not None],
    )
