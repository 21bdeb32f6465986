"""The items of a conversation: the user's messages and the answers."""

from __future__ import annotations

from typing import Any

from csmkit.serve.errors import RequestError, invalid

LONGEST_ID = 64  # characters


class Items:
    """The items, oldest first, by their ids.

    Args:
        most: number of items that a conversation may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: dict[str, dict[str, Any]] = {}

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    def add(self, item: dict[str, Any]) -> str | None:
        """Add an item at the end; returns the id of the previous one, None for the first.

        Raises:
            RequestError: the id is taken, or there are too many items.
        """
        if item["id"] in self._items:
            raise invalid("an item of that id is there already: leave the id out", "item.id")
        if len(self._items) >= self._most:
            raise RequestError(422, "the conversation is full: open another one", "too_many_items")
        before = next(reversed(self._items), None)
        self._items[item["id"]] = item
        return before

    def update(self, item: dict[str, Any]) -> None:
        """Replace the item with the same id; a deleted item stays deleted."""
        if item["id"] in self._items:
            self._items[item["id"]] = item

    def get(self, item_id: object) -> dict[str, Any]:
        """The item of an id; raises RequestError if there is none."""
        if not isinstance(item_id, str) or item_id not in self._items:
            raise RequestError(404, "no item of that id in this conversation", "item_not_found", "item_id")
        return self._items[item_id]

    def delete(self, item_id: str) -> None:
        """Remove an item."""
        del self._items[item_id]


def spoken_item(item_id: str, transcript: str | None) -> dict[str, Any]:
    """Make the item of a spoken message; ``transcript`` is None until it is recognised."""
    status = "in_progress" if transcript is None else "completed"
    return message(item_id, "user", status, [{"type": "input_audio", "transcript": transcript}])


def written_item(item_id: str, text: str) -> dict[str, Any]:
    """Make the item of a written message."""
    return message(item_id, "user", "completed", [{"type": "input_text", "text": text}])


def message(item_id: str, role: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the item of a message."""
    kind = {"object": "realtime.item", "type": "message"}
    return {"id": item_id, **kind, "status": status, "role": role, "content": content}


def user_text(item: object, max_chars: int) -> tuple[str, str | None]:
    """Read the text of a user's message and the id that the client gave it; raises RequestError for other items."""
    allowed = 'give {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ...}]}'
    if not isinstance(item, dict) or item.get("type") != "message" or item.get("role") != "user":
        raise invalid(f"item: {allowed}", "item")
    parts = item.get("content")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise invalid(f"item.content: {allowed}", "item.content")
    if not all(part.get("type") == "input_text" and isinstance(part.get("text"), str) for part in parts):
        raise invalid("item.content: text alone; append sound to the buffer instead", "item.content")
    text = " ".join(part["text"] for part in parts).strip()
    if not 1 <= len(text) <= max_chars:
        raise invalid(f"item.content of {len(text)} characters: give 1 to {max_chars}", "item.content")
    item_id = item.get("id")
    if item_id is not None and not (isinstance(item_id, str) and 1 <= len(item_id) <= LONGEST_ID):
        raise invalid(f"item.id: give up to {LONGEST_ID} characters, or leave it out", "item.id")
    return text, item_id
