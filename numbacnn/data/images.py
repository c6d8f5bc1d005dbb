"""Image files as arrays."""

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import pair, path_of, shown
from numbacnn._checks.names import checks_call
from numbacnn.data.decoding import bands, decoding, stacked
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
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_INVISIBLE = 32  # mean distance from white of opaque pixels, of 255, that white paper hides


@checks_call
def read_image(
    path: str | os.PathLike[str] | IO[bytes],
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
        path: the file, or an open one.
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
    pixels, placement = read_placed(path, height, width, channels, white=white, fit=fit)
    note = None
    if placement.old != placement.new:
        (old_height, old_width), name = placement.old, path if isinstance(path, str | os.PathLike) else "the image"
        note = f"{name}: scaled from {old_height}×{old_width} to {height}×{width}"
    return pixels, note


def read_placed(
    path: str | os.PathLike[str] | IO[bytes],
    height: int,
    width: int,
    channels: int,
    *,
    white: float | None = None,
    fit: str = "stretch",
) -> tuple[NDArray[np.uint8], Placement]:
    """Read an image file as ``read_image`` does; return the image, and where the pixels of the file are in it."""
    if not isinstance(channels, int | np.integer) or channels not in (1, 3):
        raise ArgumentError(f"read_image: {shown(channels)} channels; image files are read as gray (1) or RGB (3)")
    with decoding(path) as source:
        mode, image = "L" if channels == 1 else "RGB", _opaque(_shallow(_upright(source), white))
        image = image if image.mode == mode else image.convert(mode)
        placement = Placement.of((image.height, image.width), (height, width), fit)
        return stacked(placement.image(image), np.uint8).reshape(height, width, channels), placement


@checks_call
def read_mask(path: str | os.PathLike[str]) -> Mask:
    """Read the numbers in an image file, (height, width).

    Gray levels of 1 or 8 bits and palette indices are uint8, gray levels of 16 bits are int64.

    Raises:
        DataError: the file is missing, damaged or too large, or holds colors.
    """
    with decoding(path_of(path, "read_mask")) as source:
        if source.mode not in _INDEXED:
            raise DataError(f"a mask is gray or has a palette; this file has mode {source.mode}")
        image = _upright(source)
        return stacked(image, np.int64) if image.mode in INTEGER_MODES else stacked(image, np.uint8)


def read_mask_file(path: str | os.PathLike[str]) -> MaskFile:
    """Read a mask in any encoding. Raises DataError if the file is missing, damaged or too large."""
    with decoding(Path(path)) as source:
        image_format, image = str(source.format), _upright(source)
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3) if image.mode == "P" else None
        if image.mode in (*_INDEXED, *DEEP_MODES):
            pixels = stacked(image, np.int64) if image.mode in DEEP_MODES else stacked(image, np.uint8)
            if pixels.size and not 0 <= pixels.min() <= pixels.max() < 1 << 16:
                raise DataError(f"a mask holds numbers from 0 to 65535, not from {pixels.min()} to {pixels.max()}")
            return MaskFile(pixels, image.mode, image_format, palette)
        colors = image if image.mode == "RGB" else image.convert("RGB")
        return MaskFile(stacked(colors, np.uint8), "RGB", image_format, None)


