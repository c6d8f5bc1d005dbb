"""Writing files atomically: a reader never sees half a file, whatever stops the writer, a full disk or a kill."""

import errno
import glob
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def replacing(path: Path, keep_as: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file next to ``path`` that replaces it if the block succeeds and is deleted if it fails.

    The content is on the disk before the file is renamed, and the new name before this returns. If ``keep_as`` is
    given, a file that is at ``path`` already gets that name; at every moment it has one of the two.

    Raises:
        OSError: the file cannot be created, written, synchronized or renamed.
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
        with suppress(OSError):  # it has been renamed, or ``remove_leftovers`` will try again
            os.unlink(temporary)


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with replacing(path) as file:
        file.write(content)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of processes that were killed while writing ``path``, and of those writing it now."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        with suppress(OSError):
            os.unlink(leftover)


class _File(io.RawIOBase):
    """A new file, open for writing. A save makes all its system calls as ``os.…`` here, so that tests can fail each."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1  # ``close`` runs even if opening fails
        binary: int = getattr(os, "O_BINARY", 0)  # on Windows
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, 0o666)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, content: "ReadableBuffer") -> int:
        return os.write(self._descriptor, content)

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._descriptor >= 0:
                os.close(self._descriptor)


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries to the disk, on systems that can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems need no call
            raise
    finally:
        os.close(descriptor)
