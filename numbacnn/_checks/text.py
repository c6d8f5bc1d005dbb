"""Text for the streams of a process: what an encoding lacks, what would control a terminal, and what cannot be written.

An encoding may lack some characters, such as a Windows console's cp1252, or ASCII.
"""

import codecs
import sys
from contextlib import suppress
from typing import Any, TextIO

from numbacnn.errors import escaped

SUBSTITUTES = {"×": "x", "−": "-", "─": "-", "·": "*", "→": "->", "…": "...", "²": "^2", "≥": ">=", "≤": "<=", "–": "-"}
HANDLER = "numbacnn.substitutes"
"""Error handler of ``str.encode``: a similar character that the encoding has, or a question mark."""


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(SUBSTITUTES.get(character, "?") for character in missing), error.end


codecs.register_error(HANDLER, _substitute)


def for_output(text: str) -> str:
    """Return escaped text with substitutes for the characters that standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return escaped(text, keep_lines=True).encode(encoding, HANDLER).decode(encoding)


class BestEffort:
    """A stream for messages: what cannot be written, to a full disk or a closed pipe, is dropped.

    ``stream`` may be None, as ``sys.stderr`` is without a console.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self._stream is not None:
            with suppress(OSError, ValueError):  # ValueError: the stream is closed
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is an open terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def __getattr__(self, name: str) -> Any:  # encoding, fileno, reconfigure … of the stream
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._stream, name)


def messages() -> BestEffort:
    """Return standard error as it is now, for messages without which the work continues."""
    stream = sys.stderr
    return stream if isinstance(stream, BestEffort) else BestEffort(stream)
