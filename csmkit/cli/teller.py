"""What the commands print: lines for people, or JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from csmkit.reasons import INTERRUPTED

if TYPE_CHECKING:
    from csmkit.chat.events import Event


class Teller:
    """Prints events as lines for people, or as JSON for programs."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, line: str, **facts: Any) -> None:
        """A line for people; its facts for programs, which do without a line that has none."""
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

    def _complete(self, metrics: dict[str, Any], first_s: float | None) -> None:
        if metrics["finish_reason"] == INTERRUPTED:
            print("Interrupted.")
        if first_s is None:
            print(f"Nothing was spoken ({metrics['finish_reason']}).", flush=True)
            return
        print(f"Time to first audio: {first_s:.2f}s")
        audio_s, rtf = metrics["audio_s"], metrics["rtf"]
        made = f"{audio_s:.2f}s of speech in {audio_s * rtf:.2f}s"  # to the last chunk, as the factor is defined
        print(f"{made}, real-time factor {rtf:.2f}, {metrics['finish_reason']}", flush=True)
