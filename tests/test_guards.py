"""Speech that runs away is stopped and says why; speech that is merely slow, or pauses, is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runaway import ScriptedVoice, cycle, loud, pause, voice_of

from csmkit import Generator, Guards
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import InputError
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.guards import spoken_letters

FRAME = 1920
MINUTE = {"max_audio_length_ms": 60_000}
SIZES = (1, 2, 5, 6, 1000, (1, 2, 4, 6))
TAIL, SILENCE, LEADING, REPEATS = 10, 30, 50, 30  # frames that the default limits are


def said_in_any_chunks(voice: ScriptedVoice, text: str = "Hello there.", **asked: Any) -> tuple[torch.Tensor, str]:
    """What a voice says, which must not depend on the chunk size, and why it ended. Codes and sound must agree."""
    stream = voice.generate_streaming(text, **MINUTE, **asked)
    whole, reason = torch.cat(list(stream)), stream.finish_reason
    for chunk_frames in SIZES:
        voice.codec.n_calls = 0
        stream = voice.generate_streaming(text, chunk_frames=chunk_frames, **MINUTE, **asked)
        chunks = list(stream)
        assert torch.equal(torch.cat(chunks), whole), f"chunk_frames={chunk_frames}"
        assert all(len(chunk) == len(chunks[0]) for chunk in chunks[:-1]) or not isinstance(chunk_frames, int)
        assert stream.finish_reason == reason
        assert stream.n_frames == stream.codes.shape[1] == len(whole) // FRAME
        assert voice.codec.n_calls == voice.n_made and voice.n_open == 0
    return whole, reason


def test_a_silence_that_does_not_end_is_cut_to_its_tail():
    voice = voice_of(20, pause(1000))
    audio, reason = said_in_any_chunks(voice)
    assert reason == "silence" and len(audio) == (20 + TAIL) * FRAME
    assert voice.n_made == 20 + SILENCE, "nothing is made beyond the limit"


def test_a_voice_that_never_begins_is_stopped_at_the_longer_limit():
    voice = voice_of(pause(1000))
    audio, reason = said_in_any_chunks(voice)
    assert reason == "silence" and len(audio) == TAIL * FRAME
    assert voice.n_made == LEADING


def test_a_late_start_and_a_click_before_it_are_not_the_end():
    for parts in ((pause(LEADING - 1), 5), (1, pause(SILENCE + 5), 5), (1, pause(SILENCE, same=True), 5)):
        audio, reason = said_in_any_chunks(voice_of(*parts))
        assert reason == "end_of_speech"
        assert torch.equal(audio, voice_of(*parts).generate("Hello there.", guards=None, **MINUTE))


def test_a_pause_comes_out_whole_once_it_is_over_and_only_its_tail_before():
    voice = voice_of(20, pause(SILENCE - 1), 5)
    stream = voice.generate_streaming("Hello there.", chunk_frames=1, **MINUTE)
    made = []
    for _ in stream:
        made.append(voice.n_made)
    at_once = 20 + TAIL
    assert made[:at_once] == list(range(1, at_once + 1))
    assert made[at_once : 20 + SILENCE] == [20 + SILENCE] * (SILENCE - TAIL), "with the first sound after it"
    assert len(made) == 20 + SILENCE - 1 + 5 and stream.finish_reason == "end_of_speech"


def test_silence_before_an_end_of_its_own_is_part_of_the_speech():
    for n_frames in (TAIL, TAIL + 1, SILENCE - 1):
        audio, reason = said_in_any_chunks(voice_of(20, pause(n_frames)))
        assert reason == "end_of_speech" and len(audio) == (20 + n_frames) * FRAME


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_a_cycle_of_frames_is_left_when_it_has_only_repeated_itself(length: int):
    voice = voice_of(20, cycle(length))
    audio, reason = said_in_any_chunks(voice, "Hello there, this text is long enough.")
    assert reason == "repetition"
    assert len(audio) // FRAME == voice.n_made == 20 + length + REPEATS


def test_codes_alone_tell_a_repetition_and_the_length_but_no_silence():
    voice = voice_of(20, cycle(3))
    frames = voice.frames("Hello there, this text is long enough.", **MINUTE)
    assert len(list(frames)) == 20 + 3 + REPEATS and frames.finish_reason == "repetition" and voice.n_open == 0
    voice = voice_of(pause(1000))
    frames = voice.frames("Hello", **MINUTE)
    assert len(list(frames)) == Guards().budget_frames("Hello") and frames.finish_reason == "max_length"


def test_words_said_again_and_long_cycles_are_no_repetition():
    text = "No, no, no! " * 3 + "Very, very, very, very well, and so on and on and on."
    for parts in ((5, cycle(7, 7 * 4), 5), (5, cycle(1, REPEATS), 5), (cycle(13, 13 * 8),)):
        assert said_in_any_chunks(voice_of(*parts), text)[1] == "end_of_speech"
    short = Guards(repetition_ms=80)
    assert len(voice_of(cycle(6)).generate("Hello", guards=short, **MINUTE)) == 18 * FRAME, "three times at least"


def test_a_pause_of_equal_frames_is_a_pause():
    for parts in ((pause(LEADING - 1, same=True), 20), (20, pause(SILENCE - 1, same=True), 5)):
        audio, reason = said_in_any_chunks(voice_of(*parts))
        assert reason == "end_of_speech" and len(audio) // FRAME == sum(1 for _ in voice_of(*parts).script())
    assert said_in_any_chunks(voice_of(20, pause(1000, same=True)))[1] == "silence"


def test_a_voice_that_rambles_on_is_stopped_by_the_length_of_its_text():
    for text in ("Yes.", "Hello there.", "It is ten thirty."):
        voice = voice_of(2000)
        audio, reason = said_in_any_chunks(voice, text)
        assert reason == "max_length" and len(audio) // FRAME == voice.n_made == Guards().budget_frames(text)


def test_a_text_may_take_twice_as_long_as_people_need():
    for text in ("No.", "Well, I think so too.", "Of course we could go there on foot, if the weather is fine."):
        assert Guards().budget_frames(text) * 0.08 > 2 * len(text) / 12 + 2
    assert spoken_letters("ten  past \n ten") == len("ten past ten")
    assert spoken_letters("10%") == spoken_letters("BBC") == 18, "what may be spelled out counts as words"
    assert Guards(letters_per_s=1000, spare_ms=0).budget_frames("a") == 1


def slow_speech() -> Iterator[list[int]]:
    """Sixty words a minute: half a second of held vowel a word, then as much silence; a long pause for a breath."""
    for word in range(16):
        yield from (loud(10 * word + min(i, 2)) for i in range(7))
        yield from pause(25 if word == 8 else 5, same=True)()


@pytest.mark.parametrize("guards", [Guards(), Guards(tail_ms=0), Guards(tail_ms=60_000)])
def test_a_slow_speaker_is_not_cut(guards: Guards):
    text = "Let us now take a long and very deep breath, and then let it all go."
    assert len(text.split()) == 16
    audio, reason = said_in_any_chunks(ScriptedVoice(slow_speech), text, guards=guards)
    assert reason == "end_of_speech"
    assert torch.equal(audio, ScriptedVoice(slow_speech).generate(text, guards=None, **MINUTE))


@pytest.mark.parametrize("parts", [(20, pause(2000)), (pause(2000),), (20, cycle(1)), (2000,)])
@pytest.mark.parametrize("off", [None, Guards.off()])
def test_without_guards_all_of_it_is_heard(parts: tuple[Any, ...], off: Guards | None):
    voice = voice_of(*parts)
    stream = voice.generate_streaming("Hello", max_audio_length_ms=12_000, guards=off)
    assert sum(map(len, stream)) == 150 * FRAME
    assert stream.finish_reason == "max_length"


def test_each_guard_can_be_turned_off_alone():
    asked = {"text": "Hello", "max_audio_length_ms": 12_000}
    for parts, off in (
        ((20, pause(2000)), {"silence_ms": None}),
        ((pause(2000),), {"leading_silence_ms": None}),
        ((20, cycle(1)), {"repetition_ms": None}),
        ((2000,), {"letters_per_s": None}),
    ):
        voice = voice_of(*parts)
        guards = replace(Guards(letters_per_s=None), **off)
        stream = voice.generate_streaming(guards=guards, **asked)
        assert sum(map(len, stream)) == 150 * FRAME
        assert stream.finish_reason == "max_length" and voice.n_made == 150, off


def test_a_pause_that_may_last_is_not_kept_back():
    stream = voice_of(20, pause(100)).generate_streaming("Hi there.", guards=Guards(silence_ms=None), chunk_frames=1)
    assert all(len(chunk) == FRAME and stream.n_frames == number for number, chunk in enumerate(stream, start=1))


def test_a_level_of_its_own_makes_a_quiet_voice_heard():
    voice = voice_of(pause(60), 5)
    stream = voice.generate_streaming("Hello there.", guards=Guards(silence_dbfs=-70), **MINUTE)
    assert sum(map(len, stream)) == 65 * FRAME
    assert stream.finish_reason == "end_of_speech"


def test_closing_in_a_pause_frees_the_voice_and_is_an_interruption():
    voice = voice_of(6, pause(1000))
    stream = voice.generate_streaming("Hello there.", chunk_frames=TAIL + 6, **MINUTE)
    assert len(next(stream)) == (TAIL + 6) * FRAME
    assert voice.n_open == 1
    stream.close()
    assert voice.n_open == 0 and stream.finish_reason == "interrupted"
    assert list(stream) == []


def test_a_real_engine_says_the_same_with_guards_and_without(voice_directory: Path):
    generator = Generator.load(voice_directory, device="cpu")
    asked = {"text": "Hello there, how are you?", "max_audio_length_ms": 800, "seed": 7}
    whole = generator.generate(guards=None, **asked)
    for chunk_frames in (1, 3, 11):
        chunks = list(generator.generate_streaming(chunk_frames=chunk_frames, **asked))
        assert torch.equal(torch.cat(chunks), whole)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"letters_per_s": 0}, "letters_per_s=0: give letters a second above 0, or None"),
        ({"letters_per_s": float("nan")}, "letters_per_s=nan"),
        ({"spare_ms": -1}, "spare_ms=-1: give milliseconds of at least 0"),
        ({"tail_ms": None}, "tail_ms=None"),
        ({"repetition_ms": 79}, "repetition_ms=79: give at least one frame, 80 ms, or None for no limit"),
        ({"silence_ms": "long"}, "silence_ms='long'"),
        ({"leading_silence_ms": float("inf")}, "leading_silence_ms=inf"),
        ({"cycle_frames": 0}, "cycle_frames=0: give a number of frames of at least 1"),
        ({"cycle_frames": 1.5}, r"cycle_frames=1\.5"),
        ({"silence_dbfs": 0}, "silence_dbfs=0: give decibels below 0, such as -50"),
        ({"silence_dbfs": True}, "silence_dbfs=True"),
    ],
)
def test_limits_that_cannot_be_are_refused(limits: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Guards(**limits)


def test_what_is_no_guards_is_refused_at_the_call():
    with pytest.raises(InputError, match=r"guards of type str: give Guards\(\), with what you change"):
        voice_of(3).frames("hello", guards="on")
    with pytest.raises(InputError, match="guards of type bool"):
        StreamingConversationalChatbot(generator="fake", llm="fake", asr=False, guards=True)


def talk(voice: ScriptedVoice, answer: str, **changes: Any) -> tuple[StreamingConversationalChatbot, list[Any]]:
    """A chatbot with one turn behind it, and the turn's events."""
    chatbot = StreamingConversationalChatbot(
        generator=voice, llm=FakeLLM([answer]), asr=False, max_audio_length_ms=60_000, **changes
    )
    return chatbot, list(chatbot.process_streaming("Hi"))


def test_the_chatbot_tells_why_an_answer_was_stopped():
    chatbot, events = talk(voice_of(20, pause(1000)), "Hello there.")
    assert events[-1]["finish_reason"] == events[-1]["metrics"]["finish_reason"] == "silence"
    assert sum(len(event["data"]) for event in events if event["type"] == "audio_chunk") == (20 + TAIL) * FRAME
    assert chatbot.history[-1]["content"] == "Hello there."
    _, events = talk(voice_of(200), "Hello there.", guards=None)
    assert events[-1]["finish_reason"] == "end_of_speech"


def test_an_answer_of_mere_silence_was_not_said():
    chatbot, events = talk(voice_of(pause(1000)), "Hello there.")
    assert events[-1]["finish_reason"] == "silence" and chatbot.history == []


def test_a_voice_that_got_stuck_does_not_hear_itself_again():
    voice = voice_of(20, cycle(2))
    chatbot, events = talk(voice, "Hello there.", context_turns=3)
    assert events[-1]["finish_reason"] == "repetition"
    voice.script = voice_of(20).script
    assert list(chatbot.process_streaming("And now?"))[-1]["finish_reason"] == "end_of_speech"
    assert [segment.text for segment in voice.requests[-1].context] == ["Hi", "And now?"]
