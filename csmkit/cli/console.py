"""What the commands print: lines for people, or JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.chat.events import Event

SHOWN_QUIETLY = {"user", "error", "broken_off"}  # the facts of lines that a quiet conversation shows, too


class Console:
    """Prints events as lines for people, or as JSON for programs.

    Args:
        as_json: one JSON object a line.
        quiet: only who says what, and what goes wrong.

    Raises:
        InputError: both.
    """

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        if as_json and quiet:
            raise InputError("--json with --quiet: give one of them")
        self.as_json, self.quiet = as_json, quiet

    def say(self, line: str, **facts: Any) -> None:
        """A line for people; its facts for programs, which do without a line that has none."""
        if self.quiet and not facts.keys() & SHOWN_QUIETLY:
            return
        if facts or not self.as_json:
            print(json.dumps(facts) if self.as_json else line, flush=True)

    def voice(self, took: dict[str, float]) -> None:
        """A voice prompt was read."""
        self.say(f"Voice prompt ready: {took['voice_s']:.1f}s of sound ({took['voice_ready_s']:.1f}s)", **took)

    def event(self, event: Event) -> None:
        """One event of a turn."""
        if self.as_json:
            print(json.dumps({k: v if k != "data" else len(v) for k, v in event.items()}), flush=True)
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
        made = f"{audio_s:.2f}s of speech in {audio_s * rtf:.2f}s"  # to the last chunk, as the factor is defined
        print(f"{made}, real-time factor {rtf:.2f}, {metrics['finish_reason']}", flush=True)


def is_interruption(finish_reason: str) -> bool:
    """Whether a turn ended because it was interrupted."""
    from csmkit.speech.streams import INTERRUPTED  # brings torch, which `csmkit --help` does without

    return finish_reason == INTERRUPTED
