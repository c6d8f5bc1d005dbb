"""Memory for the images of a data set: an array, or a file on disk that is mapped into memory."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import choose, format_shape
from numbacnn.errors import DataError

CACHES = ("auto", "memory", "disk")
"""Stores for decoded images; "auto" is the disk if they would take more than a third of the available memory."""
_SHARE = 3
_LIMITS = "/sys/fs/cgroup/memory.max"


def empty_images(shape: tuple[int, ...], cache: str = "auto") -> NDArray[np.uint8]:
    """Return an uninitialized array of bytes; on disk, in a file of the user's cache folder that is deleted at the end.

    Raises:
        ArgumentError: ``cache`` is not one of ``CACHES``.
        DataError: there is not enough memory, or room on the disk.
    """
    choose("cache", cache, dict.fromkeys(CACHES))
    size = int(np.prod(shape, dtype=np.int64))
    try:
        if cache == "disk" or (cache == "auto" and size * _SHARE > available_memory()):
            return _mapped(shape, size)
        return np.empty(shape, np.uint8)
    except (MemoryError, OSError) as error:
        images = f"{shape[0]:,} images of {format_shape(shape[1:])}"
        where = "on the disk" if isinstance(error, OSError) else "in memory"
        raise DataError(
            f"{images} do not fit {where} ({size / 2**30:,.1f} GiB); choose a smaller size, or another --cache"
        ) from None


def like(images: NDArray[Any], count: int) -> NDArray[Any]:
    """Return an uninitialized array of ``count`` images like these, in the same store."""
    shape = (count, *images.shape[1:])
    return _mapped(shape, count * images[0].nbytes) if is_on_disk(images) else np.empty(shape, images.dtype)


def is_on_disk(images: NDArray[Any]) -> bool:
    """Return whether an array is a view of a mapped file."""
    base: object = images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


def available_memory() -> int:
    """Return the bytes of memory that this process may take: those free, within the limit of its container."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 33
    for file, key in (("/proc/meminfo", "MemAvailable:"), (_LIMITS, "")):
        try:
            words = next(line for line in Path(file).read_text().splitlines() if line.startswith(key)).split()
            free = min(free, int(words[-2]) * 1024 if key else int(words[0]))
        except (OSError, StopIteration, ValueError, IndexError):
            continue  # another system, or no limit
    return free


def _mapped(shape: tuple[int, ...], size: int) -> NDArray[np.uint8]:
    from platformdirs import user_cache_path

    folder = user_cache_path("numbacnn", appauthor=False) / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
        return np.memmap(file, np.uint8, "r+", shape=shape)
