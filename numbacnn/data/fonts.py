"""A font that has the characters of class names, for pictures: Pillow's own, or one that is installed."""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    *(f"{os.environ.get('WINDIR', 'C:/Windows')}/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts"),
    f"{sys.prefix}/share/fonts",
)
"""Folders that are searched for fonts."""
SUFFIXES = (".ttf", ".otf", ".ttc")
_PLACEHOLDERS = "lastresort"  # has a sign of its script for every character
_ABSENT = "\U0010fffe"  # no character: drawn as a font draws those that it lacks
PROBE = 24  # pixels; of the characters that are drawn to see whether a font has them


def font(texts: Iterable[str], size: int) -> "FreeTypeFont | ImageFont":
    """Return Pillow's own font, or the installed one that has the most characters of ``texts`` which that lacks."""
    from PIL import ImageFont

    file = font_file(_distinct(texts))
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(str(file), size)


def missing_characters(texts: Iterable[str]) -> str:
    """Return the characters of ``texts`` for which ``font`` finds no font, sorted."""
    return lacking(font(texts, PROBE), _distinct(texts))


def note_on_fonts(missing: str) -> str:
    """Return a line that says which characters no font has, and what to do."""
    shown = missing[:10] + ("…" if len(missing) > 10 else "")
    return f"no installed font has the characters {shown} of class names; install one, such as Noto Sans CJK"


@lru_cache(maxsize=64)
def font_file(characters: str) -> Path | None:
    """Return the file of the installed font that has the most of these characters; None for Pillow's own font."""
    from PIL import ImageFont

    best, fewest = None, len(lacking(ImageFont.load_default(PROBE), characters))
    for file in _files():
        if not fewest:
            break
        try:
            missing = len(lacking(ImageFont.truetype(str(file), PROBE), characters))
        except OSError:  # not a font that Pillow reads
            continue
        if missing < fewest:
            best, fewest = file, missing
    return best


def lacking(face: "FreeTypeFont | ImageFont", characters: str) -> str:
    """Return the characters that a font does not have."""
    absent = _drawn(face, _ABSENT)
    return "".join(each for each in characters if not each.isspace() and _drawn(face, each) == absent)


def _drawn(face: "FreeTypeFont | ImageFont", character: str) -> tuple[bytes, tuple[int, int]]:
    try:
        mask = face.getmask(character)
    except UnicodeEncodeError:  # Pillow's bitmap font, without FreeType
        return b"", (0, 0)
    return bytes(mask), mask.size


def _distinct(texts: Iterable[str]) -> str:
    return "".join(sorted(set("".join(texts))))


def _files() -> Iterator[Path]:
    """Iterate over installed fonts, regular ones first, so that the same machine gives the same pictures."""
    files = [file for folder in FOLDERS for file in Path(folder).expanduser().rglob("*")]
    found = [file for file in files if file.suffix.lower() in SUFFIXES]
    found = [file for file in found if not file.stem.lower().startswith(_PLACEHOLDERS)]
    return iter(sorted(found, key=lambda file: (len(file.stem), str(file))))
