"""The bundled models: each an ordinary checkpoint that its own library loads, and together they really talk."""

from __future__ import annotations

import json
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from csmkit.asr.directory import NAMES, resolve
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.asr.windows import transcribe_long
from csmkit.audio import SAMPLE_RATE, read, resample
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.lab.metrics.words import word_error_rate
from csmkit.llm.transformers import TransformersLLM
from csmkit.speech.generator import Generator, Segment

POCKET = Path(str(files("csmkit"))) / "pocket"
TEXTS = Path(__file__).parents[1] / "experiments/pocket/text"
HELD_OUT = (TEXTS / "held_out.txt").read_text().splitlines()
SENTENCES = ("good morning, how are you today?", "the weather is nice and warm.", "would you like a cup of tea?")

written_by_transformers_5 = pytest.mark.skipif(
    transformers.__version__ < "5", reason="transformers 4 alone does not know the names that 5 writes; csmkit does"
)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.load("pocket", device="cpu")


@pytest.fixture(scope="module")
def base() -> WhisperTranscriber:
    return WhisperTranscriber(resolve("base.en"))


def heard(whisper: WhisperTranscriber, audio: torch.Tensor | np.ndarray) -> str:
    return transcribe_long(whisper, resample(np.asarray(audio), SAMPLE_RATE, 16_000), final=True).text


def test_everything_bundled_stays_small():
    assert sum(path.stat().st_size for path in POCKET.rglob("*") if path.is_file()) <= 60e6


@written_by_transformers_5
def test_the_voice_loads_in_plain_transformers_and_says_the_same(generator: Generator):
    from transformers import CsmForConditionalGeneration

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, info = CsmForConditionalGeneration.from_pretrained(
            POCKET / "voice", output_loading_info=True, dtype=torch.float32
        )
    assert not info["missing_keys"] and not info["mismatched_keys"]
    text = "hello there, how are you?"
    ids = json.loads((POCKET / "voice" / "tokenizer.json").read_text())["model"]["vocab"]
    row = [ids["<|begin_of_text|>"], *(ids[c] for c in f"[0]{text}"), ids["<|end_of_text|>"]]
    wanted = model.generate(
        torch.tensor([row]), do_sample=False, depth_decoder_do_sample=False, max_new_tokens=20, output_audio=False
    )
    frames = generator.frames(text, 0, temperature=0, max_audio_length_ms=20 * 80)
    ours = torch.stack(list(frames))
    assert torch.equal(ours, wanted[0, : len(ours)])
    assert len(ours) >= 15


@pytest.mark.bundled
@pytest.mark.parametrize("speaker", [0, 1])
def test_what_the_voice_says_is_understood(generator: Generator, base: WhisperTranscriber, speaker: int):
    said = HELD_OUT[:20]
    texts = [heard(base, generator.generate(text, speaker, seed=i)) for i, text in enumerate(said)]
    assert word_error_rate(said, texts) <= 0.22, texts  # about 0.11 on all of them


@pytest.mark.bundled
def test_it_ends_by_itself(generator: Generator):
    for i, text in enumerate(SENTENCES):
        stream = generator.generate_streaming(text, seed=i)
        assert list(stream) and stream.finish_reason == "end_of_speech"


@pytest.mark.bundled
def test_it_speaks_after_earlier_turns_too(generator: Generator, base: WhisperTranscriber):
    context = [Segment(1, "hello, who are you?", generator.generate("hello, who are you?", 1, seed=1))]
    texts = [heard(base, generator.generate(text, 0, context, seed=3)) for text in SENTENCES]
    assert word_error_rate(list(SENTENCES), texts) <= 0.5, texts


def test_the_two_speakers_have_different_voices(generator: Generator):
    def pitch(speaker: int) -> float:
        audio = generator.generate(SENTENCES[1], speaker, seed=0).numpy()
        spectrum = np.abs(np.fft.rfft(audio)) ** 2
        hz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
        low = spectrum[(hz > 70) & (hz < 140)].sum()
        return float(low / spectrum[(hz >= 140) & (hz < 280)].sum())

    assert pitch(1) > 2 * pitch(0)  # rms speaks about an octave below slt


