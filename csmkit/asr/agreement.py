"""LocalAgreement-2: a word is committed once two successive hypotheses agree on it.

The policy is that of Liu et al., "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial
Hypothesis Selection" (Interspeech 2020), as Macháček et al. use it for Whisper (IJCNLP-AACL 2023).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from csmkit.asr.transcriber import Word

HOLD_BACK_S = 0.2  # sound that must follow a word before it is committed: the last word may be incomplete
_TAIL_WORDS = 12  # committed words compared with a new hypothesis: the cost does not grow with the text
_NOT_IN_WORDS = re.compile(r"[^\w']+")


def normalise(word: str) -> str:
    """Lower case without punctuation, so that "Hello," and "hello" agree."""
    return _NOT_IN_WORDS.sub("", word.lower())


def match_prefix(reference: Sequence[str], words: Sequence[str]) -> tuple[int, int]:
    """Find the prefix of ``words`` that is closest to ``reference`` in edit distance.

    Returns:
        The length of that prefix, and the distance in words. Of equally close prefixes, the one whose length is
        nearest to the reference's.
    """
    row = list(range(len(words) + 1))
    for n_done, expected in enumerate(reference, start=1):
        above, row[0] = row[0], n_done
        for column, word in enumerate(words, start=1):
            substituted = above + (word != expected)
            above = row[column]
            row[column] = min(substituted, above + 1, row[column - 1] + 1)
    length = min(range(len(row)), key=lambda column: (row[column], abs(column - len(reference))))
    return length, row[length]


class Agreement:
    """Committed words, which never change, and the tentative words after them."""

    def __init__(self) -> None:
        self.committed: list[Word] = []
        self.tentative: tuple[Word, ...] = ()
        self._n_settled = 0  # number of committed words before the present window

    def update(self, words: Sequence[Word], audio_s: float) -> None:
        """Compare a hypothesis with the previous one, and commit the words that they share.

        Args:
            words: recognised words of the present window, with times counted from the first sample of the utterance.
            audio_s: end of the decoded sound, in seconds from the first sample of the utterance.
        """
        fresh = tuple(words[self._seam(words) :])
        n_agreed = 0
        for old, new in zip(self.tentative, fresh, strict=False):
            if normalise(old.text) != normalise(new.text) or new.end_s > audio_s - HOLD_BACK_S:
                break
            n_agreed += 1
        self.committed.extend(fresh[:n_agreed])
        self.tentative = fresh[n_agreed:]

    def cut(self) -> float | None:
        """Begin a new window after the last committed word; return its end in seconds, or None without such a word."""
        if len(self.committed) == self._n_settled:
            return None
        self._n_settled = len(self.committed)
        return self.committed[-1].end_s

    def skip(self) -> None:
        """Begin a new window although nothing new is committed; the tentative words are dropped."""
        self._n_settled = len(self.committed)
        self.tentative = ()

    def _seam(self, words: Sequence[Word]) -> int:
        """Number of words of a hypothesis that repeat the committed words of this window, perhaps revised."""
        known = [normalise(word.text) for word in self.committed[self._n_settled :]]
        n_skipped = max(0, len(known) - _TAIL_WORDS)
        length, _ = match_prefix(known[n_skipped:], [normalise(word.text) for word in words[n_skipped:]])
        return n_skipped + length
