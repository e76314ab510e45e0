"""Tokens to text, piece by piece: never half a character, never part of a stop string.

Pure. What has been handed out is final: pieces joined are the text, whatever the piece sizes.
"""

from collections.abc import Callable, Sequence

UNDECODED = "\ufffd"  # what a decoder puts where bytes are no (or not yet a) character
WINDOW_TOKENS = 16  # decoded again with each token
CONTEXT_TOKENS = 4  # kept in front: some tokenizers drop a space at the start of a text
BROKEN_TOKENS_MAX = 64  # longer runs that end in no character are handed out as they are


class Detokenizer:
    """Hands out characters as soon as all their bytes are there."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._given = 0  # characters of the window's text that are out

    def add(self, token: int) -> str:
        """The new characters, maybe none."""
        self._window.append(token)
        text = self._decode(self._window)
        is_whole = not text.endswith(UNDECODED) or len(self._window) > BROKEN_TOKENS_MAX
        # Of an unfinished text only the last character may still change: an incomplete sequence
        # decodes to one replacement character, and earlier ones are final.
        piece = self._give(text if is_whole else text[:-1])
        if is_whole and len(self._window) > WINDOW_TOKENS:
            self._window = self._window[-CONTEXT_TOKENS:]
            self._given = len(self._decode(self._window))
        return piece

    def flush(self) -> str:
        """What is left at the end, even if it is no character."""
        return self._give(self._decode(self._window)) if self._window else ""

    def _give(self, text: str) -> str:
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece


class StopStrings:
    """Cuts a text before the stop string that is complete first; of two, the longer one."""

    def __init__(self, stops: Sequence[str]) -> None:
        assert all(stops), "an empty stop string would stop everything"
        self._stops = tuple(stops)
        self._held = ""
        self.is_stopped = False

    def add(self, piece: str) -> str:
        """What may go out; what could be the start of a stop string is held back."""
        if self.is_stopped:
            return ""
        text = self._held + piece
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stops]
        complete = [(end, start) for end, start in found if start >= 0]
        if complete:
            self.is_stopped = True
            self._held = ""
            return text[: min(complete)[1]]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back in vain."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` that begin `stop`, at most all but its last."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
