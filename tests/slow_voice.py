"""A fake voice for sweeps: slow enough to be killed, or failing, as the environment says; importable by workers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from csmkit.codec import Codec
from csmkit.errors import DeviceError
from csmkit.speech.generator import FakeGenerator
from csmkit.speech.scheduler import ScheduledUtterance
from csmkit.speech.settings import Request


class SlowVoice(FakeGenerator):
    """Two frames a word, 4 ms each where SLOW_VOICE_S says nothing else."""

    def __init__(self) -> None:
        super().__init__(frame_s=float(os.environ.get("SLOW_VOICE_S", "0.004")))


class FailsOnce(FakeGenerator):
    """Fails for texts with the word "broken" as long as a file of that name is there."""

    def start(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None
    ) -> list[ScheduledUtterance]:
        if Path(os.environ["BROKEN"]).exists() and any("broken" in request.text for request in requests):
            raise DeviceError("out of memory, says the test")
        return super().start(requests, schedules, codec)


class Dies(SlowVoice):
    """Takes its process along for texts with the word "deadly"."""

    def start(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None
    ) -> list[ScheduledUtterance]:
        if any("deadly" in request.text for request in requests):
            os._exit(1)
        return super().start(requests, schedules, codec)


class Hangs(SlowVoice):
    """Does not come back from texts with the word "hangs"."""

    def start(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None
    ) -> list[ScheduledUtterance]:
        if any("hangs" in request.text for request in requests):
            time.sleep(3600)
        return super().start(requests, schedules, codec)


class Gated(SlowVoice):
    """Writes its process id into the folder GATE, and speaks once a file "open" is there."""

    def start(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None
    ) -> list[ScheduledUtterance]:
        gate = Path(os.environ["GATE"])
        (gate / str(os.getpid())).touch()
        while not (gate / "open").exists():
            time.sleep(0.01)
        return super().start(requests, schedules, codec)
