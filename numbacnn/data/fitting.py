"""The placement of an image of one size in another: stretched, cropped at the center, or letterboxed."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import choose

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
Mask = NDArray[np.uint8 | np.int64]

FITS = ("stretch", "crop", "letterbox")
"""Ways to give images one size: change their aspect ratio, cut off what exceeds it, or fill the rest with black."""


class Placement(NamedTuple):
    """The position of an image of size ``old`` in one of size ``new``: scaled to ``inner``, at ``offset``.

    All are (height, width) or (row, column); the offset is negative if the image is cropped.
    """

    old: Size
    new: Size
    inner: Size
    offset: Size

    @classmethod
    def of(cls, old: Size, new: Size, fit: str = "stretch") -> "Placement":
        """Return the placement for one of ``FITS``. Raises ArgumentError if it is unknown."""
        choose("fit", fit, dict.fromkeys(FITS))
        inner = new
        if fit != "stretch":
            factors = new[0] / old[0], new[1] / old[1]
            factor = max(factors) if fit == "crop" else min(factors)
            inner = max(1, round(factor * old[0])), max(1, round(factor * old[1]))
        return cls(old, new, inner, ((new[0] - inner[0]) // 2, (new[1] - inner[1]) // 2))

    def image(self, image: "Image") -> "Image":
        """Scale and crop or letterbox an image of Pillow's."""
        from PIL import Image

        if self.inner == self.new == self.old:
            return image
        if min(self.offset) >= 0:
            scaled = image.resize(self.inner[::-1], Image.Resampling.BILINEAR)
            if self.inner == self.new:
                return scaled
            canvas = Image.new(image.mode, self.new[::-1])
            canvas.paste(scaled, self.offset[::-1])
            return canvas
        starts = [-offset * old / inner for offset, old, inner in zip(self.offset, self.old, self.inner, strict=True)]
        sides = [new * old / inner for new, old, inner in zip(self.new, self.old, self.inner, strict=True)]
        ends = [min(start + side, old) for start, side, old in zip(starts, sides, self.old, strict=True)]
        box = starts[1], starts[0], ends[1], ends[0]
        return image.resize(self.new[::-1], Image.Resampling.BILINEAR, box=box)

    def mask(self, mask: Mask) -> Mask:
        """Transform a mask (old), or its colors (old, 3), by nearest neighbor; zeros surround a letterboxed one."""
        rows, columns = (
            np.floor((np.arange(new) + 0.5 - offset) * (old / inner)).astype(int)
            for old, new, inner, offset in zip(*self, strict=True)
        )
        inside = ((rows >= 0) & (rows < self.old[0]))[:, None] & (columns >= 0) & (columns < self.old[1])
        found = mask[rows.clip(0, self.old[0] - 1)[:, None], columns.clip(0, self.old[1] - 1)]
        found[~inside] = 0
        return np.asarray(found)

    def restored_mask(self, mask: Mask) -> Mask:
        """Return a mask (new) in the size of the image; where that was cut off, with the nearest class."""
        rows, columns = (
            np.floor((np.arange(old) + 0.5) * (inner / old) + offset).astype(int).clip(0, new - 1)
            for old, new, inner, offset in zip(*self, strict=True)
        )
        return np.asarray(mask[rows[:, None], columns])

    def boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform boxes (k, 4) of edges x0, y0, x1, y1, clipped at the border; boxes outside have no area."""
        scale, shift = self._scale_and_shift()
        return np.clip(boxes * scale + shift, 0, [self.new[1], self.new[0]] * 2)

    def restored_boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return boxes (k, 4) in pixels of the image, cut off at its border."""
        scale, shift = self._scale_and_shift()
        return np.clip((boxes - shift) / scale, 0, [self.old[1], self.old[0]] * 2)

    def _scale_and_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scale = self.inner[1] / self.old[1], self.inner[0] / self.old[0]
        return np.array(scale * 2), np.array([self.offset[1], self.offset[0]] * 2, np.float64)
