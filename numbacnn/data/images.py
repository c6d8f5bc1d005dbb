"""Image files as arrays."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief
from numbacnn.data.depth import DEEP_MODES, INTEGER_MODES, Levels, to_bytes
from numbacnn.data.files import replacing
from numbacnn.data.fitting import Mask, Placement
from numbacnn.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image


class MaskFile(NamedTuple):
    """The pixels of a mask: numbers (height, width), or colors (height, width, 3); a palette is (colors, 3).

    mode and format: Pillow's names.
    """

    pixels: Mask
    mode: str
    format: str
    palette: NDArray[np.uint8] | None


SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Suffixes of image files in folders, in lower case."""
_GRAY = ("1", "L", "LA", "La", *DEEP_MODES)
_INDEXED = ("1", "L", "P", *INTEGER_MODES)
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # no others: some of Pillow's readers start programs
_MAX_PIXELS = 1 << 24  # decoded; four copies of four bytes each stay below 256 MiB
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_INVISIBLE = 32  # mean distance from white of opaque pixels, of 255, that white paper hides


def read_image(
    path: str | os.PathLike[str],
    height: int,
    width: int,
    channels: int,
    *,
    white: float | None = None,
    fit: str = "stretch",
) -> tuple[NDArray[np.uint8], str | None]:
    """Read an image file as gray (1 channel) or RGB (3): upright, opaque, in 8 bits, scaled to the size.

    Transparent images are put on white, or on black if white hides them.

    Args:
        path: the file.
        height, width, channels: shape of the result.
        white: the number that is white in gray images of more than 8 bits, by default the largest of the 8, 10, 12, 14
            or 16 bits that the image uses, or 1.
        fit: one of ``fitting.FITS``, for images of another aspect ratio.

    Returns:
        The image, (height, width, channels) uint8, and a remark if it was scaled, otherwise None.

    Raises:
        ArgumentError: ``channels`` is neither 1 nor 3, or ``fit`` is unknown.
        DataError: the file is missing, not an image, damaged, or too large to decode safely, or its numbers are of no
            known scale.
    """
    if channels not in (1, 3):
        raise ArgumentError(f"read_image: {channels} channels; image files are read as gray (1) or RGB (3)")
    with _decoding(Path(path)) as source:
        image = _opaque(_shallow(_upright(source), white)).convert("L" if channels == 1 else "RGB")
        placement = Placement.of((image.height, image.width), (height, width), fit)
        note = None
        if placement.old != placement.new:
            note = f"{path}: scaled from {image.height}×{image.width} to {height}×{width}"
        return np.array(placement.image(image)).reshape(height, width, channels), note


def read_mask(path: str | os.PathLike[str]) -> Mask:
    """Read the numbers in an image file, (height, width).

    Gray levels of 1 or 8 bits and palette indices are uint8, gray levels of 16 bits are int64.

    Raises:
        DataError: the file is missing, damaged or too large, or holds colors.
    """
    with _decoding(Path(path)) as source:
        if source.mode not in _INDEXED:
            raise DataError(f"a mask is gray or has a palette; this file has mode {source.mode}")
        return np.array(_upright(source)).astype(np.int64 if source.mode in INTEGER_MODES else np.uint8)


def read_mask_file(path: str | os.PathLike[str]) -> MaskFile:
    """Read a mask in any encoding. Raises DataError if the file is missing, damaged or too large."""
    with _decoding(Path(path)) as source:
        image_format, image = str(source.format), _upright(source)
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3) if image.mode == "P" else None
        if image.mode in (*_INDEXED, *DEEP_MODES):
            pixels = np.rint(np.array(image)).astype(np.int64 if image.mode in DEEP_MODES else np.uint8)
            if pixels.size and not 0 <= pixels.min() <= pixels.max() < 1 << 16:
                raise DataError(f"a mask holds numbers from 0 to 65535, not from {pixels.min()} to {pixels.max()}")
            return MaskFile(pixels, image.mode, image_format, palette)
        return MaskFile(np.array(image.convert("RGB")), "RGB", image_format, None)