@pytest.mark.parametrize("name", NAMES)
def test_the_whispers_load_in_plain_faster_whisper(name: str, generator: Generator):
    from faster_whisper import WhisperModel

    model = WhisperModel(resolve(name), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
    audio = resample(generator.generate(SENTENCES[1], seed=0).numpy(), SAMPLE_RATE, 16_000)
    segments, info = model.transcribe(audio, beam_size=1, temperature=0.0, without_timestamps=True)
    assert info.language == "en"
    text = " ".join(segment.text for segment in segments)
    assert any(word in text for word in ("weather", "nice", "warm"))


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_noise_are_no_words(name: str):
    whisper = WhisperTranscriber(resolve(name))
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    for audio in (np.zeros(32_000, dtype=np.float32), 0.003 * noise, 0.05 * noise):
        assert whisper.transcribe(audio, final=True).text == ""


@written_by_transformers_5
def test_the_language_model_loads_in_plain_transformers():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(POCKET / "llm", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(POCKET / "llm", local_files_only=True)
    asked = [{"role": "user", "content": "Hello!"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=40, do_sample=False)
    answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert len(answer.split()) >= 2


@pytest.mark.bundled
def test_the_language_model_answers_in_several_ways():
    asked = [{"role": "user", "content": "Tell me a joke."}]
    answers = {"".join(TransformersLLM(seed=i).stream(asked)) for i in range(24)}
    assert len(answers) >= 3
    assert all(answer.strip() for answer in answers)


@pytest.mark.bundled
@pytest.mark.parametrize("answer", ["Nice to meet you, Ketmoser.", "Hello, Kqsf, it's nice to meet you."])
def test_an_answer_with_a_rare_name_comes_in_pieces_without_a_broken_character(answer, monkeypatch):
    llm = TransformersLLM(seed=0)
    ids = iter([*llm.tokenizer(answer, add_special_tokens=False)["input_ids"], llm.tokenizer.eos_token_id])
    monkeypatch.setattr(llm, "_next", lambda *_: next(ids))
    pieces = list(llm.stream([{"role": "user", "content": "my name"}]))
    assert "".join(pieces) == answer
    assert len(pieces) > 4


@pytest.mark.bundled
def test_fifty_turns_of_one_conversation_are_answered_in_whole_sentences():
    from experiments.pocket.converse import converse, read_conversations

    prompts = read_conversations(TEXTS / "small_talk.txt")[1]
    free, listed = TransformersLLM(seed=0), TransformersLLM(seed=0).answer_sentences
    free.answer_sentences = None
    answers = converse(free, prompts)
    assert listed is not None
    said = [[{"role": "user", "content": prompt} for prompt in prompts[: n + 1]] for n in range(len(prompts))]
    others = [answer for turns, answer in zip(said, answers, strict=True) if not listed.hold(turns, answer)]
    assert len(answers) == 50 and len(others) <= 2, others  # even where the list does not bind it
    assert len(set(answers)) >= 25


@pytest.mark.bundled
def test_the_voice_says_what_the_language_model_writes(generator: Generator, base: WhisperTranscriber):
    from experiments.pocket.evaluate_chat import answer_of, read_prompts

    prompts = read_prompts(TEXTS / "demo_prompts.txt")[::4]
    with StreamingConversationalChatbot(generator=generator, asr=False, seed=0) as chatbot:
        rows = [answer_of(chatbot, prompt) for prompt in prompts]
    said = [row["spoken"] for row in rows]
    texts = [heard(base, row["audio"]) for row in rows]
    assert word_error_rate(said, texts) <= 0.25, list(zip(said, texts, strict=True))


def test_the_default_chatbot_speaks_and_hears_itself(tmp_path: Path):
    path = tmp_path / "response.wav"
    with StreamingConversationalChatbot(seed=1) as chatbot:
        events = list(chatbot.process_streaming("Hello!", save_audio_path=path))
    kinds = [event["type"] for event in events]
    assert kinds[-1] == "complete" and "final_text" in kinds and "llm_response" in kinds
    said = next(event["text"] for event in events if event["type"] == "llm_response")
    final = next(event["text"] for event in events if event["type"] == "final_text")
    assert word_error_rate(said, final) <= 0.6, (said, final)
    assert any(kind == "partial_text" for kind in kinds)
    chunks = torch.cat([event["data"] for event in events if event["type"] == "audio_chunk"]).numpy()
    assert np.allclose(read(path), np.clip(chunks, -1, 1), atol=1e-4)
    assert events[-1]["metrics"]["asr_error"] is None


def test_the_worker_hears_sound_as_it_comes(generator: Generator):
    with StreamingWhisperASR("base.en") as asr:
        asr.start_processing()
        for chunk in generator.generate_streaming(SENTENCES[0], seed=3):
            asr.put_audio_chunk(chunk)
        asr.finish()
        final = asr.get_final(timeout=60)
    assert word_error_rate(SENTENCES[0], str(final)) <= 0.5
    assert final.complete


def test_a_chatbot_with_a_seed_says_the_same_again_word_for_word_and_sample_for_sample():
    def answer() -> tuple[str, torch.Tensor]:
        with StreamingConversationalChatbot(preset="pocket", asr=False, seed=11) as chatbot:
            events = list(chatbot.process_streaming("Tell me a joke!"))
        (text,) = [event["text"] for event in events if event["type"] == "llm_response"]
        return text, torch.cat([event["data"] for event in events if event["type"] == "audio_chunk"])

    (first, sound), (second, again) = answer(), answer()
    assert first == second and torch.equal(sound, again)
