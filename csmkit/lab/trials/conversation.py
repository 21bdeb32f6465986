"""A recorded conversation: a user's side with known turns, held with certain settings of turn detection, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.live.conversation import LiveConversation
from csmkit.live.recorded import Conversation, Recording, SoundClock, converse
from csmkit.live.turn_detector import TurnDetection, TurnDetector
from csmkit.live.turn_times import moved_spans
from csmkit.llm.transformers import LLM
from csmkit.speech.base import SpeechGenerator

LEAD_S = 1.0  # silence before the first turn
CUT_MS = 150.0  # a turn that is ended earlier than this before its true end is cut off
TAIL_S = 8.0  # silence after the last turn, for its answer
FIGURES = ("end_to_audible_ms", "own_ms", "breaks_in", "barge_in_to_silence_ms", "played_ms")


@dataclass(frozen=True)
class UserTurn:
    """One turn of the user.

    Attributes:
        text: is spoken; at each " / " the speaker pauses for ``pause_s``.
        then_s: seconds of silence after it, in which the answer is heard; less than the answer takes breaks in.
        pause_s: seconds of silence at each " / ".
    """

    text: str
    then_s: float = 6.0
    pause_s: float = 0.4


@dataclass(frozen=True)
class UserSide:
    """The user's side of a conversation.

    Attributes:
        audio: ``(samples,)`` float32 at 24 kHz.
        ends_s: where each turn's speech begins and ends, in seconds of ``audio``.
    """

    audio: np.ndarray
    turns: tuple[UserTurn, ...]
    ends_s: tuple[tuple[float, float], ...]


def speak_user_side(generator: SpeechGenerator, turns: Sequence[UserTurn], *, seed: int = 0) -> UserSide:
    """Let a generator speak the user's turns as its speaker 1, one after the other.

    Args:
        seed: seed of the first piece; each later piece takes the next seed.
    """
    parts, ends_s = [_silence(LEAD_S)], []
    for turn in turns:
        pieces = []
        for piece in turn.text.split(" / "):
            spoken = _trimmed(generator.generate(piece, speaker=1, seed=seed).numpy())
            pieces += [spoken, _silence(turn.pause_s)]
            seed += 1
        sound, begin = np.concatenate(pieces[:-1]), sum(map(len, parts))
        ends_s.append((begin / SAMPLE_RATE, (begin + len(sound)) / SAMPLE_RATE))
        parts += [sound, _silence(turn.then_s)]
    return UserSide(np.concatenate(parts), tuple(turns), tuple(ends_s))


def hold_conversation(
    user: UserSide,
    generator: SpeechGenerator,
    llm: LLM | str,
    asr: StreamingWhisperASR,
    detection: TurnDetection | None = None,
    detector: TurnDetector | None = None,
) -> Conversation:
    """Hold a conversation with a recorded user on the clock of its sound; blocks, faster or slower than real time.

    The time that models need counts as processor time, so that a busy machine changes no figure.

    Args:
        generator: answers; warm it up before.
        llm: the chatbot's language model, an object or a plugin's name.
        asr: recognises the user; it stays open.
    """
    clock = SoundClock()
    chatbot = StreamingConversationalChatbot(generator=generator, llm=llm, asr=False, clock=clock)
    finder = detector or TurnDetector()
    if detection is not None:
        finder.detection = detection
    return converse(LiveConversation(chatbot, asr, finder, clock), Recording(user.audio, TAIL_S), clock)


def turn_rows(user: UserSide, held: Conversation, **columns: Any) -> list[dict[str, Any]]:
    """One row for each of the user's turns.

    Args:
        columns: are added to each row, such as ``silence_ms=500``.

    Returns:
        ``text`` (what was said), ``seed`` 0, ``heard`` (the recognised text, pieces joined), ``cut_off`` (1 where the
        turn was ended inside its speech, else 0), ``found`` (1 where its end was found), and the figures of the live
        row of the piece that ended it: ``end_to_audible_ms``, ``own_ms``, ``breaks_in``, ``barge_in_to_silence_ms``.
    """
    stops = [(event["turn"], event["audio_s"]) for event in held.events if event["type"] == "speech_stopped"]
    rows_of = {row["turn"]: row for row in held.rows()}
    texts = {event["turn"]: event["text"] for event in held.events if event["type"] == "user_text"}
    rows = []
    for turn, (begin_s, end_s) in zip(user.turns, user.ends_s, strict=True):
        inside = [number for number, at_s in stops if begin_s < at_s < end_s - CUT_MS / 1000]
        last = [number for number, at_s in stops if end_s - CUT_MS / 1000 <= at_s <= end_s + turn.then_s]
        final = rows_of.get(last[0], {}) if last else {}
        heard = " ".join(texts[number] for number in [*inside, *last[:1]] if number in texts)
        row = {"text": turn.text, "seed": 0, "heard": heard, "cut_off": int(bool(inside)), "found": int(bool(last))}
        rows.append({**columns, **row, **{name: final.get(name) for name in FIGURES}})
    return rows


def timeline_rows(held: Conversation) -> list[Any]:
    """The timeline of the first answered turn, in ms from the beginning of the user's speech.

    Returns:
        Rows for `csmkit.lab.plots.turn_timeline`, without the generator's frames, which another clock times.
    """
    done = next(event["spans"] for event in held.events if event["type"] == "turn_done")
    spans = [span for span in done if span["lane"] != "frames"]
    return moved_spans(spans, -min(span["start_ms"] for span in spans))


def both_sides(held: Conversation) -> np.ndarray:
    """What the microphone heard and what was played, added, ``(samples,)`` float32 at 24 kHz within [-1, 1]."""
    mixed = np.zeros(max(len(held.microphone), len(held.voice)), np.float32)
    for sound in (held.microphone, held.voice):
        mixed[: len(sound)] += 0.7 * sound
    return mixed.clip(-1, 1)


def with_silence(detection: TurnDetection, silence_ms: float) -> TurnDetection:
    """The settings with another silence; the probable end comes no later than it."""
    return replace(detection, silence_ms=silence_ms, probable_end_ms=min(detection.probable_end_ms, silence_ms))


def _silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def _trimmed(sound: np.ndarray, floor: float = 0.005) -> np.ndarray:
    """Without the quiet ends, so that pauses are as long as asked for."""
    loud = np.flatnonzero(np.abs(sound) > floor)
    return sound[loud[0] : loud[-1] + 1] if len(loud) else sound
