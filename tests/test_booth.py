"""Orders spoken in a thread, their progress, and takes that are kept: the studio without its widgets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from csmkit.asr.fake import FakeTranscriber
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import read
from csmkit.errors import AudioFileError, CheckpointNotFoundError, StateError
from csmkit.lab.notebook.recordings import ROWS, Take, keep
from csmkit.lab.notebook.session import Booth, Order, Progress
from csmkit.lab.trials.trial import TrialRun, TrialSettings, run_trial
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.generator import FakeGenerator
from csmkit.stack import Stack

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
        super().__init__(preset)
        vars(self)["voice"] = voice

    def recogniser(self, name: str) -> StreamingWhisperASR:
        if name != "fake":
            return super().recogniser(name)
        return StreamingWhisperASR(name, transcriber=FakeTranscriber(TEXT, word_s=0.16))


class Session:
    """A booth whose progress is kept."""

    def __init__(self, voice: SpeechGenerator) -> None:
        self.told: list[Progress] = []
        self.opened: list[str] = []
        self.player = SilentPlayer()
        self.booth = Booth(self.player, self.told.append, self._open)
        self._voice = voice

    def _open(self, preset: str) -> Stack:
        self.opened.append(preset)
        return FakeStack(self._voice)

    def spoken(self, order: Order) -> Progress:
        self.told.clear()
        self.booth.speak(order)
        assert self.booth.wait(WAIT_S)
        return self.told[-1]


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(FakeGenerator(frame_s=0.03))
    yield session
    session.booth.close()


def phases(told: list[Progress]) -> list[str]:
    return list(dict.fromkeys(progress.phase for progress in told))


def test_an_order_is_played_as_it_is_spoken_and_leaves_a_take(session: Session):
    order = Order(TEXT, TrialSettings(codec="fake", seed=1, chunk_frames=2), "fake")
    last = session.spoken(order)
    assert phases(session.told) == ["loading", "speaking", "measuring", "done"]
    assert session.booth.takes == [last.take] and last.take is not None
    wanted = FakeGenerator().generate(TEXT, seed=1).numpy()
    np.testing.assert_array_equal(np.concatenate(session.player.played), wanted)
    np.testing.assert_array_equal(last.take.trial.audio, wanted)
    assert (last.heard, last.final, last.error) == (TEXT, True, "")
    assert (last.take.row["take"], last.take.row["preset"], last.take.row["whisper"]) == (1, "pocket", "fake")


def test_chunks_and_words_are_told_while_they_come(session: Session):
    session.spoken(Order(TEXT * 3, TrialSettings(codec="fake", seed=1, chunk_frames=4), "fake"))
    speaking = [progress for progress in session.told if progress.phase == "speaking"]
    counts = [len(progress.arrivals) for progress in speaking]
    assert len(set(counts)) >= 3 and counts == sorted(counts)
    assert any(progress.heard and not progress.final for progress in speaking)


def test_the_models_of_a_preset_are_opened_once(session: Session):
    for _ in range(2):
        session.spoken(Order(TEXT, FAKE, None))
    session.spoken(Order(TEXT, FAKE, None, preset="sesame"))
    assert session.opened == ["pocket", "sesame"]
    assert [take.number for take in session.booth.takes] == [1, 2, 3]


def test_stop_ends_an_order_early_and_the_next_one_is_whole(session: Session):
    begun = threading.Event()
    session.booth._tell = lambda progress: (session.told.append(progress), len(progress.arrivals) and begun.set())
    session.booth.speak(Order("word " * 200, TrialSettings(codec="fake", chunk_frames=1), "fake"))
    assert begun.wait(WAIT_S)
    with pytest.raises(StateError, match="press Stop first"):
        session.booth.speak(Order(TEXT, FAKE))
    session.booth.stop()
    assert session.booth.wait(WAIT_S)
    last = session.told[-1]
    assert last.phase == "stopped" and last.take is not None and not last.final
    assert 0 < len(last.take.trial.audio) < 400 * 1920
    assert last.take.row["finish_reason"] == "interrupted"
    assert session.spoken(Order(TEXT, FAKE, "fake")).final


def test_stop_while_models_load_speaks_nothing(session: Session):
    session.booth._tell = lambda progress: (session.told.append(progress), session.booth.stop())
    assert session.spoken(Order(TEXT, FAKE, None)).phase == "stopped"
    assert not session.booth.takes and not session.player.played


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (Order(" ", FAKE, None), "text=' ': give a sentence to speak"),
        (Order(TEXT, TrialSettings(codec="fake", temperature=-1), None), "temperature=-1: give a finite number"),
        (Order(TEXT, TrialSettings(), None), "codec='streaming' for a voice whose codec is a FakeCodec"),
        (Order(TEXT, FAKE, "no/such/model"), "no Whisper model 'no/such/model'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_the_next_order_is_spoken(session: Session, order: Order, error: str):
    last = session.spoken(order)
    assert last.phase == "failed" and not last.busy and last.take is None
    assert last.error.startswith(error) and "\n" not in last.error
    assert session.spoken(Order(TEXT, FAKE, "fake")).phase == "done"


def test_a_voice_that_breaks_while_it_speaks_is_told_too():
    session = Session(FakeGenerator(fails_after=7))
    assert "told to fail after 7 frames" in session.spoken(Order(TEXT, FAKE, "fake")).error
    session.booth.close()


def test_an_error_nobody_foresaw_is_named_with_its_type():
    session = Session(FakeGenerator())

    def broken(preset: str) -> Stack:
        raise RuntimeError("out of\nmemory")

    session.booth._open_stack = broken
    assert session.spoken(Order(TEXT, FAKE, None)).error == "RuntimeError: out of memory"


def test_a_take_is_played_again_as_it_was(session: Session):
    take = session.spoken(Order(TEXT, FAKE, None)).take
    session.booth.play(take)
    (played,) = session.player.played
    np.testing.assert_array_equal(played, take.trial.audio)


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


def test_kept_takes_are_files_and_rows_that_later_sessions_do_not_overwrite(tmp_path: Path):
    trial = run_trial(FakeGenerator(), TEXT, TrialSettings(codec="fake", seed=1, chunk_frames=(1, 2)))
    paths = [keep(Take(1, "pocket", trial), tmp_path / "new" / "takes") for _ in range(2)]
    assert [path.name for path in paths] == ["take_001.wav", "take_002.wav"]
    np.testing.assert_allclose(read(paths[1]), trial.audio, atol=1 / 32_000)
    rows = [json.loads(line) for line in (tmp_path / "new" / "takes" / ROWS).read_text().splitlines()]
    assert [row["wav"] for row in rows] == ["take_001.wav", "take_002.wav"]
    assert rows[0]["chunk_frames"] == [1, 2] and rows[0]["n_frames"] == 12 and rows[0]["preset"] == "pocket"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    trial = run_trial(FakeGenerator(), TEXT, FAKE)
    with pytest.raises(AudioFileError, match="give a folder you may write to"):
        keep(Take(1, "pocket", trial), tmp_path / "file")
