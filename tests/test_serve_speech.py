"""The speech and transcription routes, with the bundled models and OpenAI's own client."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lab_server import need

need("starlette", "uvicorn", "websockets", "multipart", "openai", "httpx", "faster_whisper", extra="serve")
import httpx
import openai
import soundfile
from serving import PATIENCE_S, pocket_models, serving

from csmkit.audio import SAMPLE_RATE
from csmkit.serve import Server
from csmkit.serve.sound_files import read_sound
from csmkit.serve.sound_formats import MEDIA_TYPES, WAV_HEADER, new_encoder

TEXT = "how are you today my friend?"
ASKED = {"model": "csm", "voice": "speaker-0", "input": TEXT, "extra_body": {"seed": 1}}
COMMANDS = Path(__file__).parents[1] / "docs" / "serve.md"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(pocket_models()) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """What the voice says with that seed, ``(samples,)``."""
    return pocket_models().voice.generate(TEXT, seed=1).numpy()


def post(http: httpx.Client, **fields: object) -> httpx.Response:
    return http.post("/v1/audio/speech", json={"input": TEXT, "response_format": "pcm", "seed": 1} | fields)


def test_the_openai_package_gets_the_very_samples_of_the_voice(client: openai.OpenAI, spoken: np.ndarray) -> None:
    answer = client.audio.speech.create(**ASKED, response_format="pcm")
    assert answer.response.headers["content-type"] == "audio/pcm;rate=24000"
    heard = np.frombuffer(answer.content, "<i2") / 32_767
    np.testing.assert_allclose(heard, np.clip(spoken, -1, 1), atol=1 / 32_767)


def test_the_openai_package_streams_and_the_pieces_are_one_file(client: openai.OpenAI, spoken: np.ndarray) -> None:
    with client.audio.speech.with_streaming_response.create(**ASKED, response_format="wav") as answer:
        pieces = list(answer.iter_bytes())
    data = b"".join(pieces)
    assert len(pieces) > 1 and data[:44] == WAV_HEADER
    assert len(data) == 44 + 2 * len(spoken)


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_every_format_is_a_file_of_the_whole_sound(http: httpx.Client, spoken: np.ndarray, name: str) -> None:
    answer = post(http, response_format=name)
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPES[name])
    data = WAV_HEADER + answer.content if name == "pcm" else answer.content
    sound = read_sound(io.BytesIO(data), 60)
    assert abs(len(sound) - len(spoken)) < 0.1 * SAMPLE_RATE
    assert np.std(sound) == pytest.approx(np.std(spoken), rel=0.1)


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_an_encoder_hands_out_bytes_long_before_the_end(name: str) -> None:
    encoder = new_encoder(name)
    tone = np.sin(np.arange(SAMPLE_RATE) * 0.1).astype(np.float32) / 2
    pieces = [encoder.encode(frame) for frame in tone.reshape(-1, 1920 // 4)]
    assert pieces and any(pieces[:12]), "nothing within a quarter of a second"
    assert len(read_sound(io.BytesIO(whole(name, [*pieces, encoder.finish()])), 60)) == pytest.approx(24_000, abs=2_400)


def whole(name: str, pieces: list[bytes]) -> bytes:
    data = b"".join(pieces)
    return WAV_HEADER + data if name == "pcm" else data


def test_an_odd_chunk_size_changes_neither_samples_nor_their_number(http: httpx.Client) -> None:
    assert post(http, chunk_frames=[1, 2]).content == post(http, chunk_frames=7).content


def test_events_carry_the_same_bytes_as_the_file_and_end_with_the_usage(http: httpx.Client) -> None:
    answer = post(http, stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    sound = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert sound == post(http).content
    n_frames = len(sound) // 2 // 1920
    usage = {"input_tokens": 6, "output_tokens": n_frames, "total_tokens": 6 + n_frames}
    assert done == {"type": "speech.audio.done", "usage": usage}


def test_a_text_of_many_sentences_is_spoken_to_its_end(client: openai.OpenAI) -> None:
    text = "The weather is nice today. I like to read books. We can meet at the station in the morning."
    asked = {"model": "pocket", "voice": "speaker-1", "input": text, "response_format": "wav"}
    answer = client.audio.speech.create(**asked, extra_body={"seed": 1})
    heard = client.audio.transcriptions.create(model="whisper", file=("a.wav", answer.content))
    assert "weather" in heard.text.lower() and "morning" in heard.text.lower()


def test_another_speaker_sounds_different_and_a_voice_may_be_an_object_or_a_number(http: httpx.Client) -> None:
    first, second = post(http, voice="speaker-0").content, post(http, voice={"id": "speaker-1"}).content
    assert first != second == post(http, voice="1").content


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": ""}, "input", "1 to 4096"),
        ({"input": "a " * 2_100}, "input", "4200 characters"),
        ({"input": "?!"}, None, "nothing in it"),
        ({"input": 7}, "input", "no text"),
        ({"speed": 1.5}, "speed", "speed other than 1"),
        ({"voice": "alloy"}, "voice", "speaker-0, speaker-1"),
        ({"voice": ["speaker-0"]}, "voice", "no voice of that name"),
        ({"response_format": "aac"}, "response_format", "pcm, wav, flac, mp3, opus"),
        ({"response_format": ["pcm"]}, "response_format", "pcm, wav, flac, mp3, opus"),
        ({"stream_format": "ndjson"}, "stream_format", "audio, sse"),
        ({"seed": "one"}, "seed", "integer"),
        ({"seed": -1}, None, "seed=-1"),
        ({"temperature": -1}, None, "temperature"),
        ({"topk": 0}, None, "topk"),
        ({"chunk_frames": 0}, "chunk_frames", "1 to 125"),
        ({"chunk_frames": [1] * 17}, "chunk_frames", "up to 16"),
        ({"max_audio_length_ms": 10}, None, "at least one frame"),
        ({"instructions": "whisper"}, "instructions", "no effect"),
        ({"pitch": 2}, "pitch", "no effect"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    http: httpx.Client, fields: dict[str, object], param: str | None, message: str
) -> None:
    answer = post(http, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (422, param, "invalid_request_error")
    assert message in error["message"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/tmp/voice", "meta-llama/Llama-3.2-1B", "https://example.org/x", ""]
)
def test_a_model_of_another_name_is_not_looked_for(http: httpx.Client, client: openai.OpenAI, name: str) -> None:
    answer = post(http, model=name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model=name or "x", file=("a.wav", WAV_HEADER))


def test_models_and_voices_are_listed(client: openai.OpenAI, http: httpx.Client) -> None:
    names = {model.id for model in client.models.list()}
    assert {"pocket", "csm", "tiny.en", "whisper", "gpt-realtime"} <= names
    assert http.get("/v1/audio/voices").json()["voices"] == ["speaker-0", "speaker-1"]


def test_what_the_voice_says_is_transcribed_whole_and_in_events(client: openai.OpenAI) -> None:
    text = "good morning, how are you today? I like to read books."
    sound = client.audio.speech.create(**(ASKED | {"input": text}), response_format="wav").content
    heard = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", sound))
    assert heard.text.lower().startswith("good morning") and heard.usage.seconds > 1
    events = list(client.audio.transcriptions.create(model="whisper-1", file=("a.wav", sound), stream=True))
    assert {event.type for event in events[:-1]} <= {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done" and events[-1].text.lower().startswith("good morning")
    words = client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", sound), response_format="verbose_json"
    ).words
    assert words and words[0].start < words[-1].end


def test_a_text_alone_may_be_asked_for(http: httpx.Client) -> None:
    sound = post(http, response_format="flac").content
    answer = http.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.flac", sound)},
        data={"response_format": "text", "model": "whisper"},
    )
    assert answer.headers["content-type"].startswith("text/plain") and answer.text.lower().startswith("how are you")


@pytest.mark.parametrize(
    ("data", "fields", "status", "message"),
    [
        (b"not a sound", {}, 422, "no sound file"),
        (b"", {}, 422, "no sound file"),
        (WAV_HEADER, {}, 422, "without a sample"),
        (WAV_HEADER + bytes(48_000 * 121), {}, 413, "more than 120 s"),
        (WAV_HEADER + bytes(4_800), {"language": "de"}, 422, "English alone"),
        (WAV_HEADER + bytes(4_800), {"response_format": "srt"}, 422, "json, text, verbose_json"),
        (WAV_HEADER + bytes(4_800), {"url": "file:///etc/passwd"}, 422, "no effect"),
    ],
)
def test_a_sound_that_cannot_be_transcribed_is_refused(
    http: httpx.Client, data: bytes, fields: dict[str, str], status: int, message: str
) -> None:
    answer = http.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data={"model": "whisper"} | fields)
    assert answer.status_code == status and message in answer.json()["error"]["message"]


def test_a_small_file_that_unpacks_to_hours_is_read_no_further_than_allowed() -> None:
    packed = io.BytesIO()
    with soundfile.SoundFile(packed, "w", 8_000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(8_000 * 60, np.int16))
    assert packed.tell() < 200_000
    packed.seek(0)
    with pytest.raises(Exception, match="more than 120 s"):
        read_sound(packed, 120)


def test_sagemaker_asks_on_its_own_routes(http: httpx.Client) -> None:
    assert http.get("/ping").status_code == 200
    answer = http.post("/invocations", json={"input": TEXT, "response_format": "pcm", "seed": 1})
    assert answer.content == post(http).content


def test_metrics_are_counted_and_readable(http: httpx.Client) -> None:
    post(http)
    text = http.get("/metrics").text
    assert 'csmkit_requests_total{route="/v1/audio/speech",status="200"}' in text
    assert "csmkit_first_audio_seconds_count" in text and "csmkit_ready 1" in text
    assert all(line.startswith("#") or len(line.rsplit(" ", 1)) == 2 for line in text.splitlines())


def test_another_path_or_method_is_answered_in_the_same_form(http: httpx.Client) -> None:
    assert http.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert http.get("/v1/audio/speech").status_code == 405
    assert http.post("/v1/audio/speech", content=b"{").json()["error"]["code"] == "bad_json"
    assert http.post("/v1/audio/speech", content=b"[" * 100_000).json()["error"]["code"] == "bad_json"
    assert http.post("/v1/audio/speech", content=b"[]").status_code == 422
    assert http.post("/v1/audio/transcriptions", content=b"x").status_code == 415


@pytest.mark.skipif(shutil.which("sox") is None, reason="needs sox on the PATH")
def test_sox_reads_a_wav_whose_length_was_not_known(http: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(post(http, response_format="wav").content)
    done = subprocess.run(["sox", tmp_path / "a.wav", "-n", "stat"], capture_output=True, text=True, check=True)
    assert "Length (seconds)" in done.stderr
