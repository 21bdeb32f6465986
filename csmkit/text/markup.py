"""Turns a language model's output into plain text: removes markdown, HTML, the paths of addresses and emoji."""

from __future__ import annotations

import html
import re
import unicodedata

_FENCE = re.compile(r"^[ \t]*`{3}[^`\n]*$", re.MULTILINE)  # with the name of its language
_RULE = re.compile(r"^[\s|:*_-]*(?:-{3}|\*{3}|_{3})[\s|:*_-]*$", re.MULTILINE)
_TAG = re.compile(r"</?[a-zA-Z][\w-]*(?:\s[^<>]*)?/?>")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
_ADDRESS = re.compile(
    r"(?:https?://(?:www\.)?|www\.)([\w-]+(?:\.[\w-]+)*)(?::\d+)?(?:[/?#]\S*?)?(?=[.,;:!?)\]>\"'*]*(?:\s|$))"
)
_LINE_MARK = re.compile(r"^\s*(?:#{1,6}|[-*+•>])\s+(?:\[[ xX]\]\s+)?", re.MULTILINE)
_NUMBERED = re.compile(r"^(\s*\d+)\)\s+", re.MULTILINE)
_PRODUCT = re.compile(r"(?<=\d)\s?\*\s?(?=\d)")
_EMPHASIS = re.compile(r"[*`|]+|~{2,}|(?<!\w)_+|_+(?!\w)")
_SMILEY = re.compile(r"(?<!\S)(?:[:;=][-o^']?[()DPp/|\\]|<3)(?![\w(])")
_UNSPOKEN = ("So", "Sk", "Cc", "Cf", "Cs", "Co", "Cn")  # symbols such as emoji, joiners, unassigned codes
_SPOKEN_SYMBOLS = "°^№"


def speakable(text: str) -> str:
    """Remove markup, smileys and emoji, keep only the host of an address, and join the lines.

    Empty if no letter and no digit is left.
    """
    plain = html.unescape(_TAG.sub(" ", _RULE.sub("", _FENCE.sub("", text))))
    plain = _ADDRESS.sub(r"\1", _LINK.sub(r"\1", plain))
    plain = _NUMBERED.sub(r"\1. ", _LINE_MARK.sub("", plain))
    plain = _EMPHASIS.sub("", _PRODUCT.sub(" × ", _SMILEY.sub("", plain)))
    plain = " ".join("".join(letter for letter in plain if _has_sound(letter)).split())
    return plain if any(letter.isalnum() for letter in plain) else ""


def _has_sound(letter: str) -> bool:
    return letter.isspace() or letter in _SPOKEN_SYMBOLS or unicodedata.category(letter) not in _UNSPOKEN
