"""What a turn's events say about time, as rows that can be plotted.

An event's ``t`` is when it was handed out. What happens in other threads or between events is only there as far as
``complete`` carries it: the language model's first word and end, the first clause. A row's ``lane`` says what was busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE
from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.chat.events import Event

LANES = ("language model", "clauses", "frames", "chunks", "playback", "recogniser")


def chunk_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """One row a chunk: ``turn_id``, ``chunk`` from 1, ``arrival_ms`` since the call, ``duration_ms``, ``n_frames``."""
    return [_chunk(event) for event in events if event["type"] == "audio_chunk"]


def turn_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The spans and moments of one turn.

    Args:
        events: of one turn, in order; ``complete`` may be missing, and with it what only its metrics tell.

    Returns:
        Rows of ``turn_id``, ``lane``, ``label``, ``start_ms`` and ``end_ms``, from the call on; ``end_ms`` is None for
        a moment. Playback is what a listener hears who starts with the first chunk and waits for each late one.

    Raises:
        InputError: no events, or those of several turns.
    """
    told = list(events)
    turns = {event["turn_id"] for event in told}
    if len(turns) != 1:
        raise InputError(f"events of {len(turns)} turns: give those of one, all with the same turn_id")
    rows = [*_from_metrics(_metrics(told)), *_from_events(told), *_playback(chunk_rows(told))]
    turn_id = turns.pop()
    return [{"turn_id": turn_id, **row} for row in sorted(rows, key=lambda row: LANES.index(row["lane"]))]


def _chunk(event: Mapping[str, Any]) -> dict[str, Any]:
    n_samples = len(event["data"])
    return {
        "turn_id": event["turn_id"],
        "chunk": event["chunk_num"],
        "arrival_ms": event["t"] * 1000,
        "duration_ms": n_samples * 1000 / SAMPLE_RATE,
        "n_frames": n_samples / FRAME_SAMPLES,
    }


def _metrics(events: list[Any]) -> Mapping[str, Any]:
    return next((event["metrics"] for event in events if event["type"] == "complete"), {})


def _row(lane: str, label: str, start_ms: float, end_ms: float | None = None) -> dict[str, Any]:
    return {"lane": lane, "label": label, "start_ms": start_ms, "end_ms": end_ms}


def _from_metrics(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    if metrics.get("llm_first_token_ms") is not None:
        rows.append(_row("language model", "writes", metrics["llm_first_token_ms"], metrics.get("llm_done_ms")))
    if metrics.get("first_clause_ms") is not None:
        rows.append(_row("clauses", "first clause", metrics["first_clause_ms"]))
    return rows


def _from_events(events: list[Any]) -> list[dict[str, Any]]:
    lanes = {"audio_chunk": "chunks", "partial_text": "recogniser", "final_text": "recogniser"}
    labels = {"audio_chunk": "handed out", "partial_text": "partial", "final_text": "final"}
    return [
        _row(lanes[event["type"]], labels[event["type"]], event["t"] * 1000)
        for event in events
        if event["type"] in lanes
    ]


def _playback(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows, free_ms = [], 0.0
    for chunk in chunks:
        start_ms = max(free_ms, chunk["arrival_ms"])
        free_ms = start_ms + chunk["duration_ms"]
        rows.append(_row("playback", f"chunk {chunk['chunk']}", start_ms, free_ms))
    return rows
