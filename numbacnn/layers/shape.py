"""Layers that change the shape or size of an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from numbacnn._checks import one_of, pair, shown, whole
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.geometry import Halo, Padding, Shape, UpSampleGeometry, freeze_padding, image_shape, padding_halo
from numbacnn.layers.base import Layer
from numbacnn.layers.bindings import Array, Bindings, Kernels


@dataclass(eq=False)
class _Reshaped(Layer):
    """The same elements in another shape: the same memory, unless there is a halo between the rows."""

    is_view: ClassVar[bool] = True
    per_image: ClassVar[bool] = True

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Copy x to y, if they cannot share memory."""
        kernels.copy_reshaped(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Copy dy to dx."""
        kernels.copy_reshaped(t.dx, t.dy)


@dataclass(eq=False)
class Flatten(_Reshaped):
    """(h, w, c) as (h·w·c,) features, channels fastest."""

    op: ClassVar[str] = "flatten"

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (h·w·c,)."""
        return (math.prod(shapes[0]),)


def _size_or_rest(size: object, name: str) -> int:
    return -1 if whole(size, name, -1) == -1 else whole(size, name)


@dataclass(eq=False)
class Reshape(_Reshaped):
    """The elements of an image, in their order (channels fastest), as ``shape``: (h, w, c) or (features,).

    One size may be −1 and is computed from the others. Raises ArgumentError for other shapes, GeometryError if the
    input has a different number of elements.
    """

    op: ClassVar[str] = "reshape"

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        given = self.shape if isinstance(self.shape, Sequence) else (self.shape,)
        self.shape = tuple(_size_or_rest(size, f"a size of shape {shown(given)}") for size in given)
        if len(self.shape) not in (1, 3) or self.shape.count(-1) > 1:
            raise ArgumentError(
                f"shape={shown(given)}: pass (height, width, channels) or (features,), with at most one -1"
            )

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return ``shape`` with its −1 replaced."""
        count = math.prod(shapes[0])
        rest = count // math.prod(size for size in self.shape if size != -1)
        shape = tuple(rest if size == -1 else size for size in self.shape)
        if math.prod(shape) != count:
            raise GeometryError(f"input {shapes[0]} has {count} elements, which do not fill {self.shape}")
        return shape


@dataclass(eq=False)
class ZeroPad2D(Layer):
    """Zeros around an image. ``padding`` is an integer, (height, width) or ((top, bottom), (left, right)).

    Input (h, w, c), output (h + top + bottom, w + left + right, c). Convolutions have their own padding, which needs no
    copy.
    """

    op: ClassVar[str] = "zero_pad2d"
    per_image: ClassVar[bool] = True

    padding: Padding = 1

    def __post_init__(self) -> None:
        if isinstance(self.padding, str):
            raise ArgumentError(
                f"padding={shown(self.padding)}: pass an integer, (height, width) or ((top, bottom), (left, right))"
            )
        self.padding = freeze_padding(self.padding)

    def geometry(self, shapes: Sequence[Shape]) -> Halo:
        """Return the number of zeros on each side."""
        image_shape(shapes[0])
        return padding_halo(self.padding)

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (h + top + bottom, w + left + right, c)."""
        g = self.geometry(shapes)
        h, w, c = image_shape(shapes[0])
        return h + g.top + g.bottom, w + g.left + g.right, c

    def forward(self, kernels: Kernels, t: Bindings, g: Halo) -> None:
        """Copy x to the inside of y, and clear the rest."""
        kernels.copy(_inside(t.y, g), t.x)
        kernels.clear_halo(t.y, g)

    def backward(self, kernels: Kernels, t: Bindings, g: Halo) -> None:
        """Copy the inside of dy."""
        kernels.copy(t.dx, _inside(t.dy, g))


def _inside(images: Array, halo: Halo) -> Array:
    return images[:, halo.top : images.shape[1] - halo.bottom, halo.left : images.shape[2] - halo.right]


@dataclass(eq=False)
class Slice(Layer):
    """Rows, columns and channels of an image, each from a first one to before an end, (0, 3) for the first three.

    Input (h, w, c), output (rows, columns, channels). None takes all. Raises ArgumentError for an empty range,
    GeometryError if the image is smaller.
    """

    op: ClassVar[str] = "slice"
    per_image: ClassVar[bool] = True

    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None
    channels: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "channels"):
            given = getattr(self, name)
            if given is None:
                continue
            first, end = pair(given, name, 0)
            if first >= end:
                raise ArgumentError(f"{name}={shown(given)}: pass (first, end), the first below the end")
            setattr(self, name, (first, end))

    def geometry(self, shapes: Sequence[Shape]) -> tuple[tuple[int, int], ...]:
        """Return (first, end) of rows, columns and channels."""
        ranges = []
        for name, size in zip(("rows", "columns", "channels"), image_shape(shapes[0]), strict=True):
            first, end = getattr(self, name) or (0, size)
            if end > size:
                raise GeometryError(f"{name} {first} to {end} of an image with {size}")
            ranges.append((first, end))
        return tuple(ranges)

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (rows, columns, channels)."""
        return tuple(end - first for first, end in self.geometry(shapes))

    def forward(self, kernels: Kernels, t: Bindings, g: tuple[tuple[int, int], ...]) -> None:
        """Copy a part of x."""
        kernels.copy_channels(t.y, _part(t.x, g))

    def backward(self, kernels: Kernels, t: Bindings, g: tuple[tuple[int, int], ...]) -> None:
        """Copy dy to that part of dx, and clear the rest."""
        if t.dx is not None:
            kernels.clear_halo(t.dx, Halo(top=t.dx.shape[1]))
            kernels.copy_channels(_part(t.dx, g), t.dy)


def _part(images: Array, ranges: tuple[tuple[int, int], ...]) -> Array:
    return images[:, *(slice(first, end) for first, end in ranges)]


@dataclass(eq=False)
class Upsample2D(Layer):
    """Images enlarged by integer factors: one integer, or (height, width).

    ``mode`` "nearest" repeats pixels; "bilinear" interpolates between the four nearest, where pixels are squares whose
    corners are aligned (PyTorch's ``align_corners=False``). Input (h, w, c), output (h·factor, w·factor, c).
    """

    op: ClassVar[str] = "upsample2d"
    per_image: ClassVar[bool] = True

    factor: int | tuple[int, int] = 2
    mode: str = "nearest"

    def __post_init__(self) -> None:
        self.factor = pair(self.factor, "factor")
        one_of(self.mode, "mode", ("nearest", "bilinear"))

    def geometry(self, shapes: Sequence[Shape]) -> UpSampleGeometry:
        """Return sizes and factors."""
        h, w, c = image_shape(shapes[0])
        factor_h, factor_w = pair(self.factor, "factor")
        return UpSampleGeometry(h, w, c, h * factor_h, w * factor_w, factor_h, factor_w)

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (h·factor, w·factor, c)."""
        g = self.geometry(shapes)
        return g.p, g.q, g.c

    def flops(self, geometry: UpSampleGeometry, output_shape: Shape) -> int:
        """Count four products and three sums per element for "bilinear", none for "nearest"."""
        return 7 * math.prod(output_shape) if self.mode == "bilinear" else 0

    def forward(self, kernels: Kernels, t: Bindings, g: UpSampleGeometry) -> None:
        """Compute y, the enlarged x."""
        getattr(kernels, f"up_sample_{self.mode}_forward")(t.y, t.x, g)

    def backward(self, kernels: Kernels, t: Bindings, g: UpSampleGeometry) -> None:
        """Sum dy over the outputs that each pixel contributes to."""
        getattr(kernels, f"up_sample_{self.mode}_gradient")(t.dx, t.dy, g)
