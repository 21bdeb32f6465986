"""The output of the commands: lines for people, or JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.chat.events import Event

QUIET_FACTS = {"user", "error", "broken_off"}  # --quiet prints the lines that have one of these facts


class Console:
    """Prints events as lines for people, or as JSON for programs.

    Args:
        as_json: print one JSON object for each event.
        quiet: print only the conversation and its errors.

    Raises:
        InputError: both at once.
    """

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        if as_json and quiet:
            raise InputError("--json with --quiet: give one of them")
        self.as_json, self.quiet = as_json, quiet

    def say(self, line: str, **facts: Any) -> None:
        """Print a line; with ``as_json`` print its facts instead, and nothing if it has none."""
        if self.quiet and not facts.keys() & QUIET_FACTS:
            return
        if facts or not self.as_json:
            print(json.dumps(facts) if self.as_json else line, flush=True)

    def event(self, event: Event) -> None:
        """Print an event of a turn."""
        if self.as_json:
            shown = {k: v if k != "data" else len(v) for k, v in event.items()}
            print(json.dumps(shown, default=asdict), flush=True)
            return
        if self.quiet:
            self._conversation(event)
            return
        match event["type"]:
            case "llm_response":
                print(f"LLM response at {event['t']:.2f}s: {event['text']}", flush=True)
            case "audio_chunk":
                first = "  <- first audio" if event["chunk_num"] == 1 else ""
                print(f"Chunk {event['chunk_num']} ready at {event['t']:.2f}s{first}", flush=True)
            case "partial_text":
                print(f"  partial: {event['text']}", flush=True)
            case "final_text":
                print(f"Final transcription: {event['text']!r}", flush=True)
            case "complete":
                self._complete(event["metrics"], event["time_to_first_audio"])
                for note in event["notes"]:
                    print(f"Note: {note}", flush=True)

    def _conversation(self, event: Event) -> None:
        match event["type"]:
            case "heard":
                print(f"You: {event['text']}", flush=True)
            case "llm_response":
                print(f"csmkit: {event['text']}", flush=True)
            case "complete" if is_interruption(event["finish_reason"]):
                print("Interrupted.", flush=True)

    def _complete(self, metrics: dict[str, Any], first_s: float | None) -> None:
        if is_interruption(metrics["finish_reason"]):
            print("Interrupted.")
        if first_s is None:
            print(f"Nothing was spoken ({metrics['finish_reason']}).", flush=True)
            return
        print(f"Time to first audio: {first_s:.2f}s")
        audio_s, rtf = metrics["audio_s"], metrics["rtf"]
        made = f"{audio_s:.2f}s of speech in {audio_s * rtf:.2f}s"  # until the last chunk, as the factor is defined
        print(f"{made}, real-time factor {rtf:.2f}, {metrics['finish_reason']}", flush=True)


def is_interruption(finish_reason: str) -> bool:
    """Whether a turn ended because it was interrupted."""
    from csmkit.speech.streams import INTERRUPTED  # imports torch, which `csmkit --help` does not need

    return finish_reason == INTERRUPTED
