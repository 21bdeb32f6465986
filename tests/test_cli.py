"""The command line, on fakes where no model is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from runaway import pause, voice_of
from set_time import Clock, Timed
from typer.testing import CliRunner

from csmkit import Guards, cli
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.audio import SAMPLE_RATE, read, write
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.cli import models
from csmkit.cli.options import parse_schedule
from csmkit.errors import CsmkitError, InputError, LanguageModelError
from csmkit.files.hub import find_voice
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.abilities import Abilities
from csmkit.speech.base import FakeGenerator

runner = CliRunner()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chatbot of fakes behind the commands."""

    def load(which, whisper, console, **options):
        asr = StreamingWhisperASR(whisper, transcriber=FakeTranscriber())
        return StreamingConversationalChatbot(generator=FakeGenerator(), asr=asr, llm=FakeLLM(), **options)

    monkeypatch.setattr(models, "load_chatbot", load)


def test_a_schedule_is_a_number_or_several():
    assert parse_schedule("6") == 6
    assert parse_schedule("1,2,4,6") == (1, 2, 4, 6)
    with pytest.raises(InputError, match="1,2,4,6"):
        parse_schedule("six")


def test_chat_tells_the_turn_as_it_happens(fakes: None, tmp_path: Path):
    out = runner.invoke(cli.app, ["chat", "Hello!", "--save", str(tmp_path / "response.wav"), "--chunk-frames", "2"])
    assert out.exit_code == 0, out.output
    lines = out.output.splitlines()
    assert any(line.startswith("Chunk 1 ready at") and line.endswith("<- first audio") for line in lines)
    assert any(line.startswith("Chunk 2 ready at") and "first" not in line for line in lines)
    assert any(line.startswith("Final transcription:") for line in lines)
    assert any(line.startswith("Time to first audio:") for line in lines)
    assert len(read(tmp_path / "response.wav")) > 0


def test_a_quiet_chat_shows_only_who_says_what(fakes: None, tmp_path: Path):
    out = runner.invoke(cli.app, ["chat", "Hello!", "--quiet", "--save", str(tmp_path / "a.wav")])
    assert out.exit_code == 0, out.output
    assert out.output == "You: Hello!\ncsmkit: Hello there. How are you?\n"
    assert len(read(tmp_path / "a.wav")) > 0
    out = runner.invoke(cli.app, ["chat", "--quiet"], input="Hello!\nAnd you?\n\n")
    assert out.output == 2 * "> csmkit: Hello there. How are you?\n" + "> "
    out = runner.invoke(cli.app, ["chat", "Hello!", "--quiet", "--json"])
    assert isinstance(out.exception, InputError) and "--json with --quiet: give one of them" in str(out.exception)


def test_chat_speaks_json_to_programs(fakes: None):
    out = runner.invoke(cli.app, ["chat", "Hello!", "--json"])
    events = [json.loads(line) for line in out.output.splitlines()]
    assert events[-1]["type"] == "complete"
    assert events[-1]["metrics"]["n_chunks"] == sum(event.get("type") == "audio_chunk" for event in events)


def test_without_a_text_it_is_a_conversation(fakes: None, tmp_path: Path):
    save = tmp_path / "talk.wav"
    out = runner.invoke(cli.app, ["chat", "--save", str(save)], input="Hello!\nAnd you?\n\n")
    assert out.exit_code == 0, out.output
    assert out.output.count("Time to first audio:") == 2
    assert (tmp_path / "talk-01.wav").exists() and (tmp_path / "talk-02.wav").exists()


@pytest.mark.parametrize("name", ["turn.png", "turn.html"])
def test_chat_draws_the_turn(fakes: None, tmp_path: Path, name: str):
    out = runner.invoke(cli.app, ["chat", "Hello!", "--timeline", str(tmp_path / name)])
    assert out.exit_code == 0, out.output
    assert out.output.splitlines()[-1] == f"Drew {tmp_path / name}"
    drawn = (tmp_path / name).read_bytes()
    if name == "turn.png":
        assert drawn.startswith(b"\x89PNG")
        return
    page = drawn.decode()
    for lane in ("language model", "clauses", "frames", "chunks", "playback", "recogniser"):
        assert f"<!-- {lane} -->" in page, "matplotlib names each text it draws"
    assert "<td>ttfa_ms</td>" in page and "<td>Hello there.</td>" in page
    assert "<h1>Hello!</h1>" in page and '<audio controls src="data:audio/wav;base64,UklGR' in page
    assert "<td>time to first audio (ms)</td>" in page
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page), "a page without any other file"


