"""Turns found in sound: by a rule for exact times, by Silero for speech of the bundled voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lab_server import need

need("onnx", extra="int4")
import onnx
from onnx import TensorProto, helper

from csmkit.audio import SAMPLE_RATE
from csmkit.errors import InputError
from csmkit.live.turn_detector import TurnChange, TurnDetection, TurnDetector
from csmkit.live.voice_activity import WINDOW_S, EndOfTurnModel, LoudnessActivity, SileroVoiceActivity
from csmkit.speech.generator import Generator

FRAME = 480  # 20 ms


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def tone(seconds: float, level: float = 0.1) -> np.ndarray:
    """A sound that the rule takes for speech; ``level`` is its root mean square."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sqrt(2) * np.sin(2 * np.pi * 300 * times)).astype(np.float32)


def by_loudness(**changes: float) -> TurnDetector:
    return TurnDetector(TurnDetection(**changes), LoudnessActivity())


def put_all(detector: TurnDetector, *parts: np.ndarray, frame: int = FRAME) -> list[TurnChange]:
    sound = np.concatenate(parts)
    return [change for at in range(0, len(sound), frame) for change in detector.put(sound[at : at + frame])]


def kinds(changes: list[TurnChange]) -> list[str]:
    return [change.kind for change in changes]


def test_a_turn_begins_with_speech_and_ends_after_the_silence_that_was_asked_for():
    for silence_ms in (300, 500, 800):
        changes = put_all(by_loudness(silence_ms=silence_ms), silence(1), tone(1), silence(1.2))
        assert kinds(changes) == ["speech_started", "probable_end", "speech_stopped"]
        started, probable, stopped = changes
        assert started.at_s == pytest.approx(1.0, abs=WINDOW_S)
        assert probable.at_s == stopped.at_s == pytest.approx(2.0, abs=1.5 * WINDOW_S)
        assert stopped.decided_s - stopped.at_s == pytest.approx(silence_ms / 1000, abs=WINDOW_S)
        assert stopped.decided_s - stopped.at_s >= silence_ms / 1000 - 1e-6


def test_a_pause_within_a_sentence_is_a_probable_end_that_is_taken_back():
    changes = put_all(by_loudness(), silence(0.5), tone(1), silence(0.35), tone(1), silence(0.6))
    assert kinds(changes) == [
        "speech_started", "probable_end", "speech_resumed", "probable_end", "speech_stopped"
    ]  # fmt: skip


def test_the_length_of_the_frames_changes_nothing():
    parts = (silence(0.5), tone(1), silence(0.3), tone(0.5), silence(1))
    expected = put_all(by_loudness(), *parts)
    for frame in (480, 720, 960, 1001, 100_000):
        assert put_all(by_loudness(), *parts, frame=frame) == expected


def test_the_sound_of_a_turn_begins_with_its_prefix():
    detector = by_loudness(prefix_ms=300)
    sound = np.concatenate([silence(3), tone(0.5)])
    put_all(detector, sound)
    assert detector.in_turn
    expected = sound[-len(detector.sound()) :]
    np.testing.assert_array_equal(detector.sound(), expected)
    assert len(detector.sound()) / SAMPLE_RATE == pytest.approx(0.5 + 0.3, abs=WINDOW_S)


def test_a_sound_shorter_than_speech_begins_no_turn():
    assert put_all(by_loudness(speech_ms=128), silence(0.5), tone(0.07), silence(1)) == []


def test_a_turn_without_end_is_ended():
    changes = put_all(by_loudness(longest_turn_s=2), tone(3))
    assert kinds(changes)[:2] == ["speech_started", "speech_stopped"]
    assert changes[1].decided_s == pytest.approx(2, abs=2 * WINDOW_S)


def test_memory_does_not_grow_while_nobody_speaks():
    detector = by_loudness()
    put_all(detector, silence(60))
    assert len(detector.sound()) <= SAMPLE_RATE * 2


