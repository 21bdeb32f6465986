"""The notebook's player without a browser: what is read, sent and stopped, and what a headless notebook shows."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lab_server import kernel_environment, need

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import DeviceError, InputError
from csmkit.speech.generator import FakeGenerator

need("anywidget", "ipykernel", "nbclient")
import nbclient
import nbformat

from csmkit.lab.notebook import Player
from csmkit.lab.notebook.output import NO_ANSWER
from csmkit.lab.notebook.widget import PlayerWidget

WAIT_S = 30.0


def sound(n_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n_samples).astype(np.float32)


class Browser:
    """Stands in for the front end: keeps what the widget sends, and sends what the browser would."""

    def __init__(self, player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[dict[str, Any]] = []
        self.chunks: list[np.ndarray] = []
        self._widget = player.widget
        monkeypatch.setattr(player.widget, "send", self._receive)

    def _receive(self, message: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        self.messages.append(message)
        self.chunks += [np.frombuffer(buffer, "<f4") for buffer in buffers or []]

    def send(self, **message: Any) -> None:
        self._widget.receive(message, [])


@pytest.fixture
def player() -> Iterator[Player]:
    player = Player()
    yield player
    player.stop()


@pytest.fixture
def browser(player: Player, monkeypatch: pytest.MonkeyPatch) -> Browser:
    return Browser(player, monkeypatch)


def ended(browser: Browser) -> None:
    """Wait for the last message of a play, which its thread sends after `wait` has returned."""
    for thread in threading.enumerate():
        if thread.name.startswith("csmkit-player"):
            thread.join(WAIT_S)
    assert browser.messages[-1]["type"] == "end"


def test_the_chunks_of_a_source_are_sent_in_order_between_begin_and_end(player: Player, browser: Browser) -> None:
    browser.send(type="ready")
    chunks = [sound(n, seed=n) for n in (1920, 1, 960)]
    player.play(iter(chunks))
    assert player.wait(WAIT_S)
    ended(browser)
    assert [message["type"] for message in browser.messages] == ["begin", "chunk", "chunk", "chunk", "end"]
    for sent, chunk in zip(browser.chunks, chunks, strict=True):
        np.testing.assert_array_equal(sent, chunk)
    np.testing.assert_array_equal(player.audio, np.concatenate(chunks))
    assert player.sent.durations_s == [0.08, 1 / 24_000, 0.04]


def test_a_speech_stream_plays_as_it_is(player: Player, browser: Browser) -> None:
    player.play(FakeGenerator().generate_streaming("hello there", chunk_frames=1, seed=1))
    assert player.wait(WAIT_S)
    np.testing.assert_array_equal(player.audio, FakeGenerator().generate("hello there", seed=1).numpy())


def test_one_whole_waveform_is_one_chunk(player: Player, browser: Browser) -> None:
    player.play(sound(4800))
    assert player.wait(WAIT_S)
    assert [len(chunk) for chunk in browser.chunks] == [4800]


def test_of_a_chatbot_s_events_the_sound_is_played_and_all_are_handed_on(player: Player, browser: Browser) -> None:
    events = [
        {"type": "llm_delta", "text": "hi"},
        {"type": "audio_chunk", "data": sound(10), "chunk_num": 1},
        {"type": "complete", "finish_reason": "end_of_speech"},
    ]
    seen: list[Any] = []
    player.play(iter(events), on_event=seen.append)
    assert player.wait(WAIT_S)
    assert seen == events
    np.testing.assert_array_equal(player.audio, sound(10))


def test_a_chatbot_s_turn_plays_and_ends_when_it_is_stopped(player: Player, browser: Browser) -> None:
    begun = threading.Event()
    with StreamingConversationalChatbot(generator=FakeGenerator(frame_s=0.01), llm="fake", asr=False) as chatbot:
        player.play(chatbot.process_streaming("Hello!"))
        assert player.wait(WAIT_S)
        assert len(player.audio) % 1920 == 0 and len(player.audio)
        turn = chatbot.process_streaming("And again!")
        player.play(turn, on_event=lambda event: begun.set(), on_stop=chatbot.interrupt)
        assert begun.wait(WAIT_S)
        player.stop()
        assert player.wait(WAIT_S)
        assert turn.gi_frame is None


def test_the_words_of_a_chatbot_s_answer_are_shown_once_it_is_recognised(player: Player, browser: Browser) -> None:
    asr = StreamingWhisperASR(transcriber=FakeTranscriber("one two three"), duty=1.0)
    with StreamingConversationalChatbot(generator=FakeGenerator(), llm="fake", asr=asr) as chatbot:
        player.play(chatbot.process_streaming("Hello!"))
        assert player.wait(WAIT_S)
    ended(browser)
    (shown,) = [message for message in browser.messages if message["type"] == "words"]
    assert shown["words"][1] == {"text": "two", "from": 0.4, "to": 0.8}
    assert shown["play"] == 1


@pytest.mark.parametrize("source", ["hello", b"hello", 3, {"type": "audio_chunk"}])
def test_what_cannot_be_played_is_refused_at_once(player: Player, source: Any) -> None:
    with pytest.raises(InputError, match="give an iterable of chunks"):
        player.play(source)


def test_an_error_of_the_source_is_raised_by_wait_and_told_to_the_browser(player: Player, browser: Browser) -> None:
    player.play(FakeGenerator(fails_after=2).generate_streaming("one two three", chunk_frames=1))
    with pytest.raises(DeviceError, match="told to fail after 2 frames"):
        player.wait(WAIT_S)
    ended(browser)
    assert "told to fail" in browser.messages[-1]["error"]
    assert len(browser.chunks) == 2


def test_the_stop_button_closes_a_stream_of_the_package_at_once(player: Player, browser: Browser) -> None:
    stream = FakeGenerator(frame_s=0.01).generate_streaming("word " * 400, max_audio_length_ms=64_000, chunk_frames=400)
    player.play(stream)
    browser.send(type="stop", play=1)
    assert stream.finish_reason == "interrupted"
    assert player.wait(WAIT_S)
    assert not len(player.audio)


def test_a_plain_generator_is_closed_by_the_thread_that_reads_it(player: Player, browser: Browser) -> None:
    closed, begun, go_on = threading.Event(), threading.Event(), threading.Event()

    def endless() -> Iterator[np.ndarray]:
        try:
            while True:
                yield sound(10)
                begun.set()
                go_on.wait(WAIT_S)
        finally:
            closed.set()

    player.play(endless())
    assert begun.wait(WAIT_S)
    player.stop()
    go_on.set()
    assert player.wait(WAIT_S)
    assert closed.is_set()
    assert len(player.audio) == 10
    assert browser.messages[1:3] == [{"type": "chunk", "play": 1}, {"type": "stop", "play": 1}]


def test_stop_calls_what_interrupts_the_source_once(player: Player, browser: Browser) -> None:
    interrupted: list[bool] = []
    gate = threading.Event()

    def waiting() -> Iterator[np.ndarray]:
        gate.wait(WAIT_S)
        yield sound(10)

    def interrupt() -> None:
        interrupted.append(True)
        gate.set()

    player.play(waiting(), on_stop=interrupt)
    player.stop()
    player.stop()
    assert player.wait(WAIT_S)
    assert interrupted == [True]
    assert not len(player.audio)


def test_a_stop_meant_for_an_earlier_play_is_not_taken_for_this_one(player: Player, browser: Browser) -> None:
    player.play([sound(10)])
    gate = threading.Event()

    def waiting() -> Iterator[np.ndarray]:
        gate.wait(WAIT_S)
        yield sound(20)

    player.play(waiting())
    browser.send(type="stop", play=1)
    gate.set()
    assert player.wait(WAIT_S)
    assert len(player.audio) == 20


def test_the_browser_s_report_counts_only_for_the_play_it_is_about(player: Player, browser: Browser) -> None:
    assert player.underruns is None and player.phase is None
    player.play([sound(2400), sound(2400)])
    assert player.wait(WAIT_S)
    report = {"phase": "ended", "underruns": 1, "arrivals_s": [0.1, 0.5], "durations_s": [0.1, 0.1]}
    player.widget.report = {"play": 1, **report}
    assert (player.underruns, player.phase) == (1, "ended")
    assert player.arrivals.row()["max_underrun_ms"] == pytest.approx(300)
    player.play([sound(10)])
    assert player.underruns is None and not len(player.arrivals)


@pytest.fixture
def kernel_with_subshells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser's messages come while a cell runs."""
    monkeypatch.setattr(PlayerWidget, "messages_come_during_cells", True)


