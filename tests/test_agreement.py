"""LocalAgreement-2, and windows cut at the end of a word."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from csmkit.asr.agreement import Agreement, match_prefix, normalise
from csmkit.asr.transcriber import RATE_HZ, Hypothesis, Word
from csmkit.asr.windows import last_pause, snap, transcribe_long


def spoken(text: str, start_s: float = 0.0, word_s: float = 0.5) -> list[Word]:
    """Words that follow each other at a steady pace."""
    times = [start_s + k * word_s for k in range(len(text.split()))]
    return [Word(word, start, start + word_s) for word, start in zip(text.split(), times, strict=True)]


def texts(words: list[Word] | tuple[Word, ...]) -> str:
    return " ".join(word.text for word in words)


def test_a_word_is_committed_when_two_successive_hypotheses_agree_on_it() -> None:
    agreement = Agreement()
    agreement.update(spoken("hello there"), audio_s=2.0)
    assert texts(agreement.committed) == ""
    agreement.update(spoken("hello their friend"), audio_s=2.5)
    assert texts(agreement.committed) == "hello"
    assert texts(agreement.tentative) == "their friend"


def test_the_last_word_is_held_back_until_enough_sound_follows_it() -> None:
    agreement = Agreement()
    agreement.update(spoken("good day"), audio_s=1.0)
    agreement.update(spoken("good day"), audio_s=1.1)
    assert texts(agreement.committed) == "good"
    agreement.update(spoken("good day"), audio_s=1.3)
    assert texts(agreement.committed) == "good day"


def test_case_and_punctuation_do_not_break_an_agreement() -> None:
    agreement = Agreement()
    agreement.update(spoken("well, yes"), audio_s=3.0)
    agreement.update(spoken("Well Yes."), audio_s=3.0)
    assert texts(agreement.committed) == "Well Yes."
    assert normalise("Don't!") == "don't"


def test_committed_words_only_grow_even_if_later_hypotheses_revise_them() -> None:
    agreement = Agreement()
    seen = ""
    hypotheses = ["a cat", "a cat sat", "the cat sat on", "the fat cat sat on a"]
    hypotheses += ["a cat sat on a mat", "a cat sat on a mat"]
    for n_heard, hypothesis in enumerate(hypotheses):
        agreement.update(spoken(hypothesis), audio_s=2.0 + n_heard)
        assert texts(agreement.committed).startswith(seen)
        seen = texts(agreement.committed)
    assert seen == "a cat sat on a mat"


@pytest.mark.parametrize(
    ("reference", "words", "expected"),
    [
        ("", "a b", (0, 0)),
        ("a b", "a b c", (2, 0)),
        ("a b", "b c", (1, 1)),
        ("a", "x y", (1, 1)),
        ("a b", "", (0, 2)),
        ("no no", "no no no", (2, 0)),
    ],
)
def test_the_closest_prefix_is_found(reference: str, words: str, expected: tuple[int, int]) -> None:
    assert match_prefix(reference.split(), words.split()) == expected


def test_a_cut_begins_behind_the_last_committed_word() -> None:
    agreement = Agreement()
    assert agreement.cut() is None
    for _ in range(2):
        agreement.update(spoken("one two three"), audio_s=1.6)
    assert agreement.cut() == 1.0
    assert agreement.cut() is None, "nothing new was committed since"
    agreement.update(spoken("three four", start_s=1.0), audio_s=3.0)
    agreement.update(spoken("three four", start_s=1.0), audio_s=3.0)
    assert texts(agreement.committed) == "one two three four"


class CountingTranscriber:
    """Reads the word numbers that the test wrote into the sound as levels: one word each half second."""

    window_s = 2.2

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        assert len(audio_16k) <= self.window_s * RATE_HZ
        words: list[Word] = []
        edges = np.flatnonzero(np.diff(audio_16k, prepend=-1.0, append=-1.0))
        for start, end in pairwise(edges):
            level = round(float(audio_16k[start]) * 100)
            if level:
                words.append(Word(f"w{level}", start / RATE_HZ, end / RATE_HZ))
        return Hypothesis(texts(words), tuple(words))


def test_sound_longer_than_the_window_loses_and_repeats_no_word() -> None:
    levels = np.array([*range(1, 8), 0, 0, 0, 0, 0, 0, 8, 9, 10], np.float32) / 100
    sound = np.repeat(levels, RATE_HZ // 2)
    heard = transcribe_long(CountingTranscriber(), sound, final=True)
    assert heard.text == " ".join(f"w{k}" for k in range(1, 11))
    assert [word.start_s for word in heard.words] == pytest.approx([*np.arange(0, 3.5, 0.5), 6.5, 7.0, 7.5], abs=0.02)


def test_a_sound_of_one_endless_word_still_comes_to_an_end() -> None:
    heard = transcribe_long(CountingTranscriber(), np.full(10 * RATE_HZ, 0.05, np.float32), final=True)
    assert heard.words
    assert transcribe_long(CountingTranscriber(), np.zeros(100, np.float32), final=True) == Hypothesis()


def test_cuts_are_made_in_pauses_where_there_are_any() -> None:
    loud = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)
    gap = np.zeros(RATE_HZ // 5, np.float32)
    sound = np.concatenate([loud, gap, loud, gap, loud])
    pause = last_pause(sound)
    assert pause is not None
    assert 2.2 < pause / RATE_HZ < 2.4, "the later of the two"
    assert last_pause(np.concatenate([gap, loud, loud])) is None, "a pause at the beginning is no place to cut"
    assert 1.0 <= snap(sound, round(0.9 * RATE_HZ)) / RATE_HZ <= 1.2
    assert snap(np.ones(RATE_HZ, np.float32), 500) == 500