def test_while_the_voice_speaks_its_echo_begins_no_turn_and_the_user_does():
    detector = by_loudness()
    detector.voice_level_dbfs = -20.0
    echo, user = tone(2, level=0.1 * 10 ** (-12 / 20)), tone(0.3, level=0.1)
    assert put_all(detector, echo) == [], "it is 12 dB below what is played"
    changes = put_all(detector, user)
    assert kinds(changes) == ["speech_started"]
    assert changes[0].at_s == pytest.approx(2.0, abs=WINDOW_S)
    assert changes[0].decided_s - changes[0].at_s == pytest.approx(0.096)
    assert changes[0].decided_s <= 2.2, "the voice stops within a fifth of a second"


def test_with_headphones_a_quiet_user_breaks_in():
    detector = by_loudness()
    detector.voice_level_dbfs = -20.0
    assert put_all(detector, silence(1)) == []
    assert kinds(put_all(detector, tone(0.3, level=0.015))) == ["speech_started"]


def test_the_level_of_the_echo_is_learned_once_for_all_answers():
    detector = by_loudness()
    for _ in range(3):
        detector.voice_level_dbfs = -20.0
        assert put_all(detector, tone(1, level=0.02)) == []
        detector.voice_level_dbfs = None
        assert put_all(detector, silence(1)) == []
    detector.voice_level_dbfs = -20.0
    assert kinds(put_all(detector, tone(0.3, level=0.06))) == ["speech_started"], "10 dB above the echo"


def noise(seconds: float, dbfs: float = -34.0) -> np.ndarray:
    level = 10 ** (dbfs / 20)
    return np.random.default_rng(0).normal(0, level, round(seconds * SAMPLE_RATE)).astype(np.float32)


def test_noise_in_the_room_is_not_taken_for_echo_of_a_voice_that_is_quiet_for_a_moment():
    detector = TurnDetector(TurnDetection(), LoudnessActivity(-30))
    assert put_all(detector, noise(1)) == []
    for level in (-45.0, -20.0, -45.0, -20.0):
        detector.voice_level_dbfs = level
        assert put_all(detector, noise(0.6)) == []
    assert kinds(put_all(detector, noise(0.3) + tone(0.3, level=0.08))) == ["speech_started"], "12 dB above the noise"


def test_the_echo_of_an_answer_that_begins_quietly_does_not_break_in():
    detector = TurnDetector(TurnDetection(), LoudnessActivity(-60))
    assert put_all(detector, noise(1, -70)) == []
    echo, late = tone(1, level=10 ** (-45 / 20)), silence(0.06)
    detector.voice_level_dbfs = -45.0
    assert put_all(detector, noise(0.6, -70)) == []
    detector.voice_level_dbfs = -20.0
    assert put_all(detector, late, echo) == [], "it comes 60 ms after the voice has become loud"


def test_an_end_of_turn_model_ends_a_turn_early_or_waits():
    asked: list[int] = []

    def finished_after_a_second(sound_16k: np.ndarray) -> float:
        asked.append(len(sound_16k))
        return float(len(sound_16k) > 1.4 * 16_000)

    detector = TurnDetector(TurnDetection(), LoudnessActivity(), finished_after_a_second)
    changes = put_all(detector, silence(1), tone(0.5), silence(1), tone(1), silence(1))
    assert kinds(changes) == [
        "speech_started", "probable_end", "speech_resumed", "probable_end", "speech_stopped"
    ]  # fmt: skip
    assert changes[-1].decided_s - changes[-1].at_s < 0.25, "no silence is waited for where the model is sure"
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.0}, r"threshold=1\.0: give a probability"),
        ({"barge_in_threshold": float("nan")}, "barge_in_threshold=nan"),
        ({"silence_ms": 0}, "silence_ms=0: give a number from 32 to 10000"),
        ({"prefix_ms": -1}, "prefix_ms=-1"),
    ],
)
def test_settings_out_of_their_range_are_refused(changes: dict[str, float], message: str):
    with pytest.raises(InputError, match=message):
        TurnDetection(**changes)


