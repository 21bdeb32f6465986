"""A device that is too small says so by name, and says what to lower; the next call works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from faster_whisper import WhisperModel
from watched_step import WatchedStep

from csmkit import Generator
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import DeviceError, DeviceMemoryError, TranscriptionError
from csmkit.llm.transformers import FakeLLM, TransformersLLM
from csmkit.speech.generator import FakeGenerator

CUDA_SAYS = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 15 GiB"
ADVICE = "lower max_audio_length_ms .* smaller Whisper .* memory fraction"


def full(*given: Any, **how: Any) -> Any:
    raise torch.OutOfMemoryError(CUDA_SAYS)


@pytest.fixture
def voice(voice_directory: Any) -> Generator:
    return Generator.load(voice_directory, device="cpu")


def test_a_step_without_memory_ends_in_a_named_error_that_says_what_to_lower(voice: Generator):
    whole = voice.generate("hi", seed=0, max_audio_length_ms=800, guards=None)
    step = WatchedStep(voice)
    step.set(4, full)
    stream = voice.generate_streaming("hi", seed=0, max_audio_length_ms=800, chunk_frames=1, guards=None)
    with pytest.raises(DeviceMemoryError, match=ADVICE) as raised:
        list(stream)
    assert isinstance(raised.value, DeviceError) and isinstance(raised.value, MemoryError)
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    assert "while making a frame (CUDA out of memory. Tried to allocate 2.00 GiB.)" in str(raised.value)
    assert stream.finish_reason == "interrupted" and stream.n_frames == 3
    assert torch.equal(voice.generate("hi", seed=0, max_audio_length_ms=800, guards=None), whole)


def test_a_prompt_that_does_not_fit_is_the_same_error(voice: Generator):
    WatchedStep(voice).read = full  # type: ignore[method-assign]
    with pytest.raises(DeviceMemoryError, match=ADVICE):
        voice.generate("hi")


def test_a_codec_without_memory_is_the_same_error():
    class Full:
        def decode(self, codes: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError(CUDA_SAYS)

    voice = FakeGenerator()
    voice.codec.stream = Full  # type: ignore[method-assign]
    with pytest.raises(DeviceMemoryError, match=f"while decoding a frame .*{ADVICE}"):
        voice.generate("hi")


def test_a_turn_without_memory_fails_by_that_name_and_the_next_one_works():
    class Full(FakeLLM):
        def stream(self, messages: Any) -> Any:
            yield from ()
            raise DeviceMemoryError.during("the language model wrote", torch.OutOfMemoryError(CUDA_SAYS))

    asr = StreamingWhisperASR(transcriber=FakeTranscriber())
    with StreamingConversationalChatbot(generator=FakeGenerator(), llm=Full(), asr=asr) as chatbot:
        with pytest.raises(DeviceMemoryError, match=ADVICE):
            list(chatbot.process_streaming("Hi"))
        chatbot.llm = FakeLLM()
        assert list(chatbot.process_streaming("Hi"))[-1]["finish_reason"] == "end_of_speech"


def test_whisper_without_memory_is_the_same_error_and_the_speech_goes_on(monkeypatch: pytest.MonkeyPatch):
    def too_small(*given: Any) -> Any:
        raise RuntimeError("CUDA failed with error out of memory")

    monkeypatch.setattr(WhisperModel, "encode", too_small)
    noise = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    with pytest.raises(DeviceMemoryError, match=f"while transcribing .*{ADVICE}"):
        WhisperTranscriber("tiny.en").transcribe(noise, final=True)
    with StreamingWhisperASR("tiny.en") as asr:
        asr.start_processing()
        asr.put_audio_chunk(noise)
        asr.finish()
        with pytest.raises(TranscriptionError, match=ADVICE) as raised:
            asr.get_final()
    assert isinstance(raised.value.__cause__, DeviceMemoryError)


def test_a_voice_that_does_not_fit_its_device_is_the_same_error(monkeypatch: pytest.MonkeyPatch, voice_directory: Any):
    monkeypatch.setattr("csmkit.speech.generator.build_model", full)
    with pytest.raises(DeviceMemoryError, match="while loading the voice on cpu"):
        Generator.load(voice_directory, device="cpu")


def test_a_language_model_without_memory_is_the_same_error(monkeypatch: pytest.MonkeyPatch):
    model = TransformersLLM("pocket")
    asked = [{"role": "user", "content": "Hello!"}]
    with monkeypatch.context() as patched:
        patched.setattr(model.model, "forward", full)
        with pytest.raises(DeviceMemoryError, match=f"while the language model wrote .*{ADVICE}"):
            list(model.stream(asked))
    assert "".join(model.stream(asked))