def test_every_turn_of_a_conversation_is_drawn(fakes: None, tmp_path: Path):
    out = runner.invoke(cli.app, ["chat", "--timeline", str(tmp_path / "talk.png")], input="Hello!\nAnd you?\n\n")
    assert out.exit_code == 0, out.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk-01.png", "talk-02.png"]


def test_the_option_for_holding_the_first_chunk_back_reaches_the_turns(fakes: None, monkeypatch: pytest.MonkeyPatch):
    load, asked = models.load_chatbot, []

    def note(*given, **options):
        chatbot = load(*given, **options)
        asked.append(chatbot.options.prebuffer_ms)
        return chatbot

    monkeypatch.setattr(models, "load_chatbot", note)
    for text in ("0", "200", "auto"):
        out = runner.invoke(cli.app, ["chat", "Hello!", "--json", "--prebuffer", text])
        assert json.loads(out.output.splitlines()[-1])["metrics"]["held_ms"] >= 0
    assert asked == [0.0, 200.0, "auto"]


def test_chat_says_that_it_was_slower_than_real_time_and_what_would_help(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()

    def load(given, whisper, console, **options):
        asr = StreamingWhisperASR(whisper, transcriber=FakeTranscriber())
        voice = Timed(clock, 0.1)
        return StreamingConversationalChatbot(generator=voice, asr=asr, llm=FakeLLM(), clock=clock, **options)

    monkeypatch.setattr(models, "load_chatbot", load)
    out = runner.invoke(cli.app, ["chat", "Hello!"])
    (note,) = [line for line in out.output.splitlines() if line.startswith("Note: ")]
    assert re.search(r"slower than real time: 1\.\d\d s .* a pre-buffer of \d+ ms .* --prebuffer", note)


def test_say_writes_what_it_speaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(models, "load_generator", lambda *given: FakeGenerator())
    out = runner.invoke(cli.app, ["say", "three words here", "--save", str(tmp_path / "a.wav"), "--json"])
    assert out.exit_code == 0, out.output
    row = json.loads(out.output.splitlines()[-1])
    assert row["finish_reason"] == "end_of_speech"
    assert len(read(tmp_path / "a.wav")) == 6 * 1920
    out = runner.invoke(cli.app, ["say", "three words here", "--save", str(tmp_path / "b.wav"), "--quiet"])
    assert (out.exit_code, out.output) == (0, "")
    assert len(read(tmp_path / "b.wav")) == 6 * 1920


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A second of a tone between two of silence."""
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    write(tmp_path / "prompt.wav", np.concatenate([np.zeros(SAMPLE_RATE), tone, np.zeros(SAMPLE_RATE)]))
    return tmp_path / "prompt.wav"


def test_say_speaks_in_the_voice_of_a_recording(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recording: Path):
    voice = FakeGenerator()
    monkeypatch.setattr(models, "load_generator", lambda *given: voice)
    arguments = ["say", "three words here", "--save", str(tmp_path / "a.wav"), "--speaker", "1", "--json"]
    out = runner.invoke(cli.app, [*arguments, "--voice", str(recording), "--voice-text", "Mm."])
    assert out.exit_code == 0, out.output
    assert json.loads(out.output.splitlines()[0])["voice_s"] == pytest.approx(1.2, abs=0.1)
    warmed, said = voice.requests
    assert warmed.context[0] is said.context[0]
    assert (said.context[0].speaker, said.context[0].text) == (1, "Mm.")


def test_chat_keeps_the_voice_of_a_recording_and_the_switch_of_the_guards(
    fakes: None, monkeypatch: pytest.MonkeyPatch, recording: Path
):
    seen = {}
    load = models.load_chatbot
    monkeypatch.setattr(
        models, "load_chatbot", lambda *given, **options: load(*given, **seen.setdefault("all", options))
    )
    out = runner.invoke(cli.app, ["chat", "Hi!", "--voice", str(recording), "--voice-text", "Mm.", "--guards", "off"])
    assert out.exit_code == 0, out.output
    assert [segment.text for segment in seen["all"]["voice"]] == ["Mm."]
    assert seen["all"]["guards"] == Guards.off()


def test_say_ends_a_voice_that_runs_away_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(models, "load_generator", lambda *given: voice_of(20, pause(1000)))
    for switch, reason in (("on", "silence"), ("off", "max_length")):
        out = runner.invoke(cli.app, ["say", "Hello", "--save", str(tmp_path / "a.wav"), "--json", "--guards", switch])
        assert json.loads(out.output.splitlines()[-1])["finish_reason"] == reason


def test_doctor_names_what_is_there_and_what_to_do():
    out = runner.invoke(cli.app, ["doctor"])
    assert out.exit_code == 0, out.output
    for subject in ("python", "torch", "faster-whisper", "cpu", "pocket voice", "sesame/csm-1b"):
        assert subject in out.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat", "Hello!", "--chunk-frames", "x"], "--chunk-frames 'x'"),
        (["chat", "Hello!", "--preset", "nobody"], "the presets are pocket, sesame"),
        (["chat", "Hello!", "--prebuffer", "soon"], "--prebuffer 'soon': give milliseconds such as 500, or auto"),
        (["chat", "Hello!", "--prebuffer", "-1", "--preset", "pocket"], "prebuffer_ms=-1.0: give milliseconds"),
        (["chat", "Hello!", "--chunk-frames", "0"], "chunk_frames=0"),
        (["chat", "Hello!", "--temperature", "nan"], "temperature=nan"),
        (["chat", "Hello!", "--seed", "-1"], "seed=-1"),
        (["chat", "Hello!", "--context-turns", "-1"], "context_turns=-1: give a number of turns, 0 for none"),
        (["chat", " "], "give some text to answer, or leave it out for a conversation"),
        (["chat", "Hello!", "--save", "a.mp3"], "give a path that ends in .wav"),
        (["chat", "Hello!", "--save", "nowhere/a.wav"], "no folder 'nowhere' to write to"),
        (["chat", "Hello!", "--llm-url", "http://localhost:1/v1"], "without --llm: give the name"),
        (["chat", "Hello!", "--timeline", "turn.pdf"], "give a path that ends in .png or .html"),
        (["chat", "Hello!", "--timeline", "nowhere/turn.png"], "the folder 'nowhere' is not there"),
        (["say", "Hello.", "--temperature", "-1"], "temperature"),
        (["say", "Hello.", "--guards", "maybe"], "--guards 'maybe': give on or off"),
        (["say", "Hello.", "--voice", "a.wav"], "--voice without --voice-text: give the recording and the words"),
        (["chat", "Hello!", "--voice-text", "Mm."], "--voice-text without --voice:"),
        (["chat", "Hello!", "--voice", "nowhere.wav", "--voice-text", "Mm."], "no sound file at 'nowhere.wav'"),
    ],
)
def test_an_error_is_one_line_and_exit_status_one(arguments, message, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: cli.app(arguments, standalone_mode=False))
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


def test_what_cannot_be_is_said_before_any_model_is_loaded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models, "load_generator", lambda *given: pytest.fail("loaded for nothing"))
    for wrong in (["--topk", "0"], ["--prebuffer", "-1"], ["--max-audio-ms", "5"], ["--save", "nowhere/a.wav"]):
        assert isinstance(runner.invoke(cli.app, ["chat", "Hello!", *wrong]).exception, CsmkitError)


def test_who_answers_can_be_chosen(monkeypatch: pytest.MonkeyPatch):
    def load(which, whisper, console, **options):
        return StreamingConversationalChatbot(generator=FakeGenerator(), asr=False, **options)

    monkeypatch.setattr(models, "load_chatbot", load)
    out = runner.invoke(cli.app, ["chat", "It is 10:30.", "--llm", "echo", "--json"])
    clauses = [event for event in map(json.loads, out.output.splitlines()) if event.get("type") == "clause"]
    assert [clause["spoken"] for clause in clauses] == ["It is ten thirty."]
    out = runner.invoke(cli.app, ["chat", "Hi", "--llm", "m", "--llm-url", "http://127.0.0.1:9/v1"])
    assert isinstance(out.exception, LanguageModelError) and "no server at" in str(out.exception)


def test_the_voice_hears_as_many_turns_as_it_is_told_to(monkeypatch: pytest.MonkeyPatch):
    voice = FakeGenerator()

    def load(which, whisper, console, **options):
        return StreamingConversationalChatbot(generator=voice, llm=FakeLLM(["Hello there."]), asr=False, **options)

    monkeypatch.setattr(models, "load_chatbot", load)
    out = runner.invoke(cli.app, ["chat", "--context-turns", "1"], input="One\nTwo\nThree\n\n")
    assert out.exit_code == 0, out.output
    assert [segment.text for segment in voice.requests[-1].context] == ["Two", "Hello there.", "Three"]


def test_a_conversation_for_programs_is_lines_of_json_and_nothing_else(fakes: None):
    out = runner.invoke(cli.app, ["chat", "--json"], input=b"Hello!\n\xe9\n")
    told = [json.loads(line) for line in out.output.splitlines()]
    assert [event["user"] for event in told if "user" in event] == ["Hello!", "\ufffd"]
    assert sum(event.get("type") == "complete" for event in told) == 2 and {} not in told


def test_the_figures_of_a_turn_fit_each_other(fakes: None):
    out = runner.invoke(cli.app, ["chat", "Hello!"])
    first = re.search(r"Chunk 1 ready at ([\d.]+)s", out.output)
    assert f"Time to first audio: {first[1]}s" in out.output
    audio, made, factor = re.search(r"([\d.]+)s of speech in ([\d.]+)s, real-time factor ([\d.]+)", out.output).groups()
    assert float(made) / float(audio) == pytest.approx(float(factor), abs=0.02)


def test_a_converted_voice_is_heard_by_the_command_line(tmp_path: Path):
    target = tmp_path / "voice"
    out = runner.invoke(cli.app, ["convert", "pocket", str(target), "--to", "sesame"])
    assert out.exit_code == 0, out.output
    spoken = []
    for model in (["--model", str(target), "--dtype", "float32", "--execution", "eager"], []):
        path = tmp_path / f"{len(spoken)}.wav"
        out = runner.invoke(
            cli.app, ["say", "Good morning.", "--seed", "1", "--device", "cpu", "--save", str(path), *model]
        )
        assert out.exit_code == 0, out.output
        spoken.append(read(path))
        assert not model or "eager, float32" in out.output.splitlines()[0]
    assert len(spoken[0]) == len(spoken[1]) and np.abs(spoken[0] - spoken[1]).max() < 1e-3


def test_a_voice_that_cannot_follow_a_recording_refuses_it(recording: Path, tmp_path: Path):
    arguments = ["say", "Hi.", "--preset", "pocket", "--save", str(tmp_path / "a.wav"), "--device", "cpu"]
    out = runner.invoke(cli.app, [*arguments, "--voice", str(recording), "--voice-text", "Mm."])
    if not Abilities.read(find_voice("pocket")).follows_prompt:
        assert isinstance(out.exception, InputError) and "cannot speak like a recording" in str(out.exception)
    out = runner.invoke(cli.app, [*arguments, "--speaker", "7"])
    assert isinstance(out.exception, InputError) and "speaker=7: this voice has the speakers 0 to 1" in str(
        out.exception
    )
    out = runner.invoke(cli.app, [*arguments, "--dtype", "int8"])
    assert isinstance(out.exception, InputError) and "dtype='int8': give float32" in str(out.exception)