def report(player: Player, phase: str, play: int = 1) -> None:
    """What the browser tells, read in a thread of its own."""
    latest = {"play": play, "phase": phase, "reported_s": player.widget.report.get("reported_s", 0) + 1}
    message = {"type": "report", "report": latest}
    thread = threading.Thread(target=player.widget.receive, args=[message, []])
    thread.start()
    thread.join()


@pytest.mark.parametrize("phase", ["ended", "stopped", "blocked"])
def test_wait_ends_when_the_browser_has_played_it(
    player: Player, browser: Browser, kernel_with_subshells: None, phase: str
) -> None:
    browser.send(type="ready")
    player.play([sound(240)])
    assert player.wait_sent(WAIT_S)
    for unfinished in ("queued", "playing"):
        report(player, unfinished)
        assert not player.wait(0.01), "all is sent, and not heard"
    report(player, "ended", play=0)
    assert not player.wait(0.01), "that was another play"
    report(player, phase)
    assert player.wait(WAIT_S)


def test_wait_does_not_hang_on_a_browser_that_is_gone(
    player: Player, browser: Browser, kernel_with_subshells: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csmkit.lab.notebook.player.LOST_S", 0.05)
    browser.send(type="ready")
    player.play([sound(240)])
    report(player, "playing")
    assert player.wait()


def test_without_messages_during_cells_a_front_end_is_taken_to_play_without_a_pause(
    player: Player, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlayerWidget, "messages_come_during_cells", False)
    browser.send(type="ready")
    player.play([sound(24_000 * 60)])
    assert player.wait_sent(WAIT_S) and not player.wait(0.01), "a minute of sound"
    player.stop()
    assert player.wait(0.01)
    player.play([sound(24)])
    assert player.wait(WAIT_S)


def test_nobody_is_waited_for_where_nothing_is_shown(player: Player, browser: Browser) -> None:
    player.play([sound(24_000 * 60)])
    assert player.wait(WAIT_S), "a minute of sound that nobody hears"


def test_the_player_of_a_studio_begins_at_once_and_one_of_a_cell_takes_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for embedded in (True, False):
        player = Player(embedded=embedded)
        browser = Browser(player, monkeypatch)
        player.play([sound(10)])
        assert player.wait(WAIT_S)
        assert browser.messages[0] == {"type": "begin", "play": 1, "at_once": embedded}


def test_a_report_that_was_overtaken_changes_nothing(player: Player, browser: Browser) -> None:
    player.play([sound(240)])
    assert player.wait(WAIT_S)
    for reported_s, phase in ((2, "ended"), (1, "playing")):
        browser.send(type="report", report={"play": 1, "phase": phase, "reported_s": reported_s})
    assert player.phase == "ended"


def test_a_lead_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"lead_ms=-1: give milliseconds from 0 to 10000"):
        Player(lead_ms=-1)


