"""Jobs spoken in a thread, their progress, and recordings that are kept: the studio without its widgets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.audio import read
from csmkit.errors import AudioFileError, CheckpointNotFoundError, StateError
from csmkit.lab.notebook.recordings import ROWS, Recording, keep
from csmkit.lab.notebook.session import Job, Progress, Session
from csmkit.lab.trials.trial import TrialRun, TrialSettings, run_trial
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.generator import FakeGenerator
from csmkit.stack import Stack, find_models

TEXT = "one two three four five six"
FAKE = TrialSettings(codec="fake", seed=1)
WAIT_S = 60.0


class SilentPlayer:
    """Reads its source in a thread, as the real one does, and keeps what it would play."""

    def __init__(self) -> None:
        self.played: list[np.ndarray] = []
        self._source: TrialRun | None = None
        self._thread = threading.Thread()
        self._error: Exception | None = None

    def play(self, source: TrialRun | np.ndarray) -> None:
        self.played, self._error = [], None
        if isinstance(source, np.ndarray):
            self.played.append(source)
            return
        self._source = source
        self._thread = threading.Thread(target=self._read, args=[source])
        self._thread.start()

    def _read(self, source: TrialRun) -> None:
        try:
            self.played.extend(chunk.numpy() for chunk in source)
        except Exception as error:
            self._error = error

    def wait_sent(self, timeout: float | None = None) -> bool:
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def stop(self) -> None:
        if self._source is not None:
            self._source.close()


class FakeStack(Stack):
    """Models without weights."""

    def __init__(self, voice: SpeechGenerator, preset: str = "pocket") -> None:
        super().__init__(replace(find_models(preset), speech=voice))

    def recogniser(self, name: str) -> StreamingWhisperASR:
        if name != "fake":
            return super().recogniser(name)
        return StreamingWhisperASR(name, transcriber=FakeTranscriber(TEXT, word_s=0.16))


class Spoken:
    """A session whose progress is kept, and which may react to it."""

    def __init__(self, voice: SpeechGenerator, open_stack: Callable[[str], Stack] | None = None) -> None:
        self.progress: list[Progress] = []
        self.opened: list[str] = []
        self.react: Callable[[Progress], object] = lambda progress: None
        self.player = SilentPlayer()
        self.session = Session(self.player, self._on_progress, open_stack or self._open)
        self._voice = voice

    def _on_progress(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.react(progress)

    def _open(self, preset: str) -> Stack:
        self.opened.append(preset)
        return FakeStack(self._voice)

    def speak(self, job: Job) -> Progress:
        self.progress.clear()
        self.session.speak(job)
        assert self.session.wait(WAIT_S)
        return self.progress[-1]


@pytest.fixture
def spoken() -> Iterator[Spoken]:
    spoken = Spoken(FakeGenerator(frame_s=0.03))
    yield spoken
    spoken.session.close()


def phases(progress_of: list[Progress]) -> list[str]:
    return list(dict.fromkeys(progress.phase for progress in progress_of))


def test_a_job_is_played_while_it_is_spoken_and_leaves_a_recording(spoken: Spoken):
    job = Job(TEXT, TrialSettings(codec="fake", seed=1, chunk_frames=2), "fake")
    last = spoken.speak(job)
    assert phases(spoken.progress) == ["loading", "speaking", "measuring", "done"]
    assert spoken.session.recordings == [last.recording] and last.recording is not None
    wanted = FakeGenerator().generate(TEXT, seed=1).numpy()
    np.testing.assert_array_equal(np.concatenate(spoken.player.played), wanted)
    np.testing.assert_array_equal(last.recording.trial.audio, wanted)
    assert (last.text, last.final, last.error) == (TEXT, True, "")
    assert " ".join(word.text for word in last.words) == TEXT
    assert (last.recording.row["recording"], last.recording.row["preset"], last.recording.row["whisper"]) == (
        1,
        "pocket",
        "fake",
    )


def test_chunks_and_words_are_reported_while_they_come(spoken: Spoken):
    spoken.speak(Job(TEXT * 3, TrialSettings(codec="fake", seed=1, chunk_frames=4), "fake"))
    speaking = [progress for progress in spoken.progress if progress.phase == "speaking"]
    counts = [len(progress.arrivals) for progress in speaking]
    assert len(set(counts)) >= 3 and counts == sorted(counts)
    assert any(progress.text and not progress.final for progress in speaking)


def test_the_models_of_a_preset_are_opened_once(spoken: Spoken):
    for _ in range(2):
        spoken.speak(Job(TEXT, FAKE, None))
    spoken.speak(Job(TEXT, FAKE, None, preset="sesame"))
    assert spoken.opened == ["pocket", "sesame"]
    assert [recording.number for recording in spoken.session.recordings] == [1, 2, 3]


def test_stop_ends_a_job_early_and_the_next_one_is_whole(spoken: Spoken):
    begun = threading.Event()
    spoken.react = lambda progress: len(progress.arrivals) and begun.set()
    spoken.session.speak(Job("word " * 200, TrialSettings(codec="fake", chunk_frames=1), "fake"))
    assert begun.wait(WAIT_S)
    with pytest.raises(StateError, match="press Stop first"):
        spoken.session.speak(Job(TEXT, FAKE))
    spoken.session.stop()
    assert spoken.session.wait(WAIT_S)
    last = spoken.progress[-1]
    assert last.phase == "stopped" and last.recording is not None and not last.final
    assert 0 < len(last.recording.trial.audio) < 400 * 1920
    assert last.recording.row["finish_reason"] == "interrupted"
    assert spoken.speak(Job(TEXT, FAKE, "fake")).final


def test_stop_while_models_load_speaks_nothing(spoken: Spoken):
    spoken.react = lambda progress: spoken.session.stop()
    assert spoken.speak(Job(TEXT, FAKE, None)).phase == "stopped"
    assert not spoken.session.recordings and not spoken.player.played


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (Job(" ", FAKE, None), "text=' ': give a sentence to speak"),
        (Job(TEXT, TrialSettings(codec="fake", temperature=-1), None), "temperature=-1: give a finite number"),
        (Job(TEXT, TrialSettings(), None), "codec='streaming' for a voice whose codec is a FakeCodec"),
        (Job(TEXT, FAKE, "no/such/model"), "no Whisper model 'no/such/model'"),
    ],
)
def test_an_error_is_reported_in_one_line_and_the_next_job_is_spoken(spoken: Spoken, job: Job, error: str):
    last = spoken.speak(job)
    assert last.phase == "failed" and not last.busy and last.recording is None
    assert last.error.startswith(error) and "\n" not in last.error
    assert spoken.speak(Job(TEXT, FAKE, "fake")).phase == "done"


def test_a_voice_that_fails_while_it_speaks_is_reported_too():
    spoken = Spoken(FakeGenerator(fails_after=7))
    assert "told to fail after 7 frames" in spoken.speak(Job(TEXT, FAKE, "fake")).error
    spoken.session.close()


def test_an_unforeseen_error_is_reported_with_its_type():
    def broken(preset: str) -> Stack:
        raise RuntimeError("out of\nmemory")

    spoken = Spoken(FakeGenerator(), broken)
    assert spoken.speak(Job(TEXT, FAKE, None)).error == "speaking failed: out of memory (RuntimeError)"


def test_a_recording_is_played_again_as_it_was(spoken: Spoken):
    recording = spoken.speak(Job(TEXT, FAKE, None)).recording
    assert recording is not None
    spoken.session.play(recording.trial.audio)
    (played,) = spoken.player.played
    np.testing.assert_array_equal(played, recording.trial.audio)


def test_a_stack_of_the_bundled_models_loads_each_once_and_lets_them_go():
    before = set(threading.enumerate())
    with Stack("pocket") as stack:
        assert stack.voice is stack.voice
        asr = stack.recogniser("tiny.en")
        assert stack.recogniser("tiny.en") is asr
        with pytest.raises(CheckpointNotFoundError, match="no Whisper model 'huge'"):
            stack.recogniser("huge")
        assert {thread.name for thread in set(threading.enumerate()) - before} == {"csmkit-asr"}
    assert set(threading.enumerate()) <= before


def test_kept_recordings_are_files_and_rows_that_later_sessions_do_not_overwrite(tmp_path: Path):
    trial = run_trial(FakeGenerator(), TEXT, TrialSettings(codec="fake", seed=1, chunk_frames=(1, 2)))
    paths = [keep(Recording(1, "pocket", trial), tmp_path / "new" / "recordings") for _ in range(2)]
    assert [path.name for path in paths] == ["recording_001.wav", "recording_002.wav"]
    np.testing.assert_allclose(read(paths[1]), trial.audio, atol=1 / 32_000)
    rows = [json.loads(line) for line in (tmp_path / "new" / "recordings" / ROWS).read_text().splitlines()]
    assert [row["wav"] for row in rows] == ["recording_001.wav", "recording_002.wav"]
    assert rows[0]["chunk_frames"] == [1, 2] and rows[0]["n_frames"] == 12 and rows[0]["preset"] == "pocket"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    trial = run_trial(FakeGenerator(), TEXT, FAKE)
    with pytest.raises(AudioFileError, match="give a folder you may write to"):
        keep(Recording(1, "pocket", trial), tmp_path / "file")
