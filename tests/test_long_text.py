"""A text of any length is spoken whole: in words, in passages that the voice carries, in order."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from runaway import cycle, voice_of

from csmkit.asr.directory import resolve
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.asr.windows import transcribe_long
from csmkit.audio import SAMPLE_RATE, resample
from csmkit.errors import CheckpointError, ContextOverflowError, InputError
from csmkit.lab.metrics.words import word_error_rate
from csmkit.lab.trials.batch import run_trials_together
from csmkit.lab.trials.trial import TrialSettings, run_trial
from csmkit.speech.abilities import Abilities
from csmkit.speech.base import FakeGenerator
from csmkit.speech.generator import Generator, Segment
from csmkit.speech.long_text import Page, PassageStream, speak_text
from csmkit.text.passages import cut_passages, spoken_text, unspeakable

HELD_OUT = (Path(__file__).parents[1] / "experiments/pocket/text/held_out.txt").read_text().splitlines()
FRAME = 1920
PARAGRAPH = "Hello there. I like warm tea in the morning. Do you like tea?"


def voice(**abilities: int | None) -> FakeGenerator:
    """A fake voice with abilities of its own; it speaks two frames a word."""
    generator = FakeGenerator()
    generator.abilities = Abilities(**abilities)
    return generator


@pytest.fixture(scope="module")
def pocket() -> Generator:
    return Generator.load("pocket", device="cpu")


@pytest.fixture(scope="module")
def base() -> WhisperTranscriber:
    return WhisperTranscriber(resolve("base.en"))


def test_a_text_that_fits_is_one_passage_as_it_is():
    for text in ("good morning, how are you today?", PARAGRAPH):
        assert list(cut_passages(text, 60)) == [text]


def test_a_longer_text_is_cut_at_the_ends_of_sentences():
    assert list(cut_passages(PARAGRAPH, 60, 1)) == [
        "Hello there.",
        "I like warm tea in the morning.",
        "Do you like tea?",
    ]
    assert list(cut_passages(PARAGRAPH, 10)) == ["Hello there. I like warm tea in the morning.", "Do you like tea?"]
    assert list(cut_passages("Dr. Smith paid $3.50. He left at 10:30.", 12, 1)) == [
        "doctor Smith paid three dollars and fifty cents.",
        "He left at ten thirty.",
    ]


def test_a_sentence_that_is_too_long_is_cut_at_a_comma_or_between_words():
    sentence = "When the rain had stopped, we all went out into the garden together and played until it was dark."
    pieces = list(cut_passages(sentence, 10, 1))
    assert pieces[0] == "When the rain had stopped," and " ".join(pieces) == sentence
    assert all(len(piece.split()) <= 10 for piece in pieces)


def test_paragraphs_and_items_of_a_list_end_a_sentence():
    text = "# A title\n\nFirst words here\n\n- one thing to say\n- another thing to say"
    assert list(cut_passages(text, 4, 1)) == ["A title", "First words here", "one thing to say", "another thing to say"]


def test_small_letters_after_a_stop_begin_a_sentence_too():
    text = "is it late? i think so. let us go, e.g. home, at 10 p.m. or so."
    assert list(cut_passages(text, 14, 1)) == [
        "is it late?",
        "i think so.",
        "let us go, for example home, at ten p m or so.",
    ]


def test_a_text_of_any_length_is_cut_in_time_that_grows_with_it():
    text = "word " * 20_000
    assert sum(len(passage.split()) for passage in cut_passages(text, 14, 1)) == 20_000


def test_words_of_another_alphabet_are_left_out_and_named():
    assert spoken_text("Say привет to café, naïve Ωmega.") == "Say to café, naïve Ωmega."
    assert unspeakable("Say привет to 東京 now") == "привет 東京"
    assert list(cut_passages("Привет!", 60)) == list(cut_passages("😀 !!", 60)) == []


def test_the_cut_reads_no_further_than_it_is_asked():
    text = "This is a sentence. " * 5000
    passages = cut_passages(text, 14, 1)
    assert [next(passages) for _ in range(3)] == 3 * ["This is a sentence."]


def test_passages_are_spoken_in_order_with_the_last_ones_as_context():
    generator = voice(most_words=8, most_sentences=1, context_passages=1)
    lead = Segment(0, "Before.")
    stream = generator.generate_streaming(PARAGRAPH, context=[lead], seed=5, chunk_frames=(1, 2, 4))
    assert isinstance(stream, PassageStream)
    sizes = [len(chunk) // FRAME for chunk in stream]
    said = generator.requests
    assert [request.text for request in said] == ["Hello there.", "I like warm tea in the morning.", "Do you like tea?"]
    assert [request.seed for request in said] == [5, 6, 7]
    assert [[segment.text for segment in request.context] for request in said] == [
        ["Before."],
        ["Before.", "Hello there."],
        ["Before.", "I like warm tea in the morning."],
    ]
    assert torch.equal(said[1].context[1].codes, stream.codes[:, :4])
    assert sizes == [1, 2, 1, 4, 4, 4, 2, 4, 4], "the schedule goes on, and a passage ends a chunk"
    assert (stream.finish_reason, stream.n_frames, stream.seed) == ("end_of_speech", 26, 5)


def test_what_fits_one_generation_has_the_codes_of_one_generation(pocket: Generator):
    text = "good morning, how are you today?"
    frames = torch.stack(list(pocket.frames(text, seed=1)), dim=1)
    stream = pocket.generate_streaming(text, seed=1)
    for _ in stream:
        pass
    assert torch.equal(stream.codes, frames)


def test_a_call_ends_at_its_limit_and_a_page_is_spoken_whole():
    generator = voice(most_words=8, most_sentences=1)
    stream = generator.generate_streaming(PARAGRAPH, max_audio_length_ms=800)
    assert sum(len(chunk) for chunk in stream) == 10 * FRAME and stream.finish_reason == "max_length"
    page = Page(generator.request(PARAGRAPH), each_ms=400)
    stream = speak_text(generator, page, (6,))
    assert [len(chunk) // FRAME for chunk in stream] == [4, 5, 5] and stream.finish_reason == "max_length"
    long_one = voice(most_words=60)
    page = Page(long_one.request("word " * 59 + "end."), each_ms=0)
    assert sum(len(chunk) for chunk in speak_text(long_one, page, (6,))) == 120 * FRAME, "9.6 s, beyond a call's 8 s"


def test_a_page_has_room_beyond_the_positions_of_the_model(pocket: Generator):
    text = " ".join(f"{sentence} {HELD_OUT[0]}" for sentence in HELD_OUT * 2)
    with pytest.raises(ContextOverflowError, match="positions"):
        pocket.generate_streaming(text, raw_text=True)
    stream = pocket.generate_streaming(text, max_audio_length_ms=600)
    assert sum(len(chunk) for chunk in stream) == 7 * FRAME and stream.finish_reason == "max_length"


def test_closing_in_a_later_passage_ends_all():
    generator = voice(most_words=8, most_sentences=1)
    stream = generator.generate_streaming(PARAGRAPH, chunk_frames=4)
    next(stream), next(stream)
    stream.close()
    assert list(stream) == [] and stream.finish_reason == "interrupted" and len(generator.requests) == 2
    stream = generator.generate_streaming(PARAGRAPH, chunk_frames=4)
    next(stream)
    stream.stop_soon()
    assert list(stream) == [] and stream.finish_reason == "interrupted"


def test_a_passage_that_repeats_itself_is_no_context_and_does_not_end_the_text():
    generator = voice_of(cycle(1))
    generator.abilities = Abilities(most_words=8, most_sentences=1)
    contexts = []
    start = lambda request, schedule: contexts.append(request.context) or generator.speak(request, schedule)  # noqa: E731
    stream = speak_text(generator, Page(generator.request(PARAGRAPH), each_ms=60_000), (6,), start)
    for _ in stream:
        pass
    assert stream.finish_reason == "repetition" and contexts == [(), (), ()]


def test_raw_text_goes_to_the_voice_as_it_is():
    generator = voice(most_words=8, most_sentences=1)
    for _ in generator.generate_streaming("It is 10:30. *Yes.*", raw_text=True):
        pass
    for _ in generator.generate_streaming("It is 10:30. *Yes.*"):
        pass
    assert [request.text for request in generator.requests] == ["It is 10:30. *Yes.*", "It is ten thirty.", "Yes."]


def test_what_cannot_be_said_is_an_error_and_what_is_left_out_is_told(caplog: pytest.LogCaptureFixture):
    generator = FakeGenerator()
    for text in ("Привет, как дела?", "😀😀", "..."):
        with pytest.raises(InputError, match="nothing in it that this voice can say; give words in Latin letters"):
            generator.generate(text)
        with pytest.raises(InputError, match="nothing in it that this voice can say"):
            run_trial(generator, text, TrialSettings(codec="fake"))
    with caplog.at_level(logging.WARNING):
        generator.generate("Say привет to her.")
    assert generator.requests[-1].text == "Say to her." and "left out 'привет'" in caplog.text


def test_a_trial_speaks_signs_in_words_and_counts_errors_against_them(pocket: Generator):
    trial = run_trial(pocket, "It costs $3.50 at 10:30.", TrialSettings(seed=1))
    assert trial.row["audio_s"] > 1.5 and trial.row["n_words"] == 10
    raw = run_trial(pocket, "It costs $3.50 at 10:30.", TrialSettings(seed=1, raw_text=True))
    assert raw.row["audio_s"] < 1.0 and raw.row["raw_text"]


def test_long_texts_of_a_batch_sound_as_they_do_alone(pocket: Generator):
    texts = ["Hello there. How are you today?", "yes, please.", "I like tea. It is warm. See you soon."]
    settings = [TrialSettings(seed=seed, max_audio_length_ms=20_000) for seed in range(3)]
    for text, item, trial in zip(texts, settings, run_trials_together(pocket, texts, settings), strict=True):
        alone = run_trial(pocket, text, item)
        assert torch.equal(trial.codes, alone.codes)
        assert trial.row["finish_reason"] == alone.row["finish_reason"]


def errors(voice: Generator, base: WhisperTranscriber, n_texts: int, n_sentences: int) -> float:
    """Word error rate of texts of so many sentences."""
    said = [" ".join(HELD_OUT[20 * i : 20 * i + n_sentences]) for i in range(n_texts)]
    heard = []
    for seed, text in enumerate(said):
        chunks = speak_text(voice, Page(voice.request(text, seed=seed), each_ms=0), (6,))
        audio = resample(torch.cat(list(chunks)).numpy(), SAMPLE_RATE, 16_000)
        heard.append(transcribe_long(base, audio, final=True).text)
    return word_error_rate(said, heard)


@pytest.mark.bundled
@pytest.mark.parametrize(("n_texts", "n_sentences"), [(5, 2), (4, 5), (1, 18)])
def test_a_paragraph_is_understood_to_its_end(
    pocket: Generator, base: WhisperTranscriber, n_texts: int, n_sentences: int
):
    assert errors(pocket, base, n_texts, n_sentences) <= 0.25


def test_the_checkpoint_says_what_its_voice_can_do(voice_directory: Path):
    assert Generator.load(voice_directory, device="cpu").abilities == Abilities()
    path = voice_directory / "csmkit.json"
    path.write_text(json.dumps({"most_words": 5, "n_speakers": 2}))
    try:
        generator = Generator.load(voice_directory, device="cpu")
        assert generator.abilities == Abilities(most_words=5, n_speakers=2)
        with pytest.raises(InputError, match="speaker=2: this voice has the speakers 0 to 1"):
            generator.generate_streaming("Hello.", 2)
        for wrong, message in (
            ({"words": 5}, "unknown keys words: use most_words"),
            ({"most_words": 0}, "most_words=0: give a whole number of at least 1"),
            ({"most_sentences": 1.5}, "most_sentences=1.5: give a whole number of at least 1 or None"),
            ({"follows_prompt": 1}, "follows_prompt=1: give true or false"),
        ):
            path.write_text(json.dumps(wrong))
            with pytest.raises(CheckpointError, match=message):
                Generator.load(voice_directory, device="cpu")
    finally:
        path.unlink()
