"""Studio: type, choose, hear, compare and keep, without writing code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from os import PathLike

import ipywidgets
import numpy as np

from csmkit.errors import CsmkitError
from csmkit.lab.notebook.chart import describe, latency_svg
from csmkit.lab.notebook.controls import SCHEDULES, Controls
from csmkit.lab.notebook.history import History
from csmkit.lab.notebook.output import NO_ANSWER, audio_html
from csmkit.lab.notebook.player import Player
from csmkit.lab.notebook.recordings import Take, keep
from csmkit.lab.notebook.session import Booth, Progress
from csmkit.stack import Stack
from csmkit.timing import Arrivals

PHASES = {"loading": "loading the models …", "speaking": "", "measuring": "measuring …", "stopped": "stopped"}


class Studio:
    """A form with Speak and Stop, a player, live text and latency, and the takes so far.

    Speaking runs in a thread: the kernel stays free, and cells may use ``takes`` meanwhile. What goes wrong is shown as
    one line. Where the player's front end is missing, each take comes with a plain audio control.

    Args:
        preset: to begin with; None asks CSMKIT_PRESET and means pocket. Models are loaded at the first Speak.
        text: to begin with.
        schedules: of chunks, to choose from.
        folder: where takes are kept.
        open_stack: makes the models of a preset.

    Attributes:
        controls: the fields.
        booth: what speaks.
        player: what is heard.
        widget: all of it, for a layout of your own.

    Raises:
        InputError: an unknown preset.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        text: str = "good morning, how are you today?",
        schedules: Sequence[int | tuple[int, ...]] = SCHEDULES,
        folder: str | PathLike[str] = "takes",
        open_stack: Callable[[str], Stack] = Stack,
    ) -> None:
        self.controls = Controls(text, preset, schedules)
        self.player = Player(embedded=True)
        self.booth = Booth(self.player, self._show, open_stack)
        self._folder = folder
        self._history = History(self._play, self._keep)
        self._speak = _button("Speak", "play", "primary", self._press_speak)
        self._stop = _button("Stop", "stop", "", lambda: self.booth.stop())
        self._stop.disabled = True
        self._status, self._heard, self._latency, self._sound = (ipywidgets.HTML() for _ in range(4))
        for name, part in (("status", self._status), ("heard", self._heard), ("latency", self._latency)):
            part.add_class(f"csmkit-studio-{name}")
        self._latency.value = latency_svg(Arrivals())
        buttons = ipywidgets.HBox([self._speak, self._stop, self._status])
        below = [self.player.widget, self._sound, self._heard, self._latency, self._history.widget]
        self.widget = ipywidgets.VBox([self.controls.layout, buttons, *below])
        self.widget.add_class("csmkit-studio")

    @property
    def takes(self) -> list[Take]:
        """What was spoken so far."""
        return self.booth.takes

    def close(self) -> None:
        """Stop, take the widget away and let the models go."""
        self.booth.close()
        self.widget.close()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    def _press_speak(self) -> None:
        self._sound.value = ""
        with self._told():
            order = self.controls.order()
            self._buttons(busy=True)
            self.booth.speak(order)

    def _play(self, take: Take) -> None:
        with self._told():
            self.booth.play(take)
            self._stand_in(take.trial.audio)

    def _keep(self, take: Take) -> None:
        with self._told():
            self._say(f"kept as {keep(take, self._folder)}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors that csmkit raises on purpose are shown, and go no further: a click has no caller."""
        try:
            yield
        except CsmkitError as error:
            self._say(" ".join(str(error).split()), error=True)

    def _show(self, progress: Progress) -> None:
        """Bring everything up to date; called in the booth's thread."""
        figures = describe(progress.arrivals)
        if progress.error:
            self._say(progress.error, error=True)
        else:
            self._say(" · ".join(filter(None, [figures, PHASES.get(progress.phase, "")])))
        if progress.phase in ("loading", "speaking", "measuring") or progress.take is not None:
            self._latency.value = latency_svg(progress.arrivals)
            self._heard.value = _text_heard(progress.heard, progress.final)
        if progress.take is not None:
            self._history.add(progress.take)
            self._stand_in(progress.take.trial.audio)
        self._buttons(progress.busy)

    def _stand_in(self, audio: np.ndarray) -> None:
        """Show a plain control where the player has no front end."""
        absent = not self.player.widget.answered.is_set()
        self._sound.value = f"<div>{escape(NO_ANSWER)}</div>{audio_html(audio)}" if absent else ""

    def _say(self, line: str, *, error: bool = False) -> None:
        colour = "var(--jp-error-color1, #c62828)" if error else "var(--jp-ui-font-color2, #616161)"
        kind = ' role="alert"' if error else ""
        self._status.value = f'<span style="color:{colour}"{kind}>{escape(line)}</span>' if line else ""

    def _buttons(self, busy: bool) -> None:
        self._speak.disabled, self._stop.disabled = busy, not busy


def _text_heard(text: str, final: bool) -> str:
    """The recogniser's text; in italics as long as it may change."""
    if not text:
        return ""
    tag = "span" if final else "em"
    said = "heard" if final else "hearing"
    return f"<{tag}>{said}: “{escape(text)}”</{tag}>"


def _button(text: str, icon: str, style: str, press: Callable[[], object]) -> ipywidgets.Button:
    button = ipywidgets.Button(description=text, icon=icon, button_style=style, layout={"width": "90px"})
    button.add_class(f"csmkit-studio-{text.lower()}")
    button.on_click(lambda _: press())
    return button
