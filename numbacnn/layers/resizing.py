"""Images of any size from images of another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from numbacnn._checks import number, one_of, pair, shown
from numbacnn.errors import ArgumentError
from numbacnn.geometry import ResizeGeometry, Shape, image_shape
from numbacnn.layers.base import Layer
from numbacnn.layers.bindings import Bindings, Kernels

MODES = ("nearest", "bilinear")
COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric", "align_corners")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(eq=False)
class Resize2D(Layer):
    """Images resized to ``size``, one integer or (height, width), larger or smaller.

    Input (h, w, c), output (*size, c). ``mode`` "nearest" copies the nearest pixel, "bilinear" interpolates between the
    four nearest, without a filter against aliasing. ``coordinates`` gives the position of an output in the input, in
    the words of ONNX's Resize: "half_pixel" aligns the corners of the outermost pixels, which are squares (PyTorch's
    ``align_corners=False``), "align_corners" their centers, and "asymmetric" the first pixels. ``scale`` is the factor
    (height, width) between input and output, by default the quotient of the sizes. ``rounding`` selects the nearest
    pixel: "floor" or "ceil", or "round_prefer_floor" or "round_prefer_ceil", which differ halfway between two.
    ``region``, only with "align_corners", is the part to resize: (top, left, bottom, right) as fractions of the
    distance between the outermost centers. It may reach beyond the image, where the pixels of its edge are
    repeated. Raises ArgumentError for arguments out of range.
    """

    op: ClassVar[str] = "resize2d"
    per_image: ClassVar[bool] = True

    size: int | tuple[int, int]
    mode: str = "bilinear"
    coordinates: str = "half_pixel"
    scale: tuple[float, float] | None = None
    rounding: str = "round_prefer_floor"
    region: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        self.size = pair(self.size, "size")
        one_of(self.mode, "mode", MODES)
        one_of(self.coordinates, "coordinates", COORDINATES)
        one_of(self.rounding, "rounding", ROUNDINGS)
        if self.scale is not None:
            if isinstance(self.scale, str) or not hasattr(self.scale, "__len__") or len(self.scale) != 2:
                raise ArgumentError(f"scale={shown(self.scale)}: give the factors of height and width")
            height, width = (number(factor, "a factor of scale", 0) for factor in self.scale)
            self.scale = height, width
            if not min(self.scale) > 0:
                raise ArgumentError(f"scale={shown(self.scale)}: give positive factors")
        if self.region is not None:
            self.region = _checked_region(self.region)
            if self.coordinates != "align_corners":
                raise ArgumentError(f'region needs coordinates="align_corners", not "{self.coordinates}"')

    def geometry(self, shapes: Sequence[Shape]) -> ResizeGeometry:
        """Return the sizes of both axes, and how positions follow from outputs."""
        h, w, c = image_shape(shapes[0])
        p, q = pair(self.size, "size")
        height, width = self.scale or (p / h, q / w)
        top, left, bottom, right = self.region or (0.0, 0.0, 1.0, 1.0)
        rows, columns = self._axis(h, p, height, top, bottom), self._axis(w, q, width, left, right)
        up = self.rounding in ("ceil", "round_prefer_floor")
        (a, d), (b, e), (k, m), (i, j) = zip(rows, columns, strict=True)
        return ResizeGeometry(h, w, c, p, q, a, d, b, e, k, m, i, j, self.mode == "bilinear", up)

    def _axis(
        self, size: int, outputs: int, scale: float, start: float, end: float
    ) -> tuple[float, float, float, float]:
        """Return numerator, denominator, offset and shift of ``geometry.ResizeAxis``."""
        numerator, denominator, offset, shift = 1.0, scale, 0.0, 0.0
        if self.coordinates == "align_corners":
            numerator, denominator = float(size - 1 if outputs > 1 else 0), float(max(1, outputs - 1))
            if self.region is not None:  # one output is in its center
                numerator *= end - start
                shift = (size - 1) * (start if outputs > 1 else (start + end) / 2)
        elif self.coordinates == "pytorch_half_pixel" and outputs == 1:
            numerator, denominator = 0.0, 1.0
        elif self.coordinates != "asymmetric":
            offset, shift = 0.5, -0.5
        if self.coordinates == "half_pixel_symmetric":  # the center stays where it is if the scale is not exact
            shift += size / 2 * (1 - outputs / (scale * size))
        if self.mode == "nearest" and self.rounding.startswith("round"):
            shift += -0.5 if self.rounding == "round_prefer_floor" else 0.5
        return numerator, denominator, offset, shift

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (*size, c)."""
        height, width = pair(self.size, "size")
        return height, width, image_shape(shapes[0])[2]

    def flops(self, geometry: ResizeGeometry, output_shape: Shape) -> int:
        """Count four products and three sums per element for "bilinear", none for "nearest"."""
        return 7 * math.prod(output_shape) if self.mode == "bilinear" else 0

    def forward(self, kernels: Kernels, t: Bindings, g: ResizeGeometry) -> None:
        """Compute y, the resized x."""
        (kernels.resize_linear_forward if self.mode == "bilinear" else kernels.resize_nearest_forward)(t.y, t.x, g)

    def backward(self, kernels: Kernels, t: Bindings, g: ResizeGeometry) -> None:
        """Sum dy over the outputs that each pixel contributes to."""
        kernels.resize_gradient(t.dx, t.dy, g)


def _checked_region(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if isinstance(region, str) or not hasattr(region, "__len__") or len(region) != 4:
        raise ArgumentError(f"region={shown(region)}: give top, left, bottom and right as fractions")
    top, left, bottom, right = (number(edge, "an edge of region", -1e6, 1e6) for edge in region)
    if top > bottom or left > right:
        raise ArgumentError(f"region={shown(region)}: top and left must be at most bottom and right")
    return top, left, bottom, right
