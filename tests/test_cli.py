"""The command line, on fakes where no model is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from csmkit import cli
from csmkit.asr.fake import FakeTranscriber
from csmkit.asr.worker import StreamingWhisperASR
from csmkit.audio import read
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.chat.llm import FakeLLM
from csmkit.errors import InputError
from csmkit.speech import FakeGenerator

runner = CliRunner()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chatbot of fakes behind the commands."""

    def load(preset, whisper, device, teller, **options):
        asr = StreamingWhisperASR(whisper, transcriber=FakeTranscriber())
        return StreamingConversationalChatbot(generator=FakeGenerator(), asr=asr, llm=FakeLLM(), **options)

    monkeypatch.setattr(cli, "load_chatbot", load)


def test_a_schedule_is_a_number_or_several():
    assert cli.parse_schedule("6") == 6
    assert cli.parse_schedule("1,2,4,6") == (1, 2, 4, 6)
    with pytest.raises(InputError, match="1,2,4,6"):
        cli.parse_schedule("six")


def test_chat_tells_the_turn_as_it_happens(fakes: None, tmp_path: Path):
    out = runner.invoke(cli.app, ["chat", "Hello!", "--save", str(tmp_path / "response.wav"), "--chunk-frames", "2"])
    assert out.exit_code == 0, out.output
    lines = out.output.splitlines()
    assert any(line.startswith("Chunk 1 ready at") and line.endswith("<- first audio") for line in lines)
    assert any(line.startswith("Chunk 2 ready at") and "first" not in line for line in lines)
    assert any(line.startswith("Final transcription:") for line in lines)
    assert any(line.startswith("Time to first audio:") for line in lines)
    assert len(read(tmp_path / "response.wav")) > 0


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


def test_say_writes_what_it_speaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(cli, "load_generator", lambda preset, device, teller: FakeGenerator())
    out = runner.invoke(cli.app, ["say", "three words here", "--save", str(tmp_path / "a.wav"), "--json"])
    assert out.exit_code == 0, out.output
    row = json.loads(out.output.splitlines()[-1])
    assert row["finish_reason"] == "end_of_speech"
    assert len(read(tmp_path / "a.wav")) == 6 * 1920


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
        (["say", "Hello.", "--temperature", "-1"], "temperature"),
    ],
)
def test_an_error_is_one_line_and_exit_status_one(arguments, message, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: cli.app(arguments, standalone_mode=False))
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
