"""Talk without a browser: what it does with frames, what it shows of events, what it says where nothing is heard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from lab_server import kernel_environment, need

need("anywidget", "ipykernel", "nbclient", "faster_whisper")
import nbclient
from talk_script import make_script

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import AudioFileError, CheckpointNotFoundError, StateError
from csmkit.lab.notebook import Talk
from csmkit.lab.notebook.talk import HINT, NO_ANSWER
from csmkit.lab.notebook.talk_text import TalkText
from csmkit.live.turn_detector import TurnDetector
from csmkit.live.voice_activity import LoudnessActivity
from csmkit.speech.generator import FakeGenerator

RATE = 24_000


def speech(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Models without weights; whatever is loud is speech."""
    chatbot = StreamingConversationalChatbot(generator=FakeGenerator(), llm="fake", asr=False)
    asr = StreamingWhisperASR("fake", transcriber=FakeTranscriber("one two three four", word_s=0.2))
    talk = Talk(chatbot=chatbot, asr=asr, make_detector=lambda wanted: TurnDetector(wanted, LoudnessActivity()))
    sent: list[dict[str, Any]] = []
    talk.widget.send = lambda message, buffers=None: sent.append({**message, "buffers": buffers})
    talk.sent = sent
    yield talk
    talk.close()
    asr.close()
    chatbot.close()


def test_a_recording_is_answered_and_the_answer_is_sent_to_the_browser(talk: Talk) -> None:
    (row,) = talk.say(np.concatenate([speech(0.8), np.zeros(RATE, np.float32)]))
    (turn,) = talk.turns
    assert turn["user"] == row["user_text"] == "one two three four"
    assert turn["user_final"] and turn["voice"] and not turn["interrupted"]
    assert turn["latency_ms"] == row["end_to_audible_ms"] is not None
    kinds = [message["type"] for message in talk.sent if message["type"] in ("begin", "chunk", "end")]
    assert kinds[0] == "begin" and kinds[-1] == "end" and set(kinds[1:-1]) == {"chunk"}
    chunks = [np.frombuffer(message["buffers"][0], "<f4") for message in talk.sent if message["type"] == "chunk"]
    np.testing.assert_array_equal(np.concatenate(chunks), talk.answers[0])
    assert not talk.running and len(talk.spans) == 1


def test_frames_of_a_browser_come_as_16_bit_samples_at_its_own_rate(talk: Talk) -> None:
    talk.start()
    stopped = threading.Event()
    talk.widget.observe(lambda change: change["new"]["speaker"] == "thinking" and stopped.set(), "shown")
    sound = np.concatenate([speech(0.8), np.zeros(RATE, np.float32)])
    at_44100 = np.repeat(sound, 2)[: len(sound) * 441 // 240]
    for first in range(0, len(at_44100), 1764):
        frame = (at_44100[first : first + 1764] * 32_767).astype("<i2")
        message = {"type": "frame", "rate": 44_100, "play": 0, "played_ms": None}
        talk.widget.receive(message, [memoryview(frame.tobytes())])
    assert stopped.wait(30)
    assert talk.turns[0]["turn"] == 1


def test_a_conversation_is_started_once_and_stopped_as_often_as_one_likes(talk: Talk) -> None:
    talk.start()
    with pytest.raises(StateError, match="stop it first"):
        talk.start()
    talk.stop()
    talk.stop()
    talk.start()
    assert talk.running and talk.widget.shown["ready"]


def test_a_model_that_cannot_be_loaded_is_named_in_the_widget_too() -> None:
    talk = Talk("pocket", whisper="nowhere")
    with pytest.raises(CheckpointNotFoundError, match="no Whisper model 'nowhere'"):
        talk.start()
    assert talk.widget.shown["message"].startswith("no Whisper model 'nowhere'") and not talk.running
    talk.close()


def test_a_recording_that_is_not_there_is_named(talk: Talk, tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no sound file at"):
        talk.say(tmp_path / "nothing.wav")


def test_the_limits_of_the_bundled_recogniser_are_said_with_the_remedy() -> None:
    talk = Talk("pocket")
    assert talk.widget.shown["hint"] == HINT and "Talk(whisper=" in HINT
    assert not Talk("sesame").widget.shown["hint"]
    talk.close()


def event(kind: str, turn: int = 1, **content: Any) -> dict[str, Any]:
    return {"type": kind, "turn": turn, "time_s": 0.0, **content}


def test_the_text_of_an_interrupted_answer_is_what_was_played() -> None:
    text = TalkText()
    for one in (
        event("speech_started", audio_s=0.0),
        event("user_partial", text="hel", committed=""),
        event("user_text", text="hello"),
        event("llm_delta", text="Good morning. "),
        event("llm_delta", text="And good bye."),
        event("audio_chunk", data=None),
        event("interrupted", played_ms=10.0, text="Good morning."),
        event("speech_started", 2, audio_s=1.0),
    ):
        text.take(one)
    first, second = text.turns
    assert (first["user"], first["user_final"]) == ("hello", True)
    assert first["voice"] == "Good morning." and first["interrupted"]
    assert second["voice"] == "" and text.shown()["speaker"] == "user"


def test_a_turn_without_a_word_leaves_no_line() -> None:
    text = TalkText()
    text.take(event("speech_started", audio_s=0.0))
    assert text.open_turns
    text.take(event("nothing_heard"))
    assert not text.turns and not text.open_turns and text.shown()["speaker"] == "nobody"


def test_the_bundled_models_hold_a_spoken_conversation() -> None:
    script = make_script((("hello, how are you?", 0.5),))
    talk = Talk("pocket")
    (row,) = talk.say(script.audio)
    assert "how are you" in row["user_text"]
    assert talk.turns[0]["voice"] and len(talk.answers[0]) > 12_000
    talk.close()


def test_a_notebook_without_a_browser_says_what_to_do(tmp_path: Path) -> None:
    cells = ["from csmkit.lab.notebook import Talk\nimport time", "talk = Talk('pocket')\ntalk", "time.sleep(3)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=200, kernel_name="python3").execute(env=kernel_environment(tmp_path))
    assert notebook.cells[1].outputs[0].data["text/plain"] == NO_ANSWER