@checks_call
def resize_nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize a mask (H, W) or (H, W, C) to another height and width by nearest neighbor.

    Raises:
        ArgumentError: the mask is not an array of this rank with pixels, or the size is not two whole numbers.
    """
    if not isinstance(mask, np.ndarray) or mask.ndim not in (2, 3) or not mask.size:
        raise ArgumentError(f"resize_nearest: {shown(mask)} is not an array (H, W) or (H, W, C)")
    size = pair(size, "size")
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
        for new, old in zip(size, mask.shape[:2], strict=True)
    )
    return np.asarray(mask[rows[:, None], columns])


@checks_call
def write_mask(path: str | os.PathLike[str], mask: Mask, palette: NDArray[np.uint8]) -> None:
    """Write a mask (H, W) of classes below 256 as a PNG file with a palette (classes, 3), atomically.

    Raises:
        ArgumentError: the mask or the palette is not such an array.
    """
    from PIL import Image

    file = path_of(path, "write_mask", "pass the path, then the mask")
    if not (_holds_integers(mask) and mask.ndim == 2):
        raise ArgumentError(f"write_mask: {shown(mask)} is not a mask (H, W) of whole numbers")
    if not (_holds_integers(palette) and palette.shape[1:] == (3,)):
        raise ArgumentError(f"write_mask: {shown(palette)} is not a palette (classes, 3) of whole numbers")
    image = Image.fromarray(mask.astype(np.uint8), "L")
    image.putpalette(palette.reshape(-1).tolist())
    with replacing(file) as out:
        image.save(out, "PNG")


def _holds_integers(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "biu" and array.size > 0


@checks_call
def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write an image (H, W, 3), or a gray one (H, W, 1) or (H, W), in the format of the file's suffix, atomically.

    Raises:
        ArgumentError: the suffix is unknown, or the image is not one.
    """
    from PIL import Image

    file = path_of(path, "write_image", "pass the path, then the image")
    shape = image.shape if isinstance(image, np.ndarray) and image.dtype == np.uint8 else ()
    gray = len(shape) == 2 or shape[2:] == (1,)
    if not (gray or shape[2:] == (3,)):
        raise ArgumentError(f"write_image: {shown(image)} is not an image (H, W, 3) or (H, W, 1) of uint8")
    image = image.reshape(image.shape[:2]) if gray else image

    Image.init()
    suffix = file.suffix.lower()
    if Image.EXTENSION.get(suffix) not in Image.SAVE:
        raise ArgumentError(f"{path}: choose a file name that ends in .png or .jpg")
    with replacing(file) as out:
        Image.fromarray(image).save(out, Image.EXTENSION[suffix])


@checks_call
def image_size(path: Path | IO[bytes]) -> tuple[int, int]:
    """Return height and width of an image file, or an open one, upright. Raises DataError like ``read_image``."""
    with decoding(path) as source:
        width, height = _upright(source).size
        return height, width


def image_mode(path: Path) -> str:
    """Return Pillow's mode of an image file, from its header. Raises DataError like ``read_image``."""
    with decoding(path) as source:
        return source.mode


def is_gray(mode: str) -> bool:
    """Return whether images of a mode are gray."""
    return mode in _GRAY


def image_levels(path: Path) -> Levels:
    """Return the extreme numbers of a gray image of more than 8 bits. Raises DataError like ``read_image``."""
    with decoding(path) as source:
        return _levels(source)


@checks_call
def has_bright_border(image: NDArray[np.generic]) -> bool:
    """Return whether an 8-bit image (H, W, C) is gray and the median of its border pixels is above 127.

    Raises ArgumentError if it is not an image.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or not image.size or image.dtype.kind not in "biuf":
        raise ArgumentError(f"has_bright_border: {shown(image)} is not an image (H, W, C)")
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return image.shape[2] == 1 and bool(np.median(border) > 127)


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    return image


def _levels(image: "Image") -> Levels:
    return Levels.union(Levels.of(np.asarray(band)) for band in bands(image))


def _shallow(image: "Image", white: float | None) -> "Image":
    """Reduce a gray image of more than 8 bits to 8, which Pillow's conversion would clip."""
    from PIL import Image

    if image.mode not in DEEP_MODES:
        return image
    white = _levels(image).white if white is None else white
    return Image.fromarray(np.concatenate([to_bytes(np.asarray(band), white) for band in bands(image)]))


def _opaque(image: "Image") -> "Image":
    """Put a transparent image on white, or on black if its opaque pixels are nearly white."""
    from PIL import Image

    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image
    color = "black" if _is_hidden_by_white(image) else "white"
    opaque, row = Image.new("RGB", image.size), 0
    for band in bands(image):
        paper = Image.new("RGBA", band.size, color)
        paper.alpha_composite(band.convert("RGBA"))
        opaque.paste(paper.convert("RGB"), (0, row))
        row += band.height
    return opaque


def _is_hidden_by_white(image: "Image") -> bool:
    """Return whether an image is partly transparent and its opaque pixels are nearly white."""
    is_transparent, opacity_sum, distance_sum = False, 0, 0
    for band in bands(image):
        colors = band.convert("RGBA")
        opacity = np.asarray(colors.getchannel("A"))
        distance = 255 - np.asarray(colors.convert("RGB").convert("L"))
        is_transparent |= bool(opacity.min() < 255)
        opacity_sum += int(opacity.sum(dtype=np.int64))
        distance_sum += int((opacity * distance.astype(np.uint16)).sum(dtype=np.int64))
    return is_transparent and distance_sum < _INVISIBLE * opacity_sum
