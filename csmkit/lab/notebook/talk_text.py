"""What a live conversation shows: who speaks, and the text of both sides, from its events."""

from __future__ import annotations

from typing import Any


class TalkText:
    """Collects the events of a conversation into what the page shows.

    Args:
        hint: shown below the button until the first turn.

    Attributes:
        turns: one dict for each of the user's turns, oldest first: ``turn``, ``user``, ``user_final``, ``voice``,
            ``latency_ms`` from the end of the user's speech to the first sound of the answer (None before), and
            ``interrupted``.
    """

    def __init__(self, hint: str = "") -> None:
        self.turns: list[dict[str, Any]] = []
        self._state: dict[str, Any] = {"speaker": "nobody", "ready": False, "message": "", "hint": hint}
        self._open: set[int] = set()

    @property
    def open_turns(self) -> bool:
        """Whether a turn has begun and its answer has not ended."""
        return bool(self._open)

    def set(self, **state: Any) -> None:
        """Change ``speaker``, ``ready``, ``message`` or ``hint``."""
        self._state |= state

    def shown(self) -> dict[str, Any]:
        """A copy of everything, as the widget takes it."""
        return {**self._state, "turns": [dict(turn) for turn in self.turns]}

    def take(self, event: Any) -> None:
        """Take the next event of `csmkit.live.events`; one that shows nothing is ignored."""
        match event["type"]:
            case "speech_started":
                self._open.add(event["turn"])
                blank = {"user": "", "user_final": False, "voice": "", "latency_ms": None, "interrupted": False}
                self.turns.append({"turn": event["turn"], **blank})
                self.set(speaker="user", hint="")
            case "user_partial":
                self._change(event, user=event["text"])
            case "user_text":
                self._change(event, user=event["text"], user_final=True)
            case "speech_stopped":
                self.set(speaker="thinking")
            case "nothing_heard":
                self.turns = [turn for turn in self.turns if turn["turn"] != event["turn"]]
                self._end(event)
            case "answer_dropped":
                self._change(event, voice="", latency_ms=None)
                self.set(speaker="user")
            case "llm_delta":
                for turn in self.turns:
                    if turn["turn"] == event["turn"]:
                        turn["voice"] += event["text"]
            case "audio_chunk":
                self.set(speaker="voice")
            case "interrupted":
                self._change(event, voice=event["text"], interrupted=True)
            case "turn_done":
                kept = {} if event["kept"] is None else {"voice": event["kept"]}
                self._change(event, latency_ms=event["metrics"].get("end_to_audible_ms"), **kept)
                self._end(event)
            case "error":
                self.set(message=" ".join(event["message"].split()))
                self._end(event)

    def _end(self, event: Any) -> None:
        self._open.discard(event["turn"])
        if not self._open:
            self.set(speaker="nobody")

    def _change(self, event: Any, **changes: Any) -> None:
        for turn in self.turns:
            if turn["turn"] == event["turn"]:
                turn.update(changes)
