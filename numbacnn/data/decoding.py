"""Opening image files of unknown origin: what decoding will need is bounded before it begins."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief, path_of
from numbacnn.data.files import reject_pipe
from numbacnn.data.jpeg import needs
from numbacnn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

Number = TypeVar("Number", np.uint8, np.int64)
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # no others: some of Pillow's readers start programs
MAX_PIXELS = 1 << 24
"""Of a decoded image: three copies of four bytes each stay below 256 MiB."""
_MAX_WEBP = 3 << 22  # pixels; its decoder has three copies of its own
_MAX_SIDE = 65_535  # pixels; Pillow has a pointer for each row
_MAX_COEFFICIENTS = 128 << 20  # bytes of a JPEG's coefficients
_MAX_VISITS = 64 << 20  # of a JPEG's blocks, four nanoseconds each
_MAX_TILE = 64 << 20  # bytes of a TIFF's tile, of which a small image may have a large one
_BAND = 1 << 20  # pixels


class _Quiet:
    """A context without Pillow's warnings, in any number of threads; decompression bombs raise."""

    def __init__(self) -> None:
        self._lock, self._entered = threading.Lock(), 0

    def __enter__(self) -> None:
        from PIL import Image

        with self._lock:
            self._entered += 1
            if self._entered == 1:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()


@contextmanager
def decoding(source: str | os.PathLike[str] | IO[bytes]) -> Iterator["Image"]:
    """Open an image file, or one that is open.

    Whatever Pillow raises in the block, including decompression bombs, becomes a DataError.
    """
    from PIL import Image, UnidentifiedImageError

    path = path_of(source, "image") if isinstance(source, str | os.PathLike) else "the image"
    if isinstance(path, Path):
        reject_pipe(path)
    try:
        with _quiet, Image.open(source, formats=_FORMATS) as image:
            _limit(image)
            yield image
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: too large to decode safely; scale it down ({error})") from error
    except Exception as error:  # Pillow's decoders raise almost anything for damaged files
        raise DataError(f"{path}: not a readable image ({brief(error)})") from error


def bands(image: "Image") -> Iterator["Image"]:
    """Yield the image in pieces of a few rows, from the top: arrays of the whole would need much memory."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def stacked(image: "Image", dtype: type[Number]) -> NDArray[Number]:
    """Return the numbers of an image, rounded, as an array (height, width) or (height, width, channels)."""
    channels = len(image.getbands())
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
    found = np.empty(shape, dtype)
    row = 0
    for band in bands(image):
        pixels = np.asarray(band)
        found[row : row + band.height] = np.rint(pixels) if pixels.dtype.kind == "f" else pixels
        row += band.height
    return found


def _limit(image: "Image") -> None:
    """Decode a large JPEG at half its size or less; raise DataError if the image would still need too much memory."""
    width, height = image.size
    if max(width, height) > _MAX_SIDE:
        raise DataError(f"{height}×{width} is too large to decode safely, a side above {_MAX_SIDE:,}; crop it")
    if image.format in ("JPEG", "MPO"):
        _limit_jpeg(image)
    if image.format == "TIFF":
        _limit_tile(image.tag_v2)  # type: ignore[attr-defined]
    maximum = _MAX_WEBP if image.format == "WEBP" else MAX_PIXELS
    if image.width * image.height > maximum:
        raise DataError(f"{height}×{width} is too large to decode safely, above {maximum:,} pixels; scale it down")


def _limit_jpeg(image: "Image") -> None:
    """Choose the size to decode a JPEG in. Raises DataError if that would take long or much memory at any size."""
    file, (width, height) = image.fp, image.size  # type: ignore[attr-defined]
    position = file.tell()
    file.seek(0)
    found = needs(file)
    file.seek(position)
    if found.coefficients > _MAX_COEFFICIENTS or found.visits > _MAX_VISITS:
        raise DataError(
            f"{height}×{width} in {found.visits:,} blocks of all scans is too large to decode safely; "
            "scale it down, or save it as a JPEG that is not progressive"
        )
    halvings = next((k for k in range(4) if (width >> k) * (height >> k) <= MAX_PIXELS), 0)
    if halvings and found.is_scalable:
        image.draft(None, (width >> halvings, height >> halvings))


def _limit_tile(tags: "ImageFileDirectory_v2") -> None:
    """Raise DataError if a TIFF has tiles of too many bytes."""
    width, length = tags.get(322, 0), tags.get(323, 0)
    tile = width * length * sum(tags.get(258, (8,))) // 8
    if tile > _MAX_TILE:
        raise DataError(f"its tiles of {length}×{width} pixels are too large to decode safely; save it in strips")
