"""The row of numbers that a turn leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

from csmkit.chat.ahead import ReadAhead
from csmkit.chat.events import Metric
from csmkit.chat.listener import Listener
from csmkit.timing import Arrivals


@dataclass
class Measured:
    """What is noted while a turn runs; moments are those of `time.perf_counter`."""

    started: float
    arrivals: Arrivals = field(default_factory=Arrivals)
    first_clause_at: float | None = None
    final_at: float | None = None
    n_clauses: int = 0


def turn_metrics(measured: Measured, ahead: ReadAhead, listener: Listener) -> dict[str, Metric]:
    """A flat row; milliseconds count from the call, None is "did not happen". The sound's part is `Arrivals.row`."""

    def since_call(moment: float | None) -> float | None:
        return None if moment is None else (moment - measured.started) * 1000

    return {
        "llm_first_token_ms": since_call(ahead.first_at),
        "llm_done_ms": since_call(ahead.ended_at),
        "first_clause_ms": since_call(measured.first_clause_at),
        **measured.arrivals.row(),
        "n_clauses": measured.n_clauses,
        "final_text_ms": since_call(measured.final_at),
        "total_ms": since_call(perf_counter()),
        "asr_complete": None if listener.final is None else listener.final.complete,
        "asr_error": listener.error,
        **{f"asr_{name}": value for name, value in listener.stats().items()},
    }
