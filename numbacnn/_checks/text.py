"""Text for streams whose encoding lacks some of its characters, such as a Windows console's cp1252, or ASCII."""

import codecs
import sys

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
    """Return text with substitutes for the characters that standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, HANDLER).decode(encoding)
