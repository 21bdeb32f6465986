"""What the voice hears of a conversation: both speakers, whole turns, and no more reading the longer it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import save_voice, tiny_csm
from watched_step import WatchedStep

from csmkit import Generator, Segment, StreamingConversationalChatbot
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.generator import FakeGenerator

FRAMES = 5
WAYS = {"max_audio_length_ms": 80 * FRAMES, "guards": None, "seed": 1}


@pytest.fixture
def voice(voice_directory: Path) -> Generator:
    """A tiny voice of 256 positions that always speaks to its limit."""
    generator = Generator.load(voice_directory, device="cpu")
    WatchedStep(generator)
    return generator


def chatbot(generator: Any, answers: list[str], **options: Any) -> StreamingConversationalChatbot:
    return StreamingConversationalChatbot(
        generator=generator, llm=FakeLLM(answers), asr=False, context_turns=1000, **(WAYS | options)
    )


def contexts(voice: Any) -> list[list[Segment]]:
    """Of every clause that a voice is asked for from now on."""
    seen: list[list[Segment]] = []
    speak = voice.speak

    def noting(request: Any, schedule: Any) -> Any:
        seen.append(list(request.context))
        return speak(request, schedule)

    voice.speak = noting
    return seen


def rows(segments: list[Segment]) -> int:
    """Positions of turns: bos, [0], letters, eos; their frames and the end frame."""
    return sum(5 + len(segment.text) + (segment.n_frames + 1 if segment.n_frames else 0) for segment in segments)


def test_both_speakers_are_heard_in_order_with_all_their_frames(voice: Generator):
    seen = contexts(voice)
    with chatbot(voice, ["Well, I do. It rains."]) as bot:
        list(bot.process_streaming("do you?"))
        list(bot.process_streaming("why?"))
    said = [(segment.speaker, segment.text, segment.n_frames) for segment in seen[-1]]
    assert said == [
        (1, "do you?", 0),
        (0, "Well, I do.", FRAMES),
        (0, "It rains.", FRAMES),
        (1, "why?", 0),
        (0, "Well, I do.", FRAMES),
    ]
    assert voice.prompts.n_rows(voice.request("It rains.", 0, seen[-1])) == rows(seen[-1]) + 5 + len("It rains.")


def test_spoken_words_are_heard_as_they_sounded(voice: Generator):
    seen = contexts(voice)
    asr = StreamingWhisperASR(transcriber=FakeTranscriber("how are you"))
    sound = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)
    with StreamingConversationalChatbot(
        generator=voice, llm=FakeLLM(["Fine."]), asr=asr, context_turns=3, **WAYS
    ) as bot:
        list(bot.process_streaming_audio(sound))
    (heard,) = seen[0]
    assert (heard.speaker, heard.text, heard.n_frames) == (1, "how are", 13)
    assert torch.equal(heard.audio, torch.from_numpy(sound))


def test_a_broken_off_clause_is_remembered_with_the_frames_that_were_heard(voice: Generator):
    seen = contexts(voice)
    with chatbot(voice, ["Well then, yes."], chunk_frames=2, max_audio_length_ms=2400) as bot:
        n_chunks = 0
        for event in bot.process_streaming("and?"):
            n_chunks += event["type"] == "audio_chunk"
            if n_chunks == 4:
                break
        list(bot.process_streaming("so?"))
    user, broken, *_ = seen[1]
    assert user.text == "and?" and broken.n_frames == 8, "of 30"
    assert "Well then,".startswith(broken.text)


def test_a_conversation_that_outgrows_the_voice_loses_whole_oldest_turns(voice: Generator):
    seen = contexts(voice)
    with chatbot(voice, ["Hello there.", "It rains."], voice=[Segment(0, "Me.", torch.zeros(3840))]) as bot:
        for number in range(40):
            list(bot.process_streaming(f"now {chr(97 + number % 26)}?"))
        assert len(bot.history) == 80
    for context in seen:
        assert context[0].text == "Me." and rows(context) + 20 + FRAMES <= 256
    last = [segment.text for segment in seen[-1]]
    assert last[-1] == "now n?" and len(last) > 8
    answers = ["Hello there.", "It rains."]
    said = [(f"now {chr(97 + number % 26)}?", answers[number % 2]) for number in range(40)]
    everything = [text for turn in said for text in turn]
    assert last[1:] == everything[-len(last) : -1], "an end of the conversation, without a hole"


def test_a_long_conversation_reads_no_more_for_its_next_turn_than_a_short_one(tmp_path: Path):
    voice = Generator.load(save_voice(tiny_csm(max_positions=1024), tmp_path), device="cpu")
    step, read = WatchedStep(voice), []
    with chatbot(voice, ["Hello there."]) as bot:
        for number in range(60):
            before = step.n_rows
            list(bot.process_streaming(f"now {chr(97 + number % 26)}?"))
            read.append(step.n_rows - before)
    new = rows([Segment(1, "now a?"), Segment(0, "Hello there.", codes=torch.ones(3, FRAMES, dtype=torch.int64))])
    most = new + 5 + len("Hello there.")
    again = [n for n in read if n > most]
    assert 0 < len(again) <= 60 / 8, "now and then the oldest third is dropped and the rest read again"
    assert np.median(read[30:]) <= most and max(read) <= 0.75 * 1024


def test_what_is_forgotten_by_the_voice_stays_in_the_history_and_a_reset_forgets_all(voice: Generator):
    seen = contexts(voice)
    with chatbot(voice, ["Hello there."]) as bot:
        for _ in range(12):
            list(bot.process_streaming("and now?"))
        assert len(bot.history) == 24 and len(seen[-1]) < 23
        bot.reset()
        list(bot.process_streaming("again?"))
        list(bot.process_streaming("and again?"))
    assert [segment.text for segment in seen[-1]] == ["again?", "Hello there.", "and again?"]


def test_no_turns_asked_for_means_none_not_even_this_one():
    generator = FakeGenerator()
    with StreamingConversationalChatbot(generator=generator, llm=FakeLLM(["One, two. Three."]), asr=False) as bot:
        for _ in range(3):
            list(bot.process_streaming("Hi"))
    assert all(request.context == () for request in generator.requests)
