"""A conversation at a real prompt, with the pocket models, in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from csmkit.audio import SAMPLE_RATE, read

PATIENCE_S = 120.0
SAID = (
    "Hello!",
    "How are you today?",
    "What is the weather like?",
    "What is seven plus five?",
    "Tell me a joke.",
    "What time is it?",
    "What is your favourite food?",
    "Tell me another joke.",
    "Thank you, that was nice.",
    "Good night!",
)
INTERRUPTED = 5  # the turn, from 1


class Terminal:
    """A program in a terminal of its own: type to it, wait for what it shows, press Ctrl-C."""

    def __init__(self, *arguments: str) -> None:
        program = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from csmkit.cli import run; run()"
        ours, theirs = pty.openpty()
        modes = termios.tcgetattr(theirs)
        modes[3] |= termios.NOFLSH  # else Ctrl-C throws away what was just shown, at times the next prompt
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        command = [sys.executable, "-c", program, *arguments]
        self._process = subprocess.Popen(command, start_new_session=True, **streams)
        os.close(theirs)
        self._fd, self._shown = ours, ""

    def until(self, pattern: str, patience_s: float = PATIENCE_S) -> str:
        """Wait for a pattern; what was shown up to its end, which is then forgotten."""
        deadline = time.monotonic() + patience_s
        while (found := re.search(pattern, self._shown)) is None:
            left_s = max(deadline - time.monotonic(), 0)
            assert select.select([self._fd], [], [], left_s)[0], f"waited {patience_s} s after: {self._shown}"
            self._shown += os.read(self._fd, 4096).decode().replace("\r\n", "\n")
        shown, self._shown = self._shown[: found.end()], self._shown[found.end() :]
        return shown

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def press_ctrl_c(self) -> None:
        self.type("\x03")

    def leave_line(self) -> None:
        """Ctrl-C at the prompt, until there is a new one.

        Once may not do: what comes after the prompt was shown and before Python waits for a line is only noticed with
        the next key.
        """
        for _ in range(int(PATIENCE_S / 5)):
            self.press_ctrl_c()
            with suppress(AssertionError):
                self.until("\n> ", 5.0)
                return
        raise AssertionError(f"no new prompt after: {self._shown}")

    def end(self) -> int:
        """Ctrl-D; the exit status."""
        self.type("\x04")
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Terminal]:
    files = ["--save", str(tmp_path / "talk.wav"), "--timeline", str(tmp_path / "talk.html")]
    terminal = Terminal("chat", "--whisper", "tiny.en", "--seed", "1", "--chunk-frames", "2", *files)
    yield terminal
    terminal.close()


def test_ten_turns_at_a_prompt_with_an_interruption(talk: Terminal, tmp_path: Path):
    talk.until("\n> ")
    told = []
    for number, said in enumerate(SAID, start=1):
        talk.type(f"{said}\n")
        if number == INTERRUPTED:
            talk.until("Chunk 1 ready")
            talk.press_ctrl_c()
        told.append(talk.until("\n> "))
    assert talk.end() == 0
    for number, lines in enumerate(told, start=1):
        assert "failed" not in lines and "Traceback" not in lines, lines
        assert f"Saved {tmp_path / f'talk-{number:02d}.wav'}" in lines
        assert ("Interrupted." in lines) is (number == INTERRUPTED), lines
        assert ("Final transcription:" in lines) is (number != INTERRUPTED), lines
        assert "Time to first audio:" in lines
        sound = read(tmp_path / f"talk-{number:02d}.wav")
        (spoken,) = re.findall(r"([\d.]+)s of speech", lines)
        assert len(sound) / SAMPLE_RATE == pytest.approx(float(spoken), abs=0.006)
        page = (tmp_path / f"talk-{number:02d}.html").read_text(encoding="utf-8")
        assert ("interrupted" in page) is (number == INTERRUPTED)


def test_ctrl_c_at_no_moment_ends_the_conversation(talk: Terminal, tmp_path: Path):
    talk.until("\n> ")
    talk.type("Tell me a story.\n")
    talk.until("Saved")
    talk.press_ctrl_c()  # while the timeline is drawn, or just after
    talk.until("\n> ")
    talk.type("half a li")
    talk.leave_line()
    talk.type("Tell me a story.\n")
    talk.press_ctrl_c()  # before anything was spoken, or so
    talk.until("\n> ")
    talk.type("Tell me a story.\n")
    talk.until("Chunk 1 ready")
    talk.press_ctrl_c()
    talk.press_ctrl_c()
    talk.until("\n> ")
    talk.type("Thank you.\n")
    assert "end_of_speech" in talk.until("Drew .*\n")
    assert talk.end() == 0


def test_ctrl_c_ends_one_turn_with_its_figures_for_programs_too(tmp_path: Path):
    terminal = Terminal("chat", "Tell me a joke.", "--whisper", "tiny.en", "--chunk-frames", "1", "--json")
    try:
        terminal.until('"chunk_num": 1}')
        terminal.press_ctrl_c()
        line = terminal.until(r'\{"type": "complete".*\n').splitlines()[-1].removeprefix("^C")
    finally:
        terminal.close()
    complete = json.loads(line)
    assert complete["finish_reason"] == "interrupted" and complete["metrics"]["audio_s"] > 0
