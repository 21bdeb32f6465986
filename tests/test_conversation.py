"""Spoken input, and conversations that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from csmkit import Segment
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.audio import write
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.chat.conversation import load_conversation, save_conversation
from csmkit.errors import AudioFileError, CheckpointError, CheckpointNotFoundError, InputError
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.base import FakeGenerator


def chatbot(script: str = "how are you today", **options) -> StreamingConversationalChatbot:
    asr = StreamingWhisperASR("fake", transcriber=FakeTranscriber(script))
    return StreamingConversationalChatbot(generator=FakeGenerator(), llm=FakeLLM(), asr=asr, **options)


def sound(seconds: float = 1.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(int(24_000 * seconds))).astype(np.float32)


def test_what_is_said_aloud_is_heard_and_answered():
    with chatbot(context_turns=1) as bot:
        events = list(bot.process_streaming_audio(sound()))
        heard = events[0]
        assert heard["type"] == "heard" and heard["text"]
        assert {event["turn_id"] for event in events} == {heard["turn_id"]}
        assert events[-1]["type"] == "complete" and events[-1]["finish_reason"] == "end_of_speech"
        assert bot.history[0] == {"role": "user", "content": heard["text"]}
        assert bot.llm.seen[0][-1]["content"] == heard["text"]
        user = bot.generator.requests[0].context[0]
        assert user.speaker == 1 and user.text == heard["text"] and user.n_frames == 13, "the voice hears the user, too"


def test_a_file_of_another_rate_is_as_good(tmp_path: Path):
    write(tmp_path / "said.wav", sound(0.5)[:8_000], 16_000)
    with chatbot() as bot:
        assert next(bot.process_streaming_audio(tmp_path / "said.wav"))["type"] == "heard"
        assert next(bot.process_streaming_audio(sound()[:16_000], 16_000))["type"] == "heard"


def test_silence_is_told_and_leaves_no_trace():
    with chatbot(script="") as bot:
        events = list(bot.process_streaming_audio(np.zeros(24_000, dtype=np.float32)))
        assert [event["type"] for event in events] == ["heard", "complete"]
        assert events[0]["text"] == "" and events[1]["finish_reason"] == "nothing_heard"
        assert events[1]["time_to_first_audio"] is None
        assert bot.history == [] and bot.llm.seen == []
        assert [event["type"] for event in bot.process_streaming("Hello")][-1] == "complete", "the next turn works"


def test_sound_that_cannot_be_used_is_refused_at_the_call(tmp_path: Path):
    with chatbot() as bot:
        with pytest.raises(AudioFileError, match="no sound file"):
            bot.process_streaming_audio(tmp_path / "nothing.wav")
        with pytest.raises(InputError, match="NaN"):
            bot.process_streaming_audio(np.full(2_400, np.nan, dtype=np.float32))
    deaf = StreamingConversationalChatbot(generator=FakeGenerator(), llm=FakeLLM(), asr=False)
    with pytest.raises(InputError, match="no recogniser"):
        deaf.process_streaming_audio(sound())


def test_a_conversation_goes_on_where_it_was_saved(tmp_path: Path):
    with chatbot(context_turns=2, seed=1) as bot:
        list(bot.process_streaming("Hello"))
        list(bot.process_streaming_audio(sound()))
        bot.save(tmp_path / "talk")
        history = list(bot.history)
        list(bot.process_streaming("And now?"))
        expected = bot.generator.requests[-1].context
    with chatbot(context_turns=2, seed=1) as bot:
        bot.load(tmp_path / "talk")
        assert bot.history == history
        list(bot.process_streaming("And now?"))
        context = bot.generator.requests[-1].context
    assert [(s.speaker, s.text, s.n_frames) for s in context[:3]] == [
        (s.speaker, s.text, s.n_frames) for s in expected[:3]
    ]


def test_sound_and_codes_come_back_as_they_were(tmp_path: Path):
    codes = torch.arange(12).view(4, 3)
    turns = [[Segment(1, "hi"), Segment(0, "hello", codes=codes)], [Segment(1, "well", sound(0.2))]]
    save_conversation(tmp_path, [{"role": "user", "content": "hi ü"}], turns)
    history, again = load_conversation(tmp_path)
    assert history == [{"role": "user", "content": "hi ü"}]
    assert torch.equal(again[0][1].codes, codes) and again[0][0].n_frames == 0
    assert np.array_equal(again[1][0].audio, sound(0.2))


def test_what_is_no_conversation_is_named(tmp_path: Path):
    with chatbot() as bot:
        list(bot.process_streaming("Hello"))
        with pytest.raises(CheckpointNotFoundError, match="give a folder that save"):
            bot.load(tmp_path / "nowhere")
        bot.save(tmp_path / "talk")
        (tmp_path / "talk" / "conversation.json").write_text('{"format": 1, "history": [], "turns": [[{"text": 1}]]}')
        with pytest.raises(CheckpointError, match="damaged"):
            bot.load(tmp_path / "talk")
        save_conversation(tmp_path / "other", [], [[Segment(0, "hi", codes=torch.full((32, 2), 2**20))]])
        with pytest.raises(CheckpointError, match="codes of another codec: load it into a chatbot with the voice"):
            bot.load(tmp_path / "other")
        (tmp_path / "taken" / "sound.safetensors").mkdir(parents=True)
        with pytest.raises(InputError, match="cannot save the conversation"):
            bot.save(tmp_path / "taken")
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot save the conversation"):
            bot.save(tmp_path / "file" / "talk")
        assert len(bot.history) == 2
