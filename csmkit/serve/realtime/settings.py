"""The settings of a conversation that a client may change, and the session object that reports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from csmkit.checks import is_finite
from csmkit.errors import InputError
from csmkit.live.turn_detector import TurnDetection
from csmkit.serve.errors import RequestError, invalid
from csmkit.serve.models import ServedModels, Speaker

PCM = {"type": "audio/pcm", "rate": 24_000}
_VAD = {"threshold": "threshold", "prefix_padding_ms": "prefix_ms", "silence_duration_ms": "silence_ms"}
_SESSION = ("type", "model", "instructions", "output_modalities", "audio")
_DETECTION = ("type", *_VAD, "create_response", "interrupt_response")


@dataclass(frozen=True)
class Settings:
    """The settings of a conversation.

    Attributes:
        model: the name that the client gave.
        speaker: speaks the answers.
        instructions: text that the language model reads before the conversation.
        detection: how turns are found; None where the client commits its sound itself.
        create_response: whether a turn that was found is answered at once.
        interrupt_response: whether the user's speech stops the answer.
    """

    model: str
    speaker: Speaker
    instructions: str = ""
    detection: TurnDetection | None = field(default_factory=TurnDetection)
    create_response: bool = True
    interrupt_response: bool = True

    def as_dict(self, session_id: str) -> dict[str, Any]:
        """The session object of the API."""
        found: dict[str, Any] | None = None
        if self.detection is not None:
            found = {name: getattr(self.detection, ours) for name, ours in _VAD.items()}
            found |= {"prefix_padding_ms": int(found["prefix_padding_ms"])}
            found |= {"silence_duration_ms": int(found["silence_duration_ms"])}
            found |= {"type": "server_vad", "create_response": self.create_response}
            found["interrupt_response"] = self.interrupt_response
        microphone = {"format": PCM, "turn_detection": found, "transcription": {"model": "whisper", "language": "en"}}
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": self.model,
            "instructions": self.instructions,
            "output_modalities": ["audio"],
            "audio": {"input": microphone, "output": {"format": PCM, "voice": self.speaker.name, "speed": 1.0}},
        }

    def updated(self, session: object, models: ServedModels, max_chars: int) -> Settings:
        """Return these settings, changed by a ``session.update``.

        Raises:
            RequestError: a setting that has no effect here, or a value that cannot be used. Nothing is changed.
        """
        given = _object(session, "session", _SESSION)
        if given.get("type", "realtime") != "realtime":
            raise invalid("session.type is not realtime: this server has no other", "session.type")
        if given.get("output_modalities", ["audio"]) != ["audio"]:
            raise invalid('output_modalities: this server speaks, give ["audio"]', "session.output_modalities")
        changed = self
        if given.get("instructions") is not None:
            if not isinstance(given["instructions"], str) or len(given["instructions"]) > max_chars:
                raise invalid(f"instructions: give a text of at most {max_chars} characters", "session.instructions")
            changed = replace(changed, instructions=given["instructions"])
        if given.get("model") is not None:
            models.check_name("realtime", given["model"])
        audio = _object(given.get("audio") or {}, "session.audio", ("input", "output"))
        changed = changed._with_output(audio.get("output") or {}, models)
        return changed._with_input(audio.get("input") or {})

    def _with_output(self, output: object, models: ServedModels) -> Settings:
        given = _object(output, "session.audio.output", ("format", "voice", "speed"))
        _check_format(given.get("format"), "session.audio.output.format")
        if given.get("speed", 1) not in (1, None):
            raise invalid("speed other than 1 is not supported: leave it out", "session.audio.output.speed")
        return self if given.get("voice") is None else replace(self, speaker=models.speaker(given["voice"]))

    def _with_input(self, settings: object) -> Settings:
        known = ("format", "turn_detection", "transcription", "noise_reduction")
        given = _object(settings, "session.audio.input", known)
        _check_format(given.get("format"), "session.audio.input.format")
        if given.get("noise_reduction") is not None:
            raise invalid("noise_reduction is not supported: leave it out", "session.audio.input.noise_reduction")
        if "turn_detection" not in given:
            return self
        if given["turn_detection"] is None:
            return replace(self, detection=None)
        return self._with_detection(given["turn_detection"])

    def _with_detection(self, detection: object) -> Settings:
        where = "session.audio.input.turn_detection"
        given = _object(detection, where, _DETECTION)
        if given.get("type", "server_vad") != "server_vad":
            raise invalid("turn_detection: give server_vad, or null to commit the sound yourself", where)
        numbers = {ours: given[name] for name, ours in _VAD.items() if given.get(name) is not None}
        if not all(is_finite(number) for number in numbers.values()):
            raise invalid("turn_detection: give numbers", where)
        try:
            found = replace(self.detection or TurnDetection(), **numbers)
        except InputError as error:
            raise invalid(str(error), where) from None
        switches = {name: bool(given[name]) for name in ("create_response", "interrupt_response") if name in given}
        return replace(self, detection=found, **switches)


def _object(value: object, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{where} is no object: give one with {', '.join(known)}", where)
    unknown = [str(name)[:40] for name in value if name not in known and value[name] is not None]
    if unknown:
        raise RequestError(
            422, f"{where}.{unknown[0]} has no effect here: known are {', '.join(known)}", "unknown_field", where
        )
    return value


def _check_format(value: object, where: str) -> None:
    if value is None or value == "pcm16":
        return
    if not isinstance(value, dict) or value.get("type") != "audio/pcm" or value.get("rate", 24_000) != 24_000:
        raise invalid("format: sound is audio/pcm of rate 24000 both ways", where)
