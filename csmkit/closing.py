"""Objects that a ``with`` block closes at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Base of what holds a thread, a file or a model until it is closed; also usable in a ``with`` block."""

    @abstractmethod
    def close(self) -> None:
        """Release what it holds; may be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
