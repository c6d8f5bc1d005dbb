"""Writing files so that a reader never meets half of one, whatever stops the writer: a full disk, a kill."""

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replacing(path: Path, keep_as: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its name when the block succeeds and disappears when it fails.

    The content is on the disk before the name is, and the name before this returns. ``keep_as`` is the new name of
    what lay at ``path`` before, where something did; until the last step it has one of the two names.

    Raises:
        OSError: the file cannot be created, written, synchronised or renamed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with io.BufferedWriter(_File(temporary)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep_as is not None:
            with suppress(FileNotFoundError):
                os.replace(path, keep_as)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # there is none, or ``remove_leftovers`` will try again
            os.unlink(temporary)


def remove_leftovers(path: Path) -> None:
    """Removes the temporary files that processes killed while they wrote ``path`` have left; those in use, too."""
    for leftover in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 8}.part"):
        with suppress(OSError):
            os.unlink(leftover)


class _File(io.RawIOBase):
    """A new file to write to. All system calls of a save are calls of ``os`` here, so that tests can let each fail."""

    def __init__(self, path: Path) -> None:
        binary: int = getattr(os, "O_BINARY", 0)  # on Windows
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, 0o666)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, content: Any) -> int:
        return os.write(self._descriptor, content)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _sync_folder(folder: Path) -> None:
    """Writes a folder's names to the disk, where the system can do that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems do it by themselves
            raise
    finally:
        os.close(descriptor)
