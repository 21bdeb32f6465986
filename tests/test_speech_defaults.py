"""Every default of speech stands once, in `SpeechSettings`; chatbots and commands take it from there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

from csmkit import Guards, cli
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.chat.settings import TurnOptions
from csmkit.cli import models
from csmkit.cli.options import SpeechOptions
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.abilities import Abilities
from csmkit.speech.base import FakeGenerator
from csmkit.speech.settings import SpeechSettings

SETTINGS = {field.name: field.default for field in fields(SpeechSettings)}
OPTIONS = {"max_audio_ms": "max_audio_length_ms"}  # an option of the command line and its setting, where they differ


def test_the_options_of_a_turn_repeat_no_setting_of_speech() -> None:
    assert issubclass(TurnOptions, SpeechSettings)
    assert not set(TurnOptions.__annotations__) & set(SETTINGS)


def test_what_is_not_given_on_the_command_line_is_left_to_the_settings() -> None:
    assert SpeechOptions().given() == {}
    assert not any(field.default for field in fields(SpeechOptions)), "None and False: not given"


def test_every_setting_of_speech_has_an_option_and_arrives() -> None:
    given = SpeechOptions(
        chunk_frames="1,2", temperature=0.5, topk=7, max_audio_ms=800, speaker=1, seed=3, guards="off", raw_text=True
    ).given()
    assert set(given) == set(SETTINGS)
    settings = SpeechSettings(**given)
    assert (settings.chunk_frames, settings.guards, settings.raw_text) == ((1, 2), Guards.off(), True)


def test_the_defaults_that_the_help_names_are_those_of_the_settings() -> None:
    named = {}
    for name, hint in get_type_hints(SpeechOptions, include_extras=True).items():
        found = re.search(r"default (\w+)\.$", hint.__metadata__[0])
        if found:
            named[OPTIONS.get(name, name)] = found[1]
    assert named.pop("guards") == "on" and SETTINGS["guards"] == Guards()
    assert named == {name: str(SETTINGS[name]) for name in ("chunk_frames", "max_audio_length_ms", "speaker")}


def test_none_of_a_turn_means_what_it_means_in_the_settings() -> None:
    options = TurnOptions(max_audio_length_ms=None, guards=None)
    assert options.max_audio_length_ms == SpeechSettings.max_audio_length_ms
    assert options.guards == Guards.off()


@pytest.mark.parametrize(("raw_text", "spoken"), [(False, "I have two cats."), (True, "I have 2 cats.")])
def test_raw_text_gives_the_voice_the_answer_as_it_is_written(raw_text: bool, spoken: str) -> None:
    generator = FakeGenerator()
    llm = FakeLLM(["I have 2 cats."])
    with StreamingConversationalChatbot(
        generator=generator, llm=llm, asr=False, context_turns=1, raw_text=raw_text
    ) as chatbot:
        clauses = [e["spoken"] for e in chatbot.process_streaming("How many? 3?") if e["type"] == "clause"]
    assert clauses == [request.text for request in generator.requests] == [spoken]
    (user,) = generator.requests[0].context
    assert user.text == ("How many? 3?" if raw_text else "How many? three?")


@pytest.mark.parametrize(("option", "texts"), [([], ["One cat.", "two cats."]), (["--raw-text"], ["One cat. 2 cats."])])
def test_say_gives_the_voice_the_raw_text_in_one_generation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: list[str], texts: list[str]
) -> None:
    generator = FakeGenerator()
    generator.abilities = Abilities(most_sentences=1)
    monkeypatch.setattr(models, "load_generator", lambda *given: generator)
    out = CliRunner().invoke(cli.app, ["say", "One cat. 2 cats.", "--save", str(tmp_path / "a.wav"), *option])
    assert out.exit_code == 0, out.output
    assert [request.text for request in generator.requests] == texts


def test_the_defaults_that_the_help_of_talk_names_are_those_of_the_detection() -> None:
    from csmkit.live.turn_detector import TurnDetection

    out = CliRunner().invoke(cli.app, ["talk", "--help"], env={"COLUMNS": "300", "NO_COLOR": "1"})
    assert f"Least probability of speech, 0 to 1; default {TurnDetection.threshold:g}." in out.output
    assert f"in milliseconds; default {TurnDetection.silence_ms:g}." in out.output