@pytest.fixture(scope="module")
def sentence() -> np.ndarray:
    """A sentence of the bundled voice, from its first to its last loud 20 ms."""
    sound = Generator.load("pocket", device="cpu").generate("the weather is nice and warm.", 0, seed=3).numpy()
    loud = np.abs(sound[: len(sound) // 480 * 480]).reshape(-1, 480).max(axis=1) > 0.02
    return sound[int(loud.argmax()) * 480 : (len(loud) - int(loud[::-1].argmax())) * 480]


def test_silero_finds_where_the_voice_begins_and_ends(sentence: np.ndarray):
    changes = put_all(TurnDetector(), silence(1), sentence, silence(1))
    assert changes[0].kind == "speech_started" and changes[-1].kind == "speech_stopped"
    assert changes[0].at_s == pytest.approx(1.0, abs=0.15)
    assert changes[-1].at_s == pytest.approx(1 + len(sentence) / SAMPLE_RATE, abs=0.2)


def test_silero_takes_noise_and_clicks_for_no_speech():
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.02, 5 * SAMPLE_RATE).astype(np.float32)
    noise[:: SAMPLE_RATE // 2] += 0.8
    assert put_all(TurnDetector(), noise) == []


def test_silero_carries_its_state_from_window_to_window(sentence: np.ndarray):
    activity, windows = SileroVoiceActivity(), np.resize(sentence, (20, 512)).astype(np.float32)
    first = [activity.probability(window) for window in windows]
    assert [activity.probability(window) for window in windows] != first
    activity.reset()
    assert [activity.probability(window) for window in windows] == first


def write_end_of_turn_model(path: Path, input_name: str = "input_features") -> Path:
    """A model of smart-turn's form that is sure where there is sound in most of the 8 s."""
    made = helper.make_graph(
        [
            helper.make_node("ReduceMean", [input_name], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("Mul", ["mean", "steep"], ["steeper"]),
            helper.make_node("Sigmoid", ["steeper"], ["probability"]),
        ],
        "end of turn",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [1, 80, 800])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1])],
        [helper.make_tensor("steep", TensorProto.FLOAT, [1], [20.0])],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_an_end_of_turn_model_from_a_file_reads_the_last_eight_seconds_and_ends_turns(tmp_path: Path):
    model = EndOfTurnModel(write_end_of_turn_model(tmp_path / "turn.onnx"))
    loud = np.random.default_rng(0).normal(0, 0.1, 12 * 16_000).astype(np.float32)
    quiet = np.zeros_like(loud)
    assert model(loud[: 7 * 16_000]) > 0.9 and model(loud[: 16_000 // 2]) < 0.1, "a short one is padded with silence"
    assert model(np.concatenate([loud, quiet])) < 0.1 and model(np.concatenate([quiet, loud])) > 0.9
    detector = TurnDetector(TurnDetection(), LoudnessActivity(), model)
    changes = put_all(detector, noise(0.5, -20), silence(1), noise(8, -20), silence(0.4))
    assert kinds(changes) == [
        "speech_started", "probable_end", "speech_resumed", "probable_end", "speech_stopped"
    ]  # fmt: skip


def test_a_file_that_is_no_end_of_turn_model_is_named(tmp_path: Path):
    path = write_end_of_turn_model(tmp_path / "other.onnx", input_name="sound")
    with pytest.raises(InputError, match=r"other\.onnx' takes sound: give an end-of-turn model like smart-turn"):
        EndOfTurnModel(path)


def test_a_model_that_is_none_is_named():
    with pytest.raises(InputError, match=r"no ONNX model at 'nowhere\.onnx'"):
        SileroVoiceActivity("nowhere.onnx")
