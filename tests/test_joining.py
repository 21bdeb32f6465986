"""Streams that join and leave while others speak: each sounds as it does alone, and nobody else notices."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import N_CODEBOOKS, save_voice, tiny_csm

from csmkit import Generator, Segment, StreamingConversationalChatbot
from csmkit.csm.execution.static import StaticStep
from csmkit.csm.model import CsmModel, CsmState
from csmkit.errors import CapacityError, ContextOverflowError, DeviceError, InputError, StateError
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.base import FakeGenerator, SpeechGenerator
from csmkit.speech.scheduler import Scheduler
from csmkit.speech.settings import Request
from csmkit.speech.shared import SharedGenerator
from csmkit.speech.streams import FrameStream, SpeechStream

TEXTS = ("hello there.", "what is the time, please?", "no.", "a rather longer sentence than the others are.")
LONG = Segment(
    1, "yes, " * 12, codes=torch.randint(0, 64, (N_CODEBOOKS, 90), generator=torch.Generator().manual_seed(1))
)
SHORT = Segment(0, "well?", codes=torch.randint(0, 64, (N_CODEBOOKS, 7), generator=torch.Generator().manual_seed(2)))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator.load(save_voice(tiny_csm(seed=3), tmp_path_factory.mktemp("joining")), device="cpu")


def random_request(generator: Generator, dice: random.Random, temperature: float) -> Request:
    return generator.request(
        dice.choice(TEXTS),
        dice.randrange(2),
        dice.choice(((), (SHORT,), (LONG,), (LONG, SHORT), (SHORT, LONG))),
        seed=dice.randrange(1000),
        topk=dice.choice((3, 50)),
        temperature=temperature,
        max_audio_length_ms=80 * dice.randrange(1, 30),
    )


def codes_alone(generator: Generator, request: Request) -> torch.Tensor:
    return torch.stack(list(generator.run(request)), dim=1)


def joined(generator: Generator) -> tuple[Scheduler, Any]:
    """A scheduler that is pulled, and a function that lets requests join it."""
    scheduler = Scheduler(generator.new_batch(generator.codec))

    def join(*requests: Request) -> list[SpeechStream]:
        seeded = [(request, request.seed or 0) for request in requests]
        utterances = scheduler.start(seeded, [(1,)] * len(requests), True)
        return [SpeechStream(utterance, (1,)) for utterance in utterances]

    return scheduler, join


@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "sampled"])
@pytest.mark.parametrize("seed", range(4))
def test_whoever_joins_and_leaves_each_stream_has_the_codes_it_has_alone(
    generator: Generator, seed: int, temperature: float
):
    dice = random.Random(seed)
    batch = generator.new_batch(generator.codec)
    rows: dict[Any, tuple[Request, list[Any]]] = {}
    done: list[tuple[Request, list[Any]]] = []
    reading: list[Any] = []
    while len(done) < 14:
        if len(rows) < 6 and dice.random() < 0.4:
            request = random_request(generator, dice, temperature)
            row = batch.open(request, request.seed or 0)
            rows[row] = (request, [])
            reading.append(row)
        reading = [row for row in reading if dice.random() < 0.3 or not batch.prepare(row)]
        ready = [row for row in rows if row not in reading and dice.random() < 0.8]  # some are left out of this pass
        dice.shuffle(ready)
        for row, frame in zip(ready, batch.make(ready), strict=True):
            request, frames = rows[row]
            frames.append(frame)
            if len(frames) == request.max_frames or dice.random() < 0.03:
                done.append(rows.pop(row))
                batch.close([row])
    for request, frames in done:
        expected = codes_alone(generator, request)[:, : len(frames)]
        assert torch.equal(torch.stack([frame.codes for frame in frames], dim=1), expected)
        sound = torch.cat([frame.sound for frame in frames])
        torch.testing.assert_close(sound, generator.codec.decode_whole(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_listeners_in_threads_of_their_own_get_what_they_get_alone(generator: Generator, seed: int):
    dice = random.Random(seed)
    requests = [random_request(generator, dice, 0.9) for _ in range(12)]
    pauses = [dice.random() / 50 for _ in requests]
    heard: dict[int, tuple[torch.Tensor, torch.Tensor, str | None]] = {}

    def listen(index: int) -> None:
        with shared.speak(requests[index], (1, 2, 4)) as stream:
            chunks = []
            for chunk in stream:
                chunks.append(chunk)
                time.sleep(pauses[index] if len(chunks) < 4 else 0)
            heard[index] = (stream.codes, torch.cat(chunks), stream.finish_reason)

    with SharedGenerator(generator, n_streams=4, n_waiting=12, ahead_ms=400) as shared:
        threads = [threading.Thread(target=listen, args=(index,)) for index in range(len(requests))]
        for thread, pause in zip(threads, pauses, strict=True):
            thread.start()
            time.sleep(pause)
        for thread in threads:
            thread.join(60)
    for index, request in enumerate(requests):
        codes, sound, reason = heard[index]
        expected = codes_alone(generator, request)
        assert torch.equal(codes, expected) and reason == "max_length", index
        torch.testing.assert_close(sound, generator.codec.decode_whole(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_ahead", [0, 1])
def test_streams_join_and_leave_where_frames_have_constant_shapes(generator: Generator, n_ahead: int):
    static = Generator(generator.model, generator.tokenizer, generator.codec)
    for decoder in (None, generator.codec.decoder):
        static.step = StaticStep(generator.model, decoder, n_ahead=n_ahead)
        dice = random.Random(5)
        batch = static.new_batch(static.codec)
        requests = [generator.request(text, seed=i, max_audio_length_ms=1_600) for i, text in enumerate(TEXTS)]
        rows = [batch.open(request, index) for index, request in enumerate(requests)]
        frames: list[list[Any]] = [[] for _ in rows]
        for row in rows:
            while not batch.prepare(row):
                pass
        for n_pass in range(40):
            chosen = [i for i in range(4) if n_pass >= 2 * i and len(frames[i]) < 18 and dice.random() < 0.8]
            for i, frame in zip(chosen, batch.make([rows[i] for i in chosen]), strict=True):
                frames[i].append(frame)
        for i, request in enumerate(requests):
            expected = codes_alone(generator, request)[:, : len(frames[i])]
            assert torch.equal(torch.stack([frame.codes for frame in frames[i]], dim=1), expected), (decoder, i)
            sound = torch.cat([frame.sound for frame in frames[i]])
            torch.testing.assert_close(sound, generator.codec.decode_whole(expected), atol=1e-4, rtol=0)


def test_a_prompt_read_in_pieces_between_frames_lets_others_go_on(generator: Generator):
    batch = generator.new_batch(None)
    first = batch.open(generator.request(TEXTS[0], seed=1, max_audio_length_ms=1_600), 1)
    assert batch.prepare(first)
    new = Segment(1, "not read before. " * 4, codes=LONG.codes.flip(1))
    long = generator.request(TEXTS[1], 0, (new,), seed=2, max_audio_length_ms=800)
    second = batch.open(long, 2)
    n_pieces = 0
    made = batch.make([first])
    while not batch.prepare(second):
        made += batch.make([first])
        n_pieces += 1
    assert n_pieces == 3, "65 rows of text, 91 of sound, then the text to speak"
    expected = codes_alone(generator, generator.request(TEXTS[0], seed=1, max_audio_length_ms=1_600))
    assert torch.equal(torch.stack([frame.codes for frame in made], dim=1), expected[:, : len(made)])
    (frame,) = batch.make([second])
    assert torch.equal(frame.codes, codes_alone(generator, long)[:, 0])


def test_more_than_may_wait_are_refused_at_the_call_and_leave_room_when_they_end():
    with SharedGenerator(FakeGenerator(frame_s=0.01), n_streams=1, n_waiting=1) as shared:
        first, second = shared.generate_streaming("one two", seed=1), shared.generate_streaming("three", seed=1)
        with pytest.raises(CapacityError, match="1 more beside 2 streams: 1 may speak at once and 1 wait; try again"):
            shared.generate_streaming("four", seed=1)
        assert (shared.n_speaking, shared.n_waiting) == (1, 1)
        assert len(list(second)) == 1, "who waits speaks when the first one has ended"
        assert len(list(first)) == 1
        assert len(list(shared.generate_streaming("four", seed=1))) == 1


@pytest.mark.parametrize("way", ["close", "stop_soon", "drop", "leave the loop"])
def test_a_stream_that_is_left_gives_its_place_back_within_a_frame(way: str):
    fake = FakeGenerator(frame_s=0.002)
    with SharedGenerator(fake, n_streams=1, n_waiting=1, ahead_ms=200) as shared:
        stream: Any = shared.generate_streaming("word " * 50, seed=1, chunk_frames=1)
        next(stream)
        if way == "close":
            stream.close()
            assert stream.finish_reason == "interrupted" and list(stream) == []
        elif way == "stop_soon":
            stream.stop_soon()
            assert list(stream) == [] and stream.finish_reason == "interrupted"
        elif way == "drop":
            del stream
        else:
            for _ in stream:
                break
            del stream
        assert shared.n_speaking == 0
        assert len(list(shared.generate_streaming("one two", seed=1, chunk_frames=1))) == 4


def test_a_stream_closed_before_it_was_read_computes_nothing():
    with SharedGenerator(FakeGenerator(frame_s=0.01), n_streams=1, n_waiting=3) as shared:
        first = shared.generate_streaming("one two three", seed=1)
        waiting = [shared.generate_streaming("never", seed=1) for _ in range(3)]
        for stream in waiting:
            stream.close()
        assert len(list(first)) == 1
        assert all(stream.n_frames == 0 and list(stream) == [] for stream in waiting)


def test_a_reader_that_waits_is_woken_when_its_stream_is_stopped():
    with SharedGenerator(FakeGenerator(frame_s=0.2), n_streams=1) as shared:
        stream = shared.generate_streaming("word " * 20, seed=1, chunk_frames=100)
        read: list[Any] = []
        reader = threading.Thread(target=lambda: read.append(list(stream)))
        reader.start()
        time.sleep(0.05)
        stream.stop_soon()
        reader.join(5)
        assert not reader.is_alive() and read == [[]] and stream.finish_reason == "interrupted"


def test_frames_are_made_ahead_of_a_slow_reader_up_to_a_bound():
    class Counting(FakeGenerator):
        n_made = 0

        def codes_of(self, request: Any, seed: int) -> Iterator[torch.Tensor]:
            for frame in super().codes_of(request, seed):
                self.n_made += 1
                yield frame

    fake = Counting()
    with SharedGenerator(fake, n_streams=2, ahead_ms=800) as shared:
        stream = shared.generate_streaming("word " * 40, seed=1, chunk_frames=1)
        next(stream)
        settled = wait_until_settled(lambda: fake.n_made)
        assert 10 <= settled <= 13, "ten frames ahead, and what was taken"
        other = shared.generate_streaming("one two", seed=1, chunk_frames=1)
        assert len(list(other)) == 4, "a reader that is slow keeps nobody"
        assert len(list(stream)) == 79


def wait_until_settled(count: Any) -> int:
    """A count that has not changed for a while."""
    last, same = count(), 0
    for _ in range(500):
        time.sleep(0.01)
        now = count()
        last, same = now, same + 1 if now == last else 0
        if same == 15:
            return now
    raise AssertionError("it never settles")


def test_an_error_in_a_shared_pass_ends_the_streams_of_that_pass_and_the_thread_goes_on(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
):
    speak = CsmModel.speak_frame
    broken = threading.Event()

    def sometimes(*given: Any) -> Any:
        if broken.is_set():
            raise DeviceError("out of order")
        return speak(*given)

    with SharedGenerator(generator, n_streams=3, ahead_ms=160) as shared:
        asked = [
            generator.request(text, seed=i, max_audio_length_ms=8_000, guards=None) for i, text in enumerate(TEXTS)
        ]
        streams = shared.speak_batch(asked[:2], [(1,)] * 2)
        for stream in streams:
            next(stream)
        with monkeypatch.context() as patched:
            patched.setattr(CsmModel, "speak_frame", sometimes)
            broken.set()
            for stream in streams:
                with pytest.raises(DeviceError, match="out of order"):
                    list(stream)
                assert stream.finish_reason == "interrupted" and list(stream) == []
        again = shared.speak(asked[3], (1,))
        frames = [next(again) for _ in range(5)]
        assert len(frames) == 5
        again.close()


def test_an_error_while_one_prompt_is_read_ends_that_stream_alone(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
):
    read = CsmModel.read_prompt

    def refuse(model: Any, state: Any, tokens: torch.Tensor, *rest: Any, **how: Any) -> Any:
        if tokens.shape[1] == 64:
            raise DeviceError("too long for this device")
        return read(model, state, tokens, *rest, **how)

    monkeypatch.setattr(CsmModel, "read_prompt", refuse)
    with SharedGenerator(generator, n_streams=3) as shared:
        good = generator.request(TEXTS[0], seed=1, max_audio_length_ms=1_600)
        bad = generator.request(TEXTS[1], 0, (Segment(1, "never read before. " * 5),), seed=1, max_audio_length_ms=800)
        streams = shared.speak_batch([good, bad], [(1,)] * 2)
        with pytest.raises(DeviceError, match="too long for this device"):
            list(streams[1])
        list(streams[0])
        assert torch.equal(streams[0].codes, codes_alone(generator, good))


def test_what_cannot_be_spoken_is_refused_at_the_call(generator: Generator):
    with SharedGenerator(generator) as shared:
        with pytest.raises(ContextOverflowError):
            shared.run(generator.request("hello " * 100))
        assert shared.n_speaking == 0
    with pytest.raises(StateError, match="closed"):
        shared.run(generator.request("hello"))
    for wrong in ({"n_streams": 0}, {"n_waiting": -1}, {"ahead_ms": 10}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            SharedGenerator(generator, **wrong)


def threads_of_the_scheduler() -> int:
    return sum(thread.name == "csmkit-speech" for thread in threading.enumerate())


def gone(n_threads: int) -> bool:
    for _ in range(500):
        if threads_of_the_scheduler() <= n_threads:
            return True
        time.sleep(0.01)
    return False


def test_closing_ends_all_streams_and_the_thread():
    before = threads_of_the_scheduler()
    shared = SharedGenerator(FakeGenerator(frame_s=0.01))
    streams = [shared.generate_streaming("word " * 50, seed=i, chunk_frames=1) for i in range(3)]
    next(streams[0])
    shared.close()
    shared.close()
    assert [list(stream) for stream in streams] == [[], [], []]
    assert {stream.finish_reason for stream in streams} == {"interrupted"} and gone(before)


def test_a_shared_generator_that_is_dropped_ends_its_thread_once_its_streams_are_read():
    before = threads_of_the_scheduler()
    shared = SharedGenerator(FakeGenerator())
    stream = shared.generate_streaming("one two three", seed=1, chunk_frames=1)
    del shared
    assert len(list(stream)) == 6, "a stream outlives the object that made it"
    del stream
    gc.collect()
    assert gone(before)


def test_leaving_frees_the_state(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    seen: list[weakref.ref[CsmState]] = []

    def new_state(*given: Any, **how: Any) -> CsmState:
        state = CsmModel.new_state(generator.model, *given, **how)
        seen.append(weakref.ref(state))
        return state

    monkeypatch.setattr(generator.model, "new_state", new_state)
    scheduler, join = joined(generator)
    first, second = join(*(generator.request(text, seed=1, max_audio_length_ms=1_600) for text in TEXTS[:2]))
    next(first), next(second)
    first.close()
    next(second)
    assert scheduler.n_streams == 1
    second.close()
    gc.collect()
    assert seen and all(reference() is None for reference in seen) and scheduler.n_streams == 0


@pytest.mark.parametrize("execution", ["eager", "static"])
def test_in_bfloat16_too_what_was_read_beside_others_leaves_the_codes_as_they_are(
    voice_directory: Path, execution: str
):
    how = {"device": "cpu", "dtype": torch.bfloat16, "execution": execution}
    used, fresh = (Generator.load(voice_directory, **how) for _ in range(2))
    asked = [(TEXTS[i], i % 2, (LONG, SHORT)[: 1 + i % 2]) for i in range(4)]
    with SharedGenerator(used, n_streams=4) as shared:
        streams = [shared.frames(*one, max_audio_length_ms=400, seed=5) for one in asked]
        assert all(len(list(stream)) == 5 for stream in streams)
    for text, speaker, context in asked:
        again, alone = (
            torch.stack(list(voice.frames(text, speaker, context, max_audio_length_ms=800, seed=9)))
            for voice in (used, fresh)
        )
        assert torch.equal(again, alone)


def test_each_conversation_goes_on_from_its_own_prompt(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    n_read: list[int] = []
    read = generator.step.read

    def counting(state: Any, tokens: torch.Tensor, mask: torch.Tensor) -> None:
        n_read.append(tokens.shape[1])
        read(state, tokens, mask)

    monkeypatch.setattr(generator.step, "read", counting)
    histories = [[Segment(i % 2, f"conversation {i}, turn {turn}.") for turn in range(3)] for i in range(3)]
    with SharedGenerator(generator, n_streams=3) as shared:
        for n_turns in (1, 2, 3):
            for history in histories:
                n_read.clear()
                assert len(list(shared.frames("yes.", 0, history[:n_turns], max_audio_length_ms=80, seed=1))) == 1
                assert len(n_read) == 2, "the new turn, and the text"
    generator.keep_prompts(1)


def test_codes_alone_can_be_shared_too(generator: Generator):
    request = generator.request(TEXTS[1], seed=3, max_audio_length_ms=800)
    with SharedGenerator(generator) as shared:
        frames = shared.run(request)
        assert isinstance(frames, FrameStream)
        assert torch.equal(torch.stack(list(frames), dim=1), codes_alone(generator, request))


def test_a_shared_generator_speaks_texts_of_any_length_and_for_a_chatbot(voice_directory: Path):
    from csmkit import StreamingConversationalChatbot
    from csmkit.llm.transformers import FakeLLM

    alone = Generator.load(voice_directory, device="cpu")
    how = {"max_audio_length_ms": 800, "seed": 3, "asr": False}
    sounds = []
    with SharedGenerator(alone) as shared:
        for voice in (alone, shared):
            with StreamingConversationalChatbot(generator=voice, llm=FakeLLM(["hello there. no."]), **how) as bot:
                events = list(bot.process_streaming("hi"))
            sounds.append(torch.cat([event["data"] for event in events if event["type"] == "audio_chunk"]))
    torch.testing.assert_close(*sounds, atol=1e-4, rtol=0)


def test_chatbots_that_share_a_generator_say_what_each_says_alone(generator: Generator):
    answers = (["Hello there. How are you?"], ["No."], ["What is the time, please?"])

    def sound(voice: SpeechGenerator, answer: list[str]) -> torch.Tensor:
        how = {"guards": None, "max_audio_length_ms": 800}
        with StreamingConversationalChatbot(generator=voice, llm=FakeLLM(answer), asr=False, seed=4, **how) as chatbot:
            events = list(chatbot.process_streaming("Hi"))
        return torch.cat([event["data"] for event in events if event["type"] == "audio_chunk"])

    alone = [sound(generator, answer) for answer in answers]
    with SharedGenerator(generator, n_streams=2) as shared, ThreadPoolExecutor(3) as threads:
        together = list(threads.map(partial(sound, shared), answers))
    for expected, found in zip(alone, together, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
