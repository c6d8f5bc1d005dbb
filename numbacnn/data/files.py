"""Writing files atomically: a reader never sees half a file, whatever stops the writer, a full disk or a kill."""

import errno
import glob
import io
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from numbacnn.errors import DataError

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
    temporary = _temporary(path)
    try:
        with io.BufferedWriter(_File(temporary)) as file:
            yield file
            file.flush()
            _sync(file.fileno())
        if keep_as is not None:
            with suppress(FileNotFoundError):
                _replace(path, keep_as)
        _replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # it has been renamed, or ``remove_leftovers`` will try again
            os.unlink(temporary)


def reject_pipe(path: Path) -> None:
    """Raise DataError if a path is a pipe or a device, which may make a reader wait forever."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # opening it raises an error that says more
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path}: a pipe or a device; give a file")


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with replacing(path) as file:
        file.write(content)


def create_file(path: Path, content: bytes) -> None:
    """Write a new file: it exists with its whole content, or not at all. Raises FileExistsError if there is one."""
    temporary = _temporary(path)
    try:
        with io.BufferedWriter(_File(temporary)) as file:
            file.write(content)
            file.flush()
            _sync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            _replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def make_folders(path: Path, exist_ok: bool = True) -> None:
    """Make a folder and those above it that are missing, each on the disk before this returns.

    Raises FileExistsError if the folder exists, unless ``exist_ok``.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=exist_ok)
    for folder in missing:
        _sync_folder(folder.parent)


def remove_leftovers(path: Path, age: float = 0.0) -> None:
    """Delete the temporary files of processes that were killed while writing ``path``, and of those writing it now.

    With ``age``, only those that nobody has written to for as many seconds.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        with suppress(OSError):
            if not age or time.time() - leftover.stat().st_mtime > age:
                os.unlink(leftover)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


class _File(io.RawIOBase):
    """A new file, open for writing. A save makes all its system calls as ``os.…`` here, so that tests can fail each."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1  # ``close`` runs even if opening fails
        binary: int = getattr(os, "O_BINARY", 0)  # on Windows
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, 0o666)
        except FileNotFoundError:  # not of the temporary file, whose name nobody knows
            raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent)) from None

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


def _sync(descriptor: int) -> None:
    """Write a file's content to the disk; on macOS, where fsync stops at the disk's cache, as far as Apple advises."""
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # some file systems cannot
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _replace(source: Path, target: Path) -> None:
    """Rename a file. Windows does not while another process reads the target, which is tried for a second there."""
    for _ in range(10 if os.name == "nt" else 0):
        try:
            os.replace(source, target)
        except PermissionError:
            time.sleep(0.1)
        else:
            return
    os.replace(source, target)


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
