"""Layers that give an image another size or shape."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numbacnn._checks import one_of, pair, whole
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.geometry import Halo, Padding, Shape, UpSampleGeometry, freeze_padding, image_shape
from numbacnn.layers.base import Layer
from numbacnn.layers.bindings import Bindings, Kernels


@dataclass(eq=False)
class _Reshaped(Layer):
    """The same elements in another shape: the same memory, unless a halo lies between the rows."""

    is_view: ClassVar[bool] = True

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Copies, where y cannot be x's memory."""
        kernels.copy_reshaped(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Copies back."""
        kernels.copy_reshaped(t.dx, t.dy)


@dataclass(eq=False)
class Flatten(_Reshaped):
    """(h, w, c) as (h·w·c,) features, channels fastest."""

    op: ClassVar[str] = "flatten"

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """(h·w·c,)."""
        return (math.prod(shapes[0]),)


@dataclass(eq=False)
class Reshape(_Reshaped):
    """The elements of one image in their order (channels fastest) as ``shape``: (h, w, c) or (features,).

    One size may be −1: what is left over. Raises ArgumentError for other shapes, GeometryError where the input does not
    have as many elements.
    """

    op: ClassVar[str] = "reshape"

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        given = self.shape if isinstance(self.shape, Sequence) else (self.shape,)
        self.shape = tuple(size if size == -1 else whole(size, f"a size of shape {given}") for size in given)
        if len(self.shape) not in (1, 3) or self.shape.count(-1) > 1:
            raise ArgumentError(f"shape={given}: give (height, width, channels) or (features,), with at most one -1")

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """``shape``, with its −1 filled in."""
        count = math.prod(shapes[0])
        rest = count // math.prod(size for size in self.shape if size != -1)
        shape = tuple(rest if size == -1 else size for size in self.shape)
        if math.prod(shape) != count:
            raise GeometryError(f"input {shapes[0]} has {count} elements, which do not fill {self.shape}")
        return shape


@dataclass(eq=False)
class ZeroPad2D(Layer):
    """Zeros around an image. ``padding``: an integer, (height, width) or ((top, bottom), (left, right)).

    Input (h, w, c), output (h + top + bottom, w + left + right, c). A convolution pads by itself, without a copy.
    """

    op: ClassVar[str] = "zero_pad2d"

    padding: Padding = 1

    def __post_init__(self) -> None:
        if isinstance(self.padding, str):
            raise ArgumentError(
                f"padding={self.padding!r}: give an integer, (height, width) or ((top, bottom), (left, right))"
            )
        self.padding = freeze_padding(self.padding)

    def geometry(self, shapes: Sequence[Shape]) -> Halo:
        """How many zeros on each side."""
        image_shape(shapes[0])
        p: Any = self.padding
        (top, bottom), (left, right) = ((p, p), (p, p)) if isinstance(p, int) else p
        return Halo(top, bottom, left, right)

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """(h + top + bottom, w + left + right, c)."""
        g = self.geometry(shapes)
        h, w, c = image_shape(shapes[0])
        return h + g.top + g.bottom, w + g.left + g.right, c

    def forward(self, kernels: Kernels, t: Bindings, g: Halo) -> None:
        """x inside, zeros around."""
        kernels.copy(_inside(t.y, g), t.x)
        kernels.clear_halo(t.y, g)

    def backward(self, kernels: Kernels, t: Bindings, g: Halo) -> None:
        """What lies inside."""
        kernels.copy(t.dx, _inside(t.dy, g))


def _inside(images: Any, halo: Halo) -> Any:
    """The view of N×H×W×C images without their outermost rows and columns."""
    return images[:, halo.top : images.shape[1] - halo.bottom, halo.left : images.shape[2] - halo.right]


@dataclass(eq=False)
class Upsample2D(Layer):
    """Images enlarged by whole factors: one integer, or (height, width).

    ``mode`` "nearest" repeats pixels; "bilinear" weighs the four around each place, pixels being squares whose corners
    stay where they are (PyTorch's ``align_corners=False``). Input (h, w, c), output (h·factor, w·factor, c).
    """

    op: ClassVar[str] = "upsample2d"

    factor: int | tuple[int, int] = 2
    mode: str = "nearest"

    def __post_init__(self) -> None:
        self.factor = pair(self.factor, "factor")
        one_of(self.mode, "mode", ("nearest", "bilinear"))

    def geometry(self, shapes: Sequence[Shape]) -> UpSampleGeometry:
        """Sizes and factors."""
        h, w, c = image_shape(shapes[0])
        factor_h, factor_w = pair(self.factor, "factor")
        return UpSampleGeometry(h, w, c, h * factor_h, w * factor_w, factor_h, factor_w)

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """(h·factor, w·factor, c)."""
        g = self.geometry(shapes)
        return g.p, g.q, g.c

    def flops(self, geometry: UpSampleGeometry, output_shape: Shape) -> int:
        """None for "nearest"; for "bilinear" four products and three sums an element."""
        return 7 * math.prod(output_shape) if self.mode == "bilinear" else 0

    def forward(self, kernels: Kernels, t: Bindings, g: UpSampleGeometry) -> None:
        """y from x, larger."""
        getattr(kernels, f"up_sample_{self.mode}_forward")(t.y, t.x, g)

    def backward(self, kernels: Kernels, t: Bindings, g: UpSampleGeometry) -> None:
        """Each pixel gathers from the outputs that it has a share in."""
        getattr(kernels, f"up_sample_{self.mode}_gradient")(t.dx, t.dy, g)
