"""An answer is kept as far as its listener has played it, while it is being made and after. All parts are fakes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import InputError, StateError
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.base import FakeGenerator

ANSWER = "Well of course, I can help you with that today. Shall we begin at once?"
FRAME_MS = 80
WORD_MS = 2 * FRAME_MS  # the fake speaks two frames a word


@pytest.fixture
def chatbot() -> Iterator[StreamingConversationalChatbot]:
    with StreamingConversationalChatbot(
        generator=FakeGenerator(), llm=FakeLLM([ANSWER]), asr=False, context_turns=1
    ) as chatbot:
        yield chatbot


def test_an_answer_that_is_complete_is_cut_to_the_words_that_were_played(chatbot: StreamingConversationalChatbot):
    list(chatbot.process_streaming("Can you help me?"))
    assert chatbot.history[-1]["content"] == ANSWER
    assert chatbot.truncate(3 * WORD_MS) == "Well of course,"
    assert chatbot.history == [
        {"role": "user", "content": "Can you help me?"},
        {"role": "assistant", "content": "Well of course,"},
    ]


def test_the_voice_goes_on_from_the_frames_that_were_played(chatbot: StreamingConversationalChatbot):
    list(chatbot.process_streaming("Can you help me?"))
    chatbot.truncate(3 * WORD_MS + 5 * FRAME_MS)
    events = list(chatbot.process_streaming("Go on."))
    assert events[-1]["finish_reason"] == "end_of_speech"
    spoken = [segment for segment in chatbot.generator.requests[-1].context if segment.speaker == 0]
    assert [segment.n_frames for segment in spoken[:2]] == [6, 5]


def test_a_later_report_of_the_listener_replaces_an_earlier_one(chatbot: StreamingConversationalChatbot):
    list(chatbot.process_streaming("Can you help me?"))
    assert chatbot.truncate(0) == "" and chatbot.history == []
    assert chatbot.truncate(60_000) == ANSWER
    assert [message["content"] for message in chatbot.history] == ["Can you help me?", ANSWER]


def test_an_answer_that_is_still_being_made_is_cut_when_it_ends(chatbot: StreamingConversationalChatbot):
    for event in chatbot.process_streaming("Can you help me?"):
        if event["type"] == "audio_chunk" and event["chunk_num"] == 2:
            chatbot.truncate(3 * WORD_MS)
            chatbot.interrupt()
    assert chatbot.history[-1]["content"] == "Well of course,"


def test_an_answer_of_which_nothing_was_played_leaves_no_trace(chatbot: StreamingConversationalChatbot):
    list(chatbot.process_streaming("First."))
    for event in chatbot.process_streaming("Second."):
        if event["type"] == "audio_chunk":
            chatbot.truncate(0)
            break
    assert [message["content"] for message in chatbot.history] == ["First.", ANSWER]


def test_truncating_says_what_it_takes(chatbot: StreamingConversationalChatbot):
    with pytest.raises(StateError, match="no answer to truncate"):
        chatbot.truncate(0)
    list(chatbot.process_streaming("Hi"))
    for wrong in (-1, float("nan"), "soon"):
        with pytest.raises(InputError, match="milliseconds of the answer that were played"):
            chatbot.truncate(wrong)  # type: ignore[arg-type]
    chatbot.reset()
    with pytest.raises(StateError, match="no answer to truncate"):
        chatbot.truncate(0)


def test_what_the_user_said_aloud_is_heard_by_the_voice_and_not_recognised_again(
    chatbot: StreamingConversationalChatbot,
):
    sound = np.full(24_000, 0.1, np.float32)
    events = list(chatbot.process_streaming("Can you help me?", user_audio=sound))
    assert "heard" not in {event["type"] for event in events}
    (segment,) = [segment for segment in chatbot.generator.requests[0].context if segment.speaker == 1]
    assert segment.text == "Can you help me?" and len(segment.audio) == 24_000
