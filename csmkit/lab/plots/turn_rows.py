"""What a turn's events say about time, as rows that can be plotted.

An event's ``t`` is when it was handed out. What happens in other threads or between events is in the spans that
``complete`` carries. A row's ``lane`` says what was busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE
from csmkit.chat.events import LANES
from csmkit.errors import InputError
from csmkit.timing import Arrivals

if TYPE_CHECKING:
    from csmkit.chat.events import Event

__all__ = ["LANES", "chunk_rows", "turn_rows"]


def chunk_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """One row a chunk: ``turn_id``, ``chunk`` from 1, ``arrival_ms`` since the call, ``duration_ms``, ``n_frames``."""
    return [_chunk(event) for event in events if event["type"] == "audio_chunk"]


def turn_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The spans and moments of one turn.

    Args:
        events: of one turn, in order; ``complete`` may be missing, and with it what only its spans tell.

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
    rows = [*_spans(told), *_from_events(told), *_playback(chunk_rows(told))]
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


def _spans(events: list[Any]) -> list[dict[str, Any]]:
    return [dict(span) for event in events if event["type"] == "complete" for span in event["spans"]]


def _row(lane: str, label: str, start_ms: float, end_ms: float | None = None) -> dict[str, Any]:
    return {"lane": lane, "label": label, "start_ms": start_ms, "end_ms": end_ms}


def _from_events(events: list[Any]) -> list[dict[str, Any]]:
    lanes = {"audio_chunk": "chunks", "partial_text": "recogniser", "final_text": "recogniser"}
    labels = {"audio_chunk": "handed out", "partial_text": "partial", "final_text": "final"}
    return [
        _row(lanes[event["type"]], labels[event["type"]], event["t"] * 1000)
        for event in events
        if event["type"] in lanes
    ]


def _playback(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    arrivals = Arrivals([c["arrival_ms"] / 1000 for c in chunks], [c["duration_ms"] / 1000 for c in chunks])
    starts_ms = [1000 * start_s for start_s in arrivals.starts_s()]
    return [
        _row("playback", f"chunk {chunk['chunk']}", start_ms, start_ms + chunk["duration_ms"])
        for chunk, start_ms in zip(chunks, starts_ms, strict=True)
    ]
