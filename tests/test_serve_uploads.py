"""Recordings of phones and browsers as uploads: read from memory, within limits, whatever they say of themselves."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from lab_server import need

need("starlette", "uvicorn", "httpx", "faster_whisper", "av", extra="serve")
import av
import httpx
from serving import PATIENCE_S, pocket_models, serving

from csmkit.audio import SAMPLE_RATE
from csmkit.errors import AudioFileError
from csmkit.serve.errors import RequestError
from csmkit.serve.sound_files import read_sound

KINDS = {"m4a": ("mp4", "aac"), "aac": ("adts", "aac"), "webm": ("webm", "libopus")}
TEXT = "good morning, how are you today?"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with serving(pocket_models()) as server, httpx.Client(base_url=server.address, timeout=PATIENCE_S) as client:
        yield client


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def written(kind: str, samples: np.ndarray, layout: str = "mono") -> bytes:
    """``(samples,)`` at 24 kHz as a file; both channels of a stereo one are the same."""
    container_name, codec = KINDS[kind]
    packed = io.BytesIO()
    with av.open(packed, "w", format=container_name) as container:
        track = container.add_stream(codec, rate=SAMPLE_RATE, layout=layout)
        channels = np.tile(samples, (2 if layout == "stereo" else 1, 1))
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.sample_rate = SAMPLE_RATE
        for packets in (track.encode(frame), track.encode(None)):
            container.mux(packets)
    return packed.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_phone_or_a_browser_records_is_transcribed(http: httpx.Client, kind: str) -> None:
    sound = pocket_models().voice.generate(TEXT, seed=1).numpy()
    files = {"file": (f"said.{kind}", written(kind, sound, "stereo" if kind == "m4a" else "mono"))}
    answer = http.post("/v1/audio/transcriptions", files=files, data={"model": "whisper"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"].lower().startswith("good morning")


@pytest.mark.parametrize("kind", KINDS)
def test_the_sound_of_an_upload_is_the_one_that_was_recorded(kind: str) -> None:
    read = read_sound(io.BytesIO(written(kind, tone(1.0))), 60)
    assert len(read) == pytest.approx(SAMPLE_RATE, abs=SAMPLE_RATE // 8)
    middle = read[len(read) // 4 : 3 * len(read) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * SAMPLE_RATE / len(middle) == pytest.approx(440, abs=3)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_upload_of_minutes_is_read_no_further_than_allowed(kind: str) -> None:
    packed = written(kind, np.zeros(SAMPLE_RATE * 180, np.float32))
    assert len(packed) < 800_000
    with pytest.raises(RequestError, match="a sound of more than 120 s: send it in parts") as refused:
        read_sound(io.BytesIO(packed), 120)
    assert refused.value.status == 413


@pytest.mark.parametrize("kind", ["m4a", "webm"])
def test_an_upload_that_is_cut_or_damaged_is_no_sound_file_or_a_shorter_one(kind: str) -> None:
    whole = written(kind, tone(2.0))
    damaged = bytearray(whole)
    damaged[40:400] = np.random.default_rng(0).bytes(360)
    for data in (whole[:60], whole[: len(whole) // 2], bytes(damaged)):
        try:
            assert len(read_sound(io.BytesIO(data), 60)) <= 2.2 * SAMPLE_RATE
        except (AudioFileError, RequestError) as error:
            assert "sound" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_a_list_that_names_other_files_or_addresses_is_not_followed(http: httpx.Client, data: bytes) -> None:
    answer = http.post("/v1/audio/transcriptions", files={"file": ("a.m4a", data)}, data={"model": "whisper"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].endswith("send WAV, FLAC, OGG, MP3, M4A, AAC or WebM")


def test_a_film_without_sound_is_refused() -> None:
    packed = io.BytesIO()
    with av.open(packed, "w", format="mp4") as container:
        track = container.add_stream("mpeg4", rate=5)
        track.width = track.height = 32
        track.pix_fmt = "yuv420p"
        container.mux(track.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(track.encode(None))
    packed.seek(0)
    with pytest.raises(RequestError, match="a file without a sound track: send a recording"):
        read_sound(packed, 60)