def resize_nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize a mask (H, W) or (H, W, C) to another height and width by nearest neighbor."""
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
        for new, old in zip(size, mask.shape[:2], strict=True)
    )
    return np.asarray(mask[rows[:, None], columns])


def write_mask(path: str | os.PathLike[str], mask: Mask, palette: NDArray[np.uint8]) -> None:
    """Write a mask (H, W) of classes below 256 as a PNG file with a palette (classes, 3), atomically."""
    from PIL import Image

    image = Image.fromarray(mask.astype(np.uint8), "L")
    image.putpalette(palette.reshape(-1).tolist())
    with replacing(Path(path)) as file:
        image.save(file, "PNG")


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write an image (H, W, 3) in the format of the file's suffix, atomically.

    Raises:
        ArgumentError: the suffix is unknown.
    """
    from PIL import Image

    Image.init()
    suffix = Path(path).suffix.lower()
    if Image.EXTENSION.get(suffix) not in Image.SAVE:
        raise ArgumentError(f"{path}: choose a file name that ends in .png or .jpg")
    with replacing(Path(path)) as file:
        Image.fromarray(image).save(file, Image.EXTENSION[suffix])


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file, upright. Raises DataError like ``read_image``."""
    with _decoding(path) as source:
        width, height = _upright(source).size
        return height, width


def image_mode(path: Path) -> str:
    """Return Pillow's mode of an image file, from its header. Raises DataError like ``read_image``."""
    with _decoding(path) as source:
        return source.mode


def is_gray(mode: str) -> bool:
    """Return whether images of a mode are gray."""
    return mode in _GRAY


def image_levels(path: Path) -> Levels:
    """Return the extreme numbers of a gray image of more than 8 bits. Raises DataError like ``read_image``."""
    with _decoding(path) as source:
        return Levels.of(np.asarray(source))


def has_bright_border(image: NDArray[np.generic]) -> bool:
    """Return whether an 8-bit image (H, W, C) is gray and the median of its border pixels is above 127."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return image.shape[2] == 1 and bool(np.median(border) > 127)


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
def _decoding(path: Path) -> Iterator["Image"]:
    """Open an image. Whatever Pillow raises in the block, including decompression bombs, becomes a DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet, Image.open(path, formats=_FORMATS) as image:
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


def _limit(image: "Image") -> None:
    """Decode a large JPEG at half its size or less; raise DataError if the image would still need too much memory."""
    width, height = image.size
    halvings = next((k for k in range(4) if (width >> k) * (height >> k) <= _MAX_PIXELS), 0)
    if halvings:
        image.draft(None, (width >> halvings, height >> halvings))  # has no effect in other formats
    if image.width * image.height > _MAX_PIXELS:
        raise DataError(f"{height}×{width} is too large to decode safely, above {_MAX_PIXELS:,} pixels; scale it down")


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    return image


def _shallow(image: "Image", white: float | None) -> "Image":
    """Reduce a gray image of more than 8 bits to 8, which Pillow's conversion would clip."""
    from PIL import Image

    if image.mode not in DEEP_MODES:
        return image
    pixels = np.asarray(image)
    return Image.fromarray(to_bytes(pixels, Levels.of(pixels).white if white is None else white))


def _opaque(image: "Image") -> "Image":
    """Put a transparent image on white, or on black if its opaque pixels are nearly white."""
    from PIL import Image

    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    opacity = np.asarray(image.getchannel("A"), np.float64)
    distance = 255.0 - np.asarray(image.convert("RGB").convert("L"))
    is_hidden = (opacity < 255).any() and (opacity * distance).sum() < _INVISIBLE * opacity.sum()
    paper = Image.new("RGBA", image.size, "black" if is_hidden else "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")