def test_without_anywidget_the_error_names_the_extra() -> None:
    program = "import sys; sys.modules['anywidget'] = None; from csmkit.lab.notebook import Player"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "MissingDependencyError: anywidget is not installed" in run.stderr
    assert "csmkit[notebook]" in run.stderr


def test_a_notebook_without_a_browser_shows_the_whole_sound_and_says_why_once(tmp_path: Path) -> None:
    cells = [
        "import numpy as np\nfrom csmkit.lab.notebook import Player\n"
        "chunks = [np.random.default_rng(0).uniform(-0.5, 0.5, 1920).astype(np.float32)]\nplayer = Player()",
        "player.play(chunks)",
        "player.wait()",
        "player.play(chunks * 2)\nplayer.wait()\nplayer.underruns",
        "other = Player()\nother.play(chunks * 3)\nother.wait()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=200, kernel_name="python3").execute(env=kernel_environment(tmp_path))
    first, second, third = (notebook.cells[index].outputs[0].data["text/html"] for index in (1, 3, 4))
    assert [NO_ANSWER in html for html in (first, second, third)] == [True, False, False]
    for html, n_chunks in ((first, 1), (second, 2), (third, 3)):
        np.testing.assert_allclose(samples_of(html), np.tile(sound(1920), n_chunks), atol=2 / 32_768)
    assert [output.data["text/plain"] for output in notebook.cells[2].outputs] == ["True"]


def samples_of(html: str) -> np.ndarray:
    """The sound of an audio control that carries it as base64 WAV."""
    wav = base64.b64decode(html.split("base64,")[1].split('"')[0])
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    assert rate == 24_000
    return samples
