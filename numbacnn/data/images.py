"""Image files as arrays."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief
from numbacnn.data.files import replacing
from numbacnn.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY_16 = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_GREY = ("1", "L", "LA", "La", *_GREY_16)
_INDEXED = ("1", "L", "P", *_GREY_16)
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # no others: some of Pillow's readers start programs
_MOST_PIXELS = 1 << 24  # decoded; four copies of four bytes each stay below 256 MiB
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def read_image(
    path: str | os.PathLike[str], height: int, width: int, channels: int
) -> tuple[NDArray[np.uint8], str | None]:
    """Read an image file as grey (1 channel) or RGB (3): upright, without transparency (on white), scaled to the size.

    Returns:
        The image, (height, width, channels) uint8, and a line that says so if it had another size, else None.

    Raises:
        ArgumentError: ``channels`` is neither 1 nor 3.
        DataError: the file is missing, no image, damaged, or too large to decode safely.
    """
    if channels not in (1, 3):
        raise ArgumentError(f"read_image: {channels} channels; image files are read as grey (1) or RGB (3)")
    from PIL.Image import Resampling

    with _decoding(Path(path)) as source:
        image = _opaque(_upright(source)).convert("L" if channels == 1 else "RGB")
        note = None
        if image.size != (width, height):
            note = f"{path}: scaled from {image.height}×{image.width} to {height}×{width}"
            image = image.resize((width, height), Resampling.BILINEAR)
        return np.array(image).reshape(height, width, channels), note


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.uint8 | np.int64]:
    """Read an image file's numbers as they are, (height, width): grey levels of 1 or 8 bits or a palette's as uint8,
    of 16 bits as int64.

    Raises DataError where the file is missing, damaged, too large, or holds colours.
    """
    with _decoding(Path(path)) as source:
        if source.mode not in _INDEXED:
            raise DataError(f"a mask is grey or has a palette, a number for each pixel; this file is {source.mode}")
        return np.array(_upright(source)).astype(np.int64 if source.mode in _GREY_16 else np.uint8)


def resize_nearest(mask: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A mask (H, W) at another height and width, each of its pixels being the one under its middle."""
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return np.asarray(mask[rows[:, None], columns])


def write_mask(path: str | os.PathLike[str], mask: NDArray[np.uint8 | np.int64], palette: NDArray[np.uint8]) -> None:
    """Write classes (H, W), below 256, to a PNG file with a palette (classes, 3), whole or not at all."""
    from PIL import Image

    image = Image.fromarray(mask.astype(np.uint8), "L")
    image.putpalette(palette.reshape(-1).tolist())
    with replacing(Path(path)) as file:
        image.save(file, "PNG")


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write an image (H, W, 3) uint8 to a file, whole or not at all; its suffix says in which format.

    Raises:
        ArgumentError: the suffix is that of no format.
    """
    from PIL import Image

    Image.init()
    suffix = Path(path).suffix.lower()
    if Image.EXTENSION.get(suffix) not in Image.SAVE:
        raise ArgumentError(f"{path}: a picture's name ends in .png, .jpg or the like")
    with replacing(Path(path)) as file:
        Image.fromarray(image).save(file, Image.EXTENSION[suffix])


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, upright. Raises DataError as ``read_image`` does."""
    with _decoding(path) as source:
        width, height = _upright(source).size
        return height, width


def is_grey(path: Path) -> bool:
    """Whether an image file holds no colour, by its header alone. Raises DataError as ``read_image`` does."""
    with _decoding(path) as source:
        return source.mode in _GREY


def match_polarity(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn a dark digit on white paper into MNIST's polarity, bright on dark, told by the median of the border pixels.

    Args:
        image: (H, W, C) uint8; returned as it is when it has the polarity already, or more than one channel.
    """
    if image.shape[2] != 1:
        return image
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return 255 - image if np.median(border) > 127 else image


@contextmanager
def _decoding(path: Path) -> Iterator["Image"]:
    """Open an image; whatever Pillow raises in the block, a decompression bomb included, becomes a DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                _bound(image)
                yield image
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: too large to decode safely; scale it down ({error})") from error
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        raise DataError(f"{path}: not a readable image ({brief(error)})") from error


def _bound(image: "Image") -> None:
    """DataError where an image would decode to more memory than it should get; large JPEGs decode to a half or less."""
    width, height = image.size
    halvings = next((k for k in range(4) if (width >> k) * (height >> k) <= _MOST_PIXELS), 0)
    if halvings:
        image.draft(None, (width >> halvings, height >> halvings))  # does nothing where the format cannot
    if image.width * image.height > _MOST_PIXELS:
        raise DataError(f"{height}×{width} is too large to decode safely, above {_MOST_PIXELS:,} pixels; scale it down")


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    return image


def _opaque(image: "Image") -> "Image":
    """Lay the image on white, and bring 16-bit grey to 8 bits, which Pillow's own conversion would clip."""
    from PIL import Image

    if image.mode in _GREY_16:
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper.convert("RGB")
