"""Text files as people have them: with a byte-order mark, and with names in any encoding."""

import csv
import io
import os
import unicodedata
from pathlib import Path

from numbacnn._checks import brief
from numbacnn.data.files import reject_pipe
from numbacnn.errors import DataError

MAX_TEXT = 1 << 30  # bytes; the annotations of COCO have 450 MB
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class FileTooLargeError(DataError):
    """A file is larger than what is read, so that what it holds is unknown."""


def decode(content: bytes) -> str:
    """Decode UTF-8, with a byte-order mark or without, or UTF-16 with one. Raises UnicodeDecodeError."""
    return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")


def read_bytes(file: Path, maximum: int = MAX_TEXT) -> bytes:
    """Read a file. Raises FileTooLargeError if it is larger than ``maximum`` bytes, DataError if it is a pipe."""
    reject_pipe(file)
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(size + 1) if size <= maximum else b""  # read allocates as much as it may return
        if len(content) > size:  # the file grows, or has no size, as those in /proc
            content += stream.read(maximum + 1 - len(content))
    if max(size, len(content)) > maximum:
        raise FileTooLargeError(
            f"{file}: {max(size, len(content)):,} bytes; at most {maximum:,} are read: split or shorten it"
        )
    return content


def read_text(file: Path, maximum: int = MAX_TEXT) -> str:
    """Read a text file. Raises DataError as ``read_bytes`` does, or if it is not text in UTF-8."""
    try:
        return decode(read_bytes(file, maximum))
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not text in UTF-8 ({brief(error)}); save it as UTF-8") from None


def read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """Read a CSV file, separated by commas, semicolons or tabs: (line number, stripped cells), without empty lines."""
    text = read_text(file)
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{file}: not a CSV file in UTF-8 ({brief(error)})") from None


def readable(name: str) -> str:
    """Return a file name as one line of text: composed (NFC), and read as Latin-1 if it is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        name = name.encode("utf-8", "surrogateescape").decode("latin-1")
    return "".join(letter if letter.isprintable() else " " for letter in unicodedata.normalize("NFC", name))
